"""Reading the official VQ-Diffusion checkpoints."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from discrete_diffusion.denoiser import TokenTransformer

_OTHER_MODELS = ("content_codec.", "condition_codec.", "first_stage_model.", "condition_emb.")
_PROCESS = re.compile(r"log_(1_min_)?(cumprod_)?[abc]t|Lt_(history|count)|zero_vector")
_UNUSED = re.compile(r"blocks\.\d+\.attn2\.mask")
_BLOCK_TENSOR = re.compile(r"(blocks\.\d+)\.(.+?)\.((?:emb\.|linear\.|query\.|key\.|value\.|proj\.)?(?:weight|bias))")

_NETWORK = {
    "content_emb.emb.weight": "tokens.weight",
    "content_emb.height_emb.weight": "rows.weight",
    "content_emb.width_emb.weight": "columns.weight",
    "empty_text_embed": "null",
    "to_logits.0": "norm",
    "to_logits.1": "logits",
}
_BLOCK = {
    "ln1": "self_norm",
    "ln1_1": "cross_norm",
    "attn": "self_attention",
    "attn1": "self_attention",
    "attn2": "cross_attention",
    "mlp.0": "feedforward.expand",
    "mlp.2": "feedforward.contract",
    "mlp.conv1": "feedforward.expand",
    "mlp.conv2": "feedforward.contract",
    "ln2": "norm",
}


def from_vq_diffusion(state_dict: Mapping[str, Tensor], config: Mapping[str, Any]) -> TokenTransformer:
    """The denoiser of an official VQ-Diffusion checkpoint: text, class-conditional or unconditional.

    Times are those of this package, 1..T (the official code counts 0..T-1). The file's schedule is `Schedule.released`;
    its tensors, the loss history and the other models in the file (code book, text encoder) are passed over.
    Where the file has no learnable null states the model has none either, and guidance needs the states of an empty
    caption: `Guided(model, scale, null=states)`.

    Args:
        state_dict: the file's `model` or `ema` entry; see `read_vq_diffusion` for whole files.
        config: arguments of `DiffusionTransformer` under their official names, or those of the model around it
            (`diffusion_config`): what stands under `params` in the official YAML.

    Raises:
        KeyError: if the configuration lacks an argument.
        ValueError: if tensors are left over, missing or of the wrong shape, the number of codes or the grid disagrees,
            or the architecture is none of the three.

    Source: VQ-Diffusion denoising transformer
    """
    official = _network(state_dict)
    return assemble(official, _arguments(config, null=official.get("empty_text_embed")))


def assemble(official: Mapping[str, Tensor], arguments: Mapping[str, Any]) -> TokenTransformer:
    """A transformer of these arguments, with tensors under their official names.

    Raises:
        ValueError: if tensors are left over, missing or of the wrong shape, or numbers of codes or positions disagree.
    """
    _agree(official, arguments)
    model = TokenTransformer(**arguments)
    renamed = {_rename(key): value.to(torch.float32) for key, value in official.items()}
    _join(renamed, "self_attention", ("query", "key", "value"))
    _join(renamed, "cross_attention", ("key", "value"))
    if model.null is not None and "null" not in renamed:
        renamed["null"] = model.null.detach()
    _complete(renamed, model.state_dict())
    model.load_state_dict(renamed)
    return model


def _network(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The denoiser's tensors, without prefixes, schedules and other models."""
    network = {}
    for key, value in state_dict.items():
        for prefix in ("module.", "transformer.", "transformer."):
            key = key.removeprefix(prefix)
        if not (key.startswith(_OTHER_MODELS) or _PROCESS.fullmatch(key) or _UNUSED.fullmatch(key)):
            network[key] = value
    return network


