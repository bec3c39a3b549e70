"""Readers of the U-Nets of LDM and of guided-diffusion (ADM)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from continuous_diffusion.checkpoints.files import account_for, filled, without_prefix
from continuous_diffusion.unet import UNet

PREFIX = "model.diffusion_model."

_WITHOUT_EFFECT = {"image_size", "use_checkpoint", "use_fp16", "legacy", "dropout"}
_ONLY = {"dims": 2, "conv_resample": True, "n_embed": None, "num_heads_upsample": -1}
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
    "num_classes",
}
_ADM_LEVELS = {256: (1, 1, 2, 2, 4, 4), 128: (1, 1, 2, 3, 4), 64: (1, 2, 3, 4)}
_ADM_SAME = {
    "num_res_blocks": 2,
    "num_heads": 4,
    "num_head_channels": -1,
    "num_heads_upsample": -1,
    "use_scale_shift_norm": True,
    "resblock_updown": False,
    "use_new_attention_order": False,
}
_ADM_FLAGS = {"image_size", "num_channels", "channel_mult", "learn_sigma", "class_cond", "attention_resolutions"}

_PLACES = {
    "time.hidden": "time_embed.0",
    "time.out": "time_embed.2",
    "stem": "input_blocks.0.0",
    "norm": "out.0",
    "head": "out.2",
    "labels": "label_emb",
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
TRANSFORMER_PARTS = {
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
    """The arguments of our `UNet` for the constructor arguments of the `UNetModel` of LDM or guided-diffusion.

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
        "classes": config.get("num_classes"),
        "null_class": False,
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
    return _read(without_prefix(state_dict, PREFIX), config, unet_arguments(config))


def from_guided_diffusion(state_dict: Mapping[str, Tensor], config: Mapping[str, Any]) -> UNet:
    """A U-Net of guided-diffusion (ADM), in evaluation mode: for images, or for super-resolution by concatenation.

    `config` holds the arguments of its `UNetModel`, or the flags of its scripts (`num_channels`, `class_cond`,
    `learn_sigma`, `attention_resolutions="32,16,8"`, ...). Twice as many channels out as in are a learned variance.

    Raises KeyError that names the parameters missing or left over, ValueError for a config or a shape that differs.
    """
    constructor = _from_flags(config) if "num_channels" in config else dict(config)
    channels = constructor["in_channels"]
    if constructor["channel_mult"][0] != 1:
        raise ValueError(f"config: channel_mult {constructor['channel_mult']} is supported only with 1 at first")
    arguments = unet_arguments(constructor)
    if constructor["out_channels"] == 2 * channels:
        arguments |= {"out_channels": channels, "learned_variance": True}
    stem = state_dict.get("input_blocks.0.0.weight")
    if stem is not None and stem.shape[1] == 2 * channels:
        arguments["in_channels"] = 2 * channels
    return _read(dict(state_dict), constructor, arguments)


def official_names(unet: UNet) -> set[str]:
    """The names in an official U-Net of the parameters of ours."""
    return {source for name in unet.state_dict() for source in _sources(name, unet)}


def _read(given: dict[str, Tensor], config: Mapping[str, Any], arguments: Mapping[str, Any]) -> UNet:
    unet = UNet(**arguments)
    sources = {name: _sources(name, unet) for name in unet.state_dict()}
    account_for(given, official_names(unet))
    if not config.get("use_new_attention_order", False):
        for name, keys in sources.items():
            if ".qkv." in name and len(keys) == 1 and len(given[keys[0]]) == len(unet.get_parameter(name)):
                given[keys[0]] = _by_projection(given[keys[0]], _heads_of(name, unet))
    return filled(unet, given, sources)


def _from_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `UNetModel` for the flags of guided-diffusion's scripts.

    Raises ValueError for a flag that is not the model's.
    """
    if unknown := set(flags) - set(_ADM_SAME) - _ADM_FLAGS - _WITHOUT_EFFECT:
        raise ValueError(f"config: {sorted(unknown)} are not flags of guided-diffusion's model")
    side, multipliers = flags["image_size"], flags.get("channel_mult", "")
    if not multipliers and side not in _ADM_LEVELS:
        raise ValueError(f"config: no channel_mult, and none is known for image_size {side}")
    return {
        "in_channels": 3,
        "out_channels": 6 if flags.get("learn_sigma", False) else 3,
        "model_channels": flags["num_channels"],
        "channel_mult": tuple(int(m) for m in multipliers.split(",")) if multipliers else _ADM_LEVELS[side],
        "attention_resolutions": tuple(side // int(r) for r in flags.get("attention_resolutions", "16,8").split(",")),
        "num_classes": 1000 if flags.get("class_cond", False) else None,
        **{name: flags.get(name, default) for name, default in _ADM_SAME.items()},
    }


def _heads_of(name: str, unet: UNet) -> int:
    heads: int = unet.get_submodule(name.rsplit(".qkv.", 1)[0]).heads  # type: ignore[assignment]
    return heads


def _by_projection(rows: Tensor, heads: int) -> Tensor:
    """Rows ordered [head][q, k, v][channel] as [q, k, v][head][channel]."""
    return rows.reshape(heads, 3, -1, *rows.shape[1:]).transpose(0, 1).flatten(0, 2)


def _sources(name: str, unet: UNet) -> list[str]:
    """The official names whose tensors, joined along their first axis, are our parameter `name`."""
    module, _, leaf = name.rpartition(".")
    if module in _PLACES:
        return [f"{_PLACES[module]}.{leaf}"]
    side, index, part, inner = module.split(".", 3)
    place = _place(side, int(index), part, unet)
    if inner.startswith("blocks."):
        _, block, inner = inner.split(".", 2)
        return [f"{place}.transformer_blocks.{block}.{one}.{leaf}" for one in TRANSFORMER_PARTS[inner]]
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
