"""The U-Nets of diffusers: names and configurations, either way."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from continuous_diffusion.checkpoints.files import filled
from continuous_diffusion.checkpoints.unets import TRANSFORMER_PARTS
from continuous_diffusion.unet import UNet

PLAIN, CONDITIONAL = "UNet2DModel", "UNet2DConditionModel"
VERSION = "0.30.0"
_NEUTRAL = {
    "act_fn": "silu",
    "center_input_sample": False,
    "norm_eps": 1e-5,
    "downsample_padding": 1,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "class_embed_type": None,
    "mid_block_scale_factor": 1,
    "resnet_time_scale_shift": "default",
}
_FIXED = {
    **{name: value for name, value in _NEUTRAL.items() if name != "resnet_time_scale_shift"},
    "time_embedding_type": "positional",
    "add_attention": True,
    "addition_embed_type": None,
    "encoder_hid_dim_type": None,
    "dual_cross_attention": False,
    "only_cross_attention": False,
    "time_cond_proj_dim": None,
    "num_attention_heads": None,
}
_PLAIN_BLOCKS = {"DownBlock2D": "conv", "ResnetDownsampleBlock2D": "resnet", "UpBlock2D": "conv"} | {
    "ResnetUpsampleBlock2D": "resnet"
}
_PLACES = {
    "time.hidden": "time_embedding.linear_1",
    "time.out": "time_embedding.linear_2",
    "stem": "conv_in",
    "norm": "conv_norm_out",
    "head": "conv_out",
    "labels": "class_embedding",
}
_RESIDUAL = {
    "norm_in": "norm1",
    "conv_in": "conv1",
    "time": "time_emb_proj",
    "norm_out": "norm2",
    "conv_out": "conv2",
    "skip": "conv_shortcut",
}
_ATTENTION = {
    "norm": ["group_norm"],
    "attention.qkv": ["to_q", "to_k", "to_v"],
    "attention.out": ["to_out.0"],
}
_TRANSFORMER = {"norm": ["norm"], "project_in": ["proj_in"], "project_out": ["proj_out"], **TRANSFORMER_PARTS}
_OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def from_diffusers(state_dict: Mapping[str, Tensor], config: Mapping[str, Any]) -> UNet:
    """The U-Net of a `UNet2DModel` or `UNet2DConditionModel`, in evaluation mode, from its weights and configuration.

    It answers as theirs does, its steps counted from 1. A class has no null row there.

    Raises KeyError that names the parameters missing or left over, ValueError for a setting or a shape that differs.
    """
    unet = UNet(**_arguments(config))
    given = {
        re.sub(r"(attentions\.\d+)\.(query|key|value|proj_attn)\.", lambda m: f"{m[1]}.{_OLD_NAMES[m[2]]}.", key): value
        for key, value in state_dict.items()
    }
    return filled(unet, given, {name: _sources(name, unet) for name in unet.state_dict()})


def to_diffusers(unet: UNet, *, grid: tuple[int, int] | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and configuration of the diffusers model that computes the same; `grid` (h, w) is what it samples.

    Raises ValueError when diffusers has no such network; what it lacks is named.
    """
    arguments = unet.arguments
    _check_expressible(unet)
    conditional = arguments["condition_width"] is not None
    levels = range(len(arguments["multipliers"]))
    attends = [2**level in arguments["attention_at"] for level in levels]
    widths = [arguments["channels"] * multiplier for multiplier in arguments["multipliers"]]
    config = _NEUTRAL | {
        "_class_name": CONDITIONAL if conditional else PLAIN,
        "_diffusers_version": VERSION,
        "block_out_channels": widths,
        "in_channels": unet.in_channels,
        "out_channels": unet.head.out_channels,
        "layers_per_block": arguments["residual_blocks"],
        "norm_num_groups": arguments["groups"],
        "resnet_time_scale_shift": "scale_shift" if arguments["scale_shift"] else "default",
        "num_class_embeds": None if unet.labels is None else unet.labels.num_embeddings,
        "sample_size": _sample_size(grid or unet.grid),
        "down_block_types": [_block_type("Down", there, unet) for there in attends],
        "up_block_types": [_block_type("Up", there, unet) for there in reversed(attends)],
        **(_conditional_part(unet, widths) if conditional else _plain_part(unet, widths, attends)),
    }
    return dict(_split(unet)), config


