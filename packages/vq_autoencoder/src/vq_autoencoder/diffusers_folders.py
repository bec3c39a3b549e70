"""Folders of diffusers' `AutoencoderKL` and `VQModel`, read and written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from .autoencoder import TokenAutoencoder, VQAutoencoder
from .kl_autoencoder import KLAutoencoder
from .layout import Layout
from .pretrained import CONFIG, load_strictly, read_weights

WEIGHTS = "diffusion_pytorch_model.safetensors"
_PARTS = {
    "downsample.conv": "downsamplers.0.conv",
    "upsample.conv": "upsamplers.0.conv",
    "mid.block_1": "mid_block.resnets.0",
    "mid.block_2": "mid_block.resnets.1",
    "mid.attn_1": "mid_block.attentions.0",
    "norm_out": "conv_norm_out",
    "nin_shortcut": "conv_shortcut",
    "quantizer.codebook": "quantize.embedding.weight",
}
_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_FIXED = {"act_fn": "silu", "norm_type": "group", "lookup_from_codebook": False}
_PLAIN_BLOCKS = ("DownEncoderBlock2D", "UpDecoderBlock2D")
_ATTENTION_BLOCKS = ("AttnDownEncoderBlock2D", "AttnUpDecoderBlock2D")


def read_diffusers(folder: str | Path, *, sha256: str | None = None) -> KLAutoencoder | VQAutoencoder:
    """Autoencoder from a folder with `config.json` and `diffusion_pytorch_model.safetensors`.

    Raises:
        FileNotFoundError: one of the two is missing.
        ValueError: the weights are damaged, not those of `sha256`, or of another architecture.
    """
    path = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (path / name).is_file():
            raise FileNotFoundError(f"{path} holds no {name}; give the folder of a diffusers AutoencoderKL or VQModel")
    config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    return from_diffusers(read_weights(path / WEIGHTS, sha256=sha256), config)


def write_diffusers(autoencoder: TokenAutoencoder | KLAutoencoder, folder: str | Path) -> None:
    """Write a folder that `AutoencoderKL.from_pretrained` or `VQModel.from_pretrained` reads.

    Raises:
        ValueError: diffusers has no such network; what it lacks is named.
    """
    weights, config = to_diffusers(autoencoder)
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    save_file(weights, path / WEIGHTS, metadata={"format": "pt"})
    (path / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def from_diffusers(state_dict: Mapping[str, Tensor], config: Mapping[str, Any]) -> KLAutoencoder | VQAutoencoder:
    """Autoencoder from the weights and the configuration of a diffusers `AutoencoderKL` or `VQModel`.

    Scale and shift of a KL model's latents come from `scaling_factor`, `shift_factor`, `latents_mean`, `latents_std`;
    those of a VQ model are left as they are, as LDM has them.

    Raises:
        ValueError: the file belongs to another architecture; settings, keys and shapes are named.
    """
    for name, value in _FIXED.items():
        if config.get(name, value) != value:
            raise ValueError(f"config: {name} must be {value!r}, got {config[name]!r}")
    autoencoder: KLAutoencoder | VQAutoencoder
    if "num_vq_embeddings" in config:
        autoencoder = VQAutoencoder.legacy(
            codes=config["num_vq_embeddings"],
            code_width=config.get("vq_embed_dim") or config["latent_channels"],
            bottleneck_channels=config["latent_channels"],
            **_layout(config),
        )
    else:
        autoencoder = KLAutoencoder(latent_channels=config["latent_channels"], **_layout(config))
    theirs = {_renewed(key): value for key, value in state_dict.items()}
    for part in ("quant_conv", "post_quant_conv"):
        if not config.get(f"use_{part}", True):
            theirs |= _identity(getattr(autoencoder, part), part)
    expected = autoencoder.state_dict()
    names = {_theirs(key, autoencoder.layout): key for key in expected}
    weights = {names.get(key, key): value for key, value in theirs.items()}
    if isinstance(autoencoder, KLAutoencoder):
        weights |= _latent_scale(config)
    shaped = {
        key: value.reshape(expected[key].shape)
        if key in expected and value.ndim == 2 and expected[key].shape == (*value.shape, 1, 1)
        else value
        for key, value in weights.items()
    }
    return load_strictly(autoencoder, shaped)


def to_diffusers(autoencoder: TokenAutoencoder | KLAutoencoder) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and configuration of the diffusers model that computes the same.

    Raises:
        ValueError: diffusers has no such network; what it lacks is named.
    """
    layout = autoencoder.layout
    _check_expressible(autoencoder)
    config = {
        "_class_name": "AutoencoderKL" if isinstance(autoencoder, KLAutoencoder) else "VQModel",
        "_diffusers_version": "0.30.0",
        "act_fn": "silu",
        "block_out_channels": [layout.width(level) for level in range(layout.levels)],
        "down_block_types": _block_types(layout, 0),
        "up_block_types": _block_types(layout, 1)[::-1],
        "in_channels": layout.image_channels,
        "out_channels": layout.image_channels,
        "latent_channels": autoencoder.post_quant_conv.out_channels,
        "layers_per_block": layout.residual_blocks,
        "mid_block_add_attention": layout.mid_attention,
        "norm_num_groups": layout.groups,
        "sample_size": layout.resolution,
        **_own_config(autoencoder),
    }
    skipped = ("latent_shift", "latent_scale", "quantizer.usage", "quantizer.sums")
    weights = {
        _theirs(key, layout): value[:, :, 0, 0].contiguous() if _is_projection(key) else value.contiguous()
        for key, value in autoencoder.state_dict().items()
        if key not in skipped
    }
    return weights, config