def _arguments(config: Mapping[str, Any], *, null: Tensor | None) -> dict[str, Any]:
    """Arguments of `TokenTransformer` for official ones."""
    while "diffusion_config" in config or "params" in config:
        config = config["diffusion_config"] if "diffusion_config" in config else config["params"]
    network, embedding = config["transformer_config"]["params"], config["content_emb_config"]["params"]
    kind, norm, mlp = network["attn_type"], network["timestep_type"], network["mlp_type"]
    _known("attn_type", kind, ("selfcross", "selfcondition", "self"))
    _known("timestep_type", norm, ("adalayernorm", "adalayernorm_abs"))
    _known("mlp_type", mlp, ("fc", "conv_mlp"))
    _known("block_activate", network["block_activate"], ("GELU2",))
    _known("pos_emb_type", embedding.get("pos_emb_type", "embedding"), ("embedding",))
    length = network["content_seq_len"]
    side = round(length**0.5)
    grid = tuple(network.get("content_spatial_size") or (side, side))
    if grid[0] * grid[1] != length:
        raise ValueError(f"config: content_spatial_size {grid} has not the content_seq_len of {length} tokens")
    return {
        "codes": embedding["num_embed"],
        "grid": grid,
        "steps": config["diffusion_step"],
        "width": network["n_embd"],
        "depth": network["n_layer"],
        "heads": network["n_head"],
        "feedforward": network["mlp_hidden_times"],
        "condition_width": network["condition_dim"] if kind == "selfcross" else None,
        "null_length": 0 if null is None else len(null),
        "classes": network["class_number"] if kind == "selfcondition" else None,
        "sinusoidal_time": norm == "adalayernorm_abs",
        "convolutional_feedforward": mlp == "conv_mlp",
        "position_grid": tuple(embedding["spatial_size"]),
    }


def _agree(official: Mapping[str, Tensor], arguments: Mapping[str, Any]) -> None:
    """Whether the file has as many codes and positions as it should."""
    for name, key, expected in (
        ("codes, the mask included", "content_emb.emb.weight", arguments["codes"] + 1),
        ("codes to choose from", "to_logits.1.weight", arguments["codes"]),
        ("rows", "content_emb.height_emb.weight", arguments["position_grid"][0]),
        ("columns", "content_emb.width_emb.weight", arguments["position_grid"][1]),
    ):
        if key in official and len(official[key]) != expected:
            raise ValueError(
                f"config: {expected} {name}, but the checkpoint has {len(official[key])} ({key}); correct the config, "
                "or give the file that belongs to it"
            )


def _known(name: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise ValueError(f"config: {name} = {value!r} is not supported; it must be one of {', '.join(known)}")


def _rename(key: str) -> str:
    """Our name of an official tensor; names that have none come back as they are, and are reported later."""
    for official, ours in _NETWORK.items():
        if key == official or key.startswith(official + "."):
            return ours + key.removeprefix(official)
    match = _BLOCK_TENSOR.fullmatch(key)
    if match is None:
        return key
    block, part, tensor = match.groups()
    if part not in _BLOCK:
        return key
    for official, renamed in (("emb.", "embedding.table."), ("linear.", "modulation."), ("proj.", "project.")):
        tensor = tensor.replace(official, renamed)
    return f"{block}.{_BLOCK[part]}.{tensor}"


def _join(tensors: dict[str, Tensor], attention: str, parts: tuple[str, ...]) -> None:
    """Put the projections of one input below one another, in place."""
    for key in [key for key in tensors if f".{attention}.{parts[-1]}." in key]:
        names = [key.replace(f".{parts[-1]}.", f".{part}.") for part in parts]
        if all(name in tensors for name in names):
            tensors[key.replace(f".{parts[-1]}.", f".{'_'.join(parts)}.")] = torch.cat([tensors.pop(n) for n in names])


def _complete(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    left_over, missing = sorted(tensors.keys() - expected.keys()), sorted(expected.keys() - tensors.keys())
    if left_over or missing:
        raise ValueError(f"state_dict does not fit config: no place for {left_over}, nothing for {missing}")
    for key, value in expected.items():
        if tensors[key].shape != value.shape:
            raise ValueError(
                f"state_dict does not fit config: {key} is {tuple(tensors[key].shape)}, not {tuple(value.shape)}"
            )