def _split(unet: UNet) -> list[tuple[str, Tensor]]:
    parts: list[tuple[str, Tensor]] = []
    for name, value in unet.state_dict().items():
        if re.search(r"attention\.project_(in|out)\.weight$", name):
            value = value[..., None, None]
        keys = _sources(name, unet)
        parts += [(key, part.contiguous()) for key, part in zip(keys, value.chunk(len(keys)), strict=True)]
    return parts


def _sample_size(grid: tuple[int, int] | None) -> int | list[int] | None:
    if grid is None:
        return None
    return grid[0] if grid[0] == grid[1] else list(grid)


def _block_type(side: str, attends: bool, unet: UNet) -> str:
    if attends:
        return f"CrossAttn{side}Block2D" if unet.condition_width is not None else f"Attn{side}Block2D"
    return f"Resnet{side}sampleBlock2D" if unet.arguments["resample_by_blocks"] else f"{side}Block2D"


def _plain_part(unet: UNet, widths: list[int], attends: list[bool]) -> dict[str, Any]:
    heads, per_head = unet.arguments["heads"], unet.arguments["head_channels"]
    found = {per_head or width // heads for width, there in zip(widths, attends, strict=True) if there}
    found.add(per_head or widths[-1] // heads)
    if len(found) > 1:
        raise ValueError(f"diffusers has no network with {heads} heads of several widths {sorted(found)}")
    kind = "resnet" if unet.arguments["resample_by_blocks"] else "conv"
    groups = unet.arguments["groups"] if unet.arguments["scale_shift"] else None
    return {
        "attention_head_dim": found.pop(),
        "attn_norm_num_groups": groups,
        "downsample_type": kind,
        "upsample_type": kind,
    }


def _conditional_part(unet: UNet, widths: list[int]) -> dict[str, Any]:
    heads, per_head = unet.arguments["heads"], unet.arguments["head_channels"]
    return {
        "attention_head_dim": [heads if per_head is None else width // per_head for width in widths],
        "cross_attention_dim": unet.condition_width,
        "transformer_layers_per_block": unet.arguments["transformer_depth"],
        "use_linear_projection": False,
    }


def _check_expressible(unet: UNet) -> None:
    arguments = unet.arguments
    lacks = {
        "null states": unet.null is not None,
        "attention positions": arguments["attention_positions"],
        "a level beside the time": unet.level is not None,
        f"feed_forward={arguments['feed_forward']}": unet.condition_width is not None
        and arguments["feed_forward"] != 4,
        f"multipliers {tuple(arguments['multipliers'])} that do not begin with 1": arguments["multipliers"][0] != 1,
        "cross-attention beside changes of resolution in residual blocks": unet.condition_width is not None
        and arguments["resample_by_blocks"],
    }
    if found := [what for what, there in lacks.items() if there]:
        raise ValueError(f"diffusers has no network with {'; '.join(found)}; use save_pretrained instead")


def _arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of our `UNet` for a configuration of diffusers."""
    conditional = config.get("_class_name") == CONDITIONAL
    if not conditional and config.get("_class_name") != PLAIN:
        raise ValueError(f"config: _class_name {config.get('_class_name')!r}; {PLAIN} and {CONDITIONAL} are read")
    _check_fixed(config)
    widths = list(config["block_out_channels"])
    if any(width % widths[0] for width in widths):
        raise ValueError(f"config: block_out_channels {widths} are no multiples of the first")
    down, attention = list(config["down_block_types"]), "CrossAttnDownBlock2D" if conditional else "AttnDownBlock2D"
    attends = [kind == attention for kind in down]
    if unknown := [kind for kind in down if kind != attention and kind not in _PLAIN_BLOCKS]:
        raise ValueError(f"config: down_block_types {unknown} are not supported")
    if [kind.startswith(("Attn", "CrossAttn")) for kind in reversed(list(config["up_block_types"]))] != attends:
        raise ValueError(f"config: up_block_types {config['up_block_types']} do not mirror down_block_types {down}")
    kinds = {_PLAIN_BLOCKS.get(kind, config.get("downsample_type", "conv")) for kind in down[:-1]}
    if len(kinds) > 1:
        raise ValueError(f"config: down_block_types {down} change the resolution in several ways")
    return {
        "in_channels": config["in_channels"],
        "out_channels": config["out_channels"],
        "channels": widths[0],
        "multipliers": [width // widths[0] for width in widths],
        "residual_blocks": config["layers_per_block"],
        "attention_at": [2**level for level, there in enumerate(attends) if there],
        "scale_shift": config.get("resnet_time_scale_shift", "default") == "scale_shift",
        "resample_by_blocks": kinds == {"resnet"},
        "groups": config["norm_num_groups"],
        "classes": config.get("num_class_embeds"),
        "null_class": False,
        "null_states": 0,
        **(_conditional_arguments(config, widths) if conditional else _plain_arguments(config)),
    }


def _check_fixed(config: Mapping[str, Any]) -> None:
    fixed = _FIXED | {"attn_norm_num_groups": config.get("attn_norm_num_groups") and config["norm_num_groups"]}
    for name, value in fixed.items():
        if (config.get(name, value) or None) != (value or None):
            raise ValueError(f"config: {name} must be {value!r}, got {config[name]!r}")


def _plain_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    per_head = config.get("attention_head_dim", 8)
    return {"heads": 1} if per_head is None else {"head_channels": per_head}


def _conditional_arguments(config: Mapping[str, Any], widths: list[int]) -> dict[str, Any]:
    heads, depth = config.get("attention_head_dim", 8), config.get("transformer_layers_per_block", 1)
    each = [heads] * len(widths) if isinstance(heads, int) else list(heads)
    per_head = {width // number for width, number in zip(widths, each, strict=True)}
    if len(set(each)) > 1 and len(per_head) > 1:
        raise ValueError(f"config: attention_head_dim {each}, neither one number of heads nor one width of them")
    if not isinstance(depth, int):
        raise ValueError(f"config: transformer_layers_per_block {depth}, supported as one number")
    return {
        "condition_width": config["cross_attention_dim"],
        "transformer_depth": depth,
        **({"heads": each[0]} if len(set(each)) == 1 else {"head_channels": per_head.pop()}),
    }


def _sources(name: str, unet: UNet) -> list[str]:
    """The names in diffusers whose tensors, joined along their first axis, are our parameter `name`."""
    module, _, leaf = name.rpartition(".")
    if module in _PLACES:
        return [f"{_PLACES[module]}.{leaf}"]
    side, index, part, inner = module.split(".", 3)
    place = _place(side, int(index), part, unet)
    if part == "residual" or (part == "resample" and inner != "conv"):
        return [f"{place}.{_RESIDUAL[inner]}.{leaf}"]
    if part == "resample":
        return [f"{place}.conv.{leaf}"]
    if unet.condition_width is None:
        return [f"{place}.{one}.{leaf}" for one in _ATTENTION[inner]]
    if inner.startswith("blocks."):
        _, block, inner = inner.split(".", 2)
        place = f"{place}.transformer_blocks.{block}"
    return [f"{place}.{one}.{leaf}" for one in _TRANSFORMER[inner]]


def _place(side: str, index: int, part: str, unet: UNet) -> str:
    """Where diffusers has this part of this cell."""
    if side == "middle":
        return f"mid_block.resnets.{index}" if part == "residual" else "mid_block.attentions.0"
    level, inside = divmod(index, unet.arguments["residual_blocks"] + 1)
    if part == "resample":
        return f"down_blocks.{level}.downsamplers.0" if side == "down" else f"up_blocks.{level}.upsamplers.0"
    return f"{side}_blocks.{level}.{'resnets' if part == 'residual' else 'attentions'}.{inside}"