def _own_config(autoencoder: TokenAutoencoder | KLAutoencoder) -> dict[str, Any]:
    if isinstance(autoencoder, TokenAutoencoder):
        k, d = autoencoder.codebook.shape
        return {"num_vq_embeddings": k, "vq_embed_dim": d, "scaling_factor": 1.0}
    scale, shift = autoencoder.latent_scale.tolist(), autoencoder.latent_shift.tolist()
    if len(set(scale)) == 1 and not any(shift):
        return {"scaling_factor": scale[0]}
    return {"scaling_factor": 1.0, "latents_mean": shift, "latents_std": [1 / value for value in scale]}


def _latent_scale(config: Mapping[str, Any]) -> dict[str, Tensor]:
    channels, factor = config["latent_channels"], float(config.get("scaling_factor", 0.18215))
    deviation = config.get("latents_std") or [1.0] * channels
    shift = config.get("latents_mean") or [float(config.get("shift_factor") or 0.0)] * channels
    return {"latent_shift": torch.tensor(shift), "latent_scale": factor / torch.tensor(deviation)}


def _layout(config: Mapping[str, Any]) -> dict[str, Any]:
    widths, down = list(config["block_out_channels"]), list(config["down_block_types"])
    if any(width % widths[0] for width in widths):
        raise ValueError(f"config: block_out_channels {widths} are no multiples of the first")
    if config["in_channels"] != config["out_channels"]:
        raise ValueError(f"config: in_channels {config['in_channels']} differs from out_channels")
    kinds = [_ATTENTION_BLOCKS if kind in _ATTENTION_BLOCKS else _PLAIN_BLOCKS for kind in down]
    if [kind[0] for kind in kinds] != down or [kind[1] for kind in reversed(kinds)] != list(config["up_block_types"]):
        raise ValueError(f"config: blocks {down} and {list(config['up_block_types'])} are not supported")
    size = config.get("sample_size")
    resolution = size if isinstance(size, int) and size % 2 ** (len(widths) - 1) == 0 else 256
    return {
        "image_channels": config["in_channels"],
        "channels": widths[0],
        "multipliers": tuple(width // widths[0] for width in widths),
        "residual_blocks": config["layers_per_block"],
        "attention_resolutions": tuple(resolution // 2**i for i, k in enumerate(kinds) if k is _ATTENTION_BLOCKS),
        "resolution": resolution,
        "mid_attention": config.get("mid_block_add_attention", True),
        "groups": config["norm_num_groups"],
    }


def _check_expressible(autoencoder: TokenAutoencoder | KLAutoencoder) -> None:
    layout = autoencoder.layout
    widths = [layout.width(level) for level in range(layout.levels)]
    kept = autoencoder.post_quant_conv
    lacks = {
        "patch > 1": layout.patch > 1,
        "subpixel": layout.subpixel and layout.levels > 1,
        f"decoder_blocks = {layout.blocks_up}": layout.blocks_up != layout.residual_blocks + 1,
        f"mid_blocks = {layout.mid_blocks}": layout.mid_blocks != 2,
        f"widths {widths} that {layout.groups} groups do not divide": any(w % layout.groups for w in widths),
        "bottleneck_channels beside other latent channels": isinstance(autoencoder, KLAutoencoder)
        and kept.in_channels != kept.out_channels,
        "cosine codes": isinstance(autoencoder, VQAutoencoder) and autoencoder.quantizer.cosine,
        f"the bottleneck of {type(autoencoder).__name__}": not isinstance(autoencoder, KLAutoencoder | VQAutoencoder),
    }
    if found := [what for what, there in lacks.items() if there]:
        raise ValueError(f"diffusers has no network with {'; '.join(found)}; use save_pretrained instead")


def _block_types(layout: Layout, side: int) -> list[str]:
    return [(_ATTENTION_BLOCKS if layout.attends(level) else _PLAIN_BLOCKS)[side] for level in range(layout.levels)]


def _theirs(key: str, layout: Layout) -> str:
    """The name in diffusers of one of our parameters."""
    top = layout.levels - 1
    key = re.sub(r"^encoder\.down\.(\d+)\.", r"encoder.down_blocks.\1.", key)
    key = re.sub(r"^decoder\.up\.(\d+)\.", lambda m: f"decoder.up_blocks.{top - int(m[1])}.", key)
    key = re.sub(r"\.block\.(\d+)\.", r".resnets.\1.", key)
    key = re.sub(r"\.attn\.(\d+)\.", r".attentions.\1.", key)
    for ours, theirs in _PARTS.items():
        key = key.replace(ours, theirs)
    return re.sub(r"(attentions\.\d+)\.(\w+)\.", lambda m: f"{m[1]}.{_ATTENTION[m[2]]}.", key)


def _renewed(key: str) -> str:
    """The present name of a parameter that diffusers once called otherwise."""
    return re.sub(r"(attentions\.\d+)\.(\w+)\.", lambda m: f"{m[1]}.{_OLD_ATTENTION.get(m[2], m[2])}.", key)


def _is_projection(key: str) -> bool:
    return bool(re.search(r"attn[._]\d+\.(q|k|v|proj_out)\.weight$", key))


def _identity(convolution: torch.nn.Conv2d, part: str) -> dict[str, Tensor]:
    channels = convolution.out_channels
    return {f"{part}.weight": torch.eye(channels)[:, :, None, None], f"{part}.bias": torch.zeros(channels)}
