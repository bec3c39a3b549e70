"""Readers of published checkpoints: pure functions from tensors and constructor arguments to a module."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from continuous_diffusion.unet import UNet

PREFIX = "model.diffusion_model."

_WITHOUT_EFFECT = {"image_size", "use_checkpoint", "use_fp16", "legacy", "dropout"}
_ONLY = {"dims": 2, "conv_resample": True, "num_classes": None, "n_embed": None, "num_heads_upsample": -1}
_READ = {
    "in_channels",
    "out_channels",
    "model_channels",
    "channel_mult",
    "num_res_blocks",
    "attention_resolutions",
    "num_heads",
    "num_head_channels",
    "use_spatial_transformer",
    "context_dim",
    "transformer_depth",
    "resblock_updown",
    "use_scale_shift_norm",
    "use_new_attention_order",
}

_PLACES = {
    "time.hidden": "time_embed.0",
    "time.out": "time_embed.2",
    "stem": "input_blocks.0.0",
    "norm": "out.0",
    "head": "out.2",
}
_PARTS = {
    "norm_in": "in_layers.0",
    "conv_in": "in_layers.2",
    "time": "emb_layers.1",
    "norm_out": "out_layers.0",
    "conv_out": "out_layers.3",
    "skip": "skip_connection",
    "attention.qkv": "qkv",
    "attention.out": "proj_out",
    "project_in": "proj_in",
    "project_out": "proj_out",
}
_TRANSFORMER_PARTS = {
    "norm_self": ["norm1"],
    "norm_cross": ["norm2"],
    "norm_feed": ["norm3"],
    "self_attention.qkv": ["attn1.to_q", "attn1.to_k", "attn1.to_v"],
    "self_attention.out": ["attn1.to_out.0"],
    "cross_attention.query": ["attn2.to_q"],
    "cross_attention.key_value": ["attn2.to_k", "attn2.to_v"],
    "cross_attention.out": ["attn2.to_out.0"],
    "feed_forward.expand": ["ff.net.0.proj"],
    "feed_forward.contract": ["ff.net.2"],
}


def unet_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of our `UNet` for the constructor arguments of CompVis's `UNetModel`.

    Raises ValueError for an argument that is unknown, or known and not supported.
    """
    if unknown := set(config) - _WITHOUT_EFFECT - set(_ONLY) - _READ:
        raise ValueError(f"config: {sorted(unknown)} are not known arguments of UNetModel")
    if refused := [name for name, value in _ONLY.items() if config.get(name, value) != value]:
        raise ValueError(f"config: {refused} supported only as { ({name: _ONLY[name] for name in refused}) }")
    conditional = bool(config.get("use_spatial_transformer", False))
    head_channels = config.get("num_head_channels", -1)
    return {
        "in_channels": config["in_channels"],
        "out_channels": config["out_channels"],
        "channels": config["model_channels"],
        "multipliers": list(config.get("channel_mult", (1, 2, 4, 8))),
        "residual_blocks": config["num_res_blocks"],
        "attention_at": list(config["attention_resolutions"]),
        "heads": config.get("num_heads", -1) if head_channels == -1 else None,
        "head_channels": None if head_channels == -1 else head_channels,
        "condition_width": config["context_dim"] if conditional else None,
        "null_states": 0,
        "transformer_depth": config.get("transformer_depth", 1),
        "resample_by_blocks": config.get("resblock_updown", False),
        "scale_shift": config.get("use_scale_shift_norm", False),
    }


def from_compvis(state_dict: Mapping[str, Tensor], config: Mapping[str, Any]) -> UNet:
    """The U-Net of a latent-diffusion checkpoint, in evaluation mode.

    `config` holds the arguments of `UNetModel` (`unet_config.params` in the published YAML). Of a whole checkpoint the
    part under `model.diffusion_model.` is read; a state dict without that prefix is taken to be the U-Net's own.

    Raises KeyError that names the parameters missing or left over, ValueError for a config or a shape that differs.
    """
    given = {key.removeprefix(PREFIX): value for key, value in state_dict.items() if key.startswith(PREFIX)}
    given = given or dict(state_dict)
    unet = UNet(**unet_arguments(config))
    sources = {name: _sources(name, unet) for name in unet.state_dict()}
    _account_for(given, sources.values())
    new_order = bool(config.get("use_new_attention_order", False))
    placed = {}
    for name, parameter in unet.state_dict().items():
        tensor = torch.cat([given[source] for source in sources[name]])
        if tensor.numel() != parameter.numel() or tensor.shape[0] != parameter.shape[0]:
            raise ValueError(f"{sources[name]}: shape {tuple(tensor.shape)}, config asks for {tuple(parameter.shape)}")
        if ".qkv." in name and len(sources[name]) == 1 and not new_order:
            tensor = _by_projection(tensor, _heads_of(name, unet))
        placed[name] = tensor.reshape(parameter.shape)
    unet.load_state_dict(placed)
    return unet.eval()


def _heads_of(name: str, unet: UNet) -> int:
    heads: int = unet.get_submodule(name.rsplit(".qkv.", 1)[0]).heads  # type: ignore[assignment]
    return heads


def _by_projection(rows: Tensor, heads: int) -> Tensor:
    """Rows ordered [head][q, k, v][channel] as [q, k, v][head][channel]."""
    return rows.reshape(heads, 3, -1, *rows.shape[1:]).transpose(0, 1).flatten(0, 2)


def _account_for(given: Mapping[str, Tensor], sources: Iterable[list[str]]) -> None:
    needed = {key for keys in sources for key in keys}
    if missing := sorted(needed - set(given)):
        raise KeyError(f"the checkpoint lacks {len(missing)} parameters that config asks for: {', '.join(missing[:8])}")
    if left_over := sorted(set(given) - needed):
        raise KeyError(f"the checkpoint has {len(left_over)} parameters with no place: {', '.join(left_over[:8])}")


def _sources(name: str, unet: UNet) -> list[str]:
    """The official names whose tensors, joined along their first axis, are our parameter `name`."""
    module, _, leaf = name.rpartition(".")
    if module in _PLACES:
        return [f"{_PLACES[module]}.{leaf}"]
    side, index, part, inner = module.split(".", 3)
    place = _place(side, int(index), part, unet)
    if inner.startswith("blocks."):
        _, block, inner = inner.split(".", 2)
        return [f"{place}.transformer_blocks.{block}.{one}.{leaf}" for one in _TRANSFORMER_PARTS[inner]]
    if inner == "conv":
        return [f"{place}.{'op' if side == 'down' else 'conv'}.{leaf}"]
    return [f"{place}.{_PARTS.get(inner, inner)}.{leaf}"]


def _place(side: str, index: int, part: str, unet: UNet) -> str:
    """Where the official numbering has this part of this cell."""
    cell = unet.get_submodule(f"{side}.{index}")
    position = [name for name, _ in cell.named_children()].index(part)
    if side == "middle":
        return f"middle_block.{2 * index + position}"
    return f"input_blocks.{index + 1}.{position}" if side == "down" else f"output_blocks.{index}.{position}"
