"""Readers of the official VQGAN and LDM first-stage files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .autoencoder import GumbelAutoencoder, TokenAutoencoder, VQAutoencoder
from .discriminator import PatchGAN
from .kl_autoencoder import KLAutoencoder
from .pretrained import load_strictly
from .remapping import Remapping

FIRST_STAGE = "first_stage_model."
LOSS = "loss."
_IGNORED_NETWORK_OPTIONS = {"double_z", "dropout"}
_FIXED_NETWORK_OPTIONS = {"resamp_with_conv": True, "use_linear_attn": False, "tanh_out": False, "give_pre_end": False}
_RENAMED = {
    "quantize.embedding.weight": "quantizer.codebook",
    "quantize.embed.weight": "quantizer.codebook",
    "quantize.proj.weight": "quantizer.proj.weight",
    "quantize.proj.bias": "quantizer.proj.bias",
}
USED = "quantize.used"


def from_compvis(state_dict: Mapping[str, Tensor], config: Mapping[str, Any]) -> TokenAutoencoder | KLAutoencoder:
    """Autoencoder from a CompVis latent-diffusion file: VQ where `config` has `n_embed`, KL otherwise.

    `config` holds the official constructor arguments (`params` of the YAML file) of the first stage: `ddconfig`,
    `embed_dim`, and `n_embed` or none. A whole LatentDiffusion, file and arguments, is read too: then the keys under
    `first_stage_model.` count, and `scale_factor`, from the file or else the arguments. What stands under `loss.`
    belongs to training and is left (see `discriminator_from_taming`).

    Raises:
        ValueError: the file belongs to another architecture; keys and shapes are named.

    Source: LDM latent rescaling
    """
    scale = state_dict.get("scale_factor", torch.tensor(float(config.get("scale_factor", 1.0))))
    if "first_stage_config" in config:
        config = config["first_stage_config"]["params"]
    if "n_embed" in config:
        if scale != 1:
            raise ValueError(f"scale_factor must be 1 for VQ regularisation, got {float(scale)}")
        return from_taming(state_dict, config)
    _check_double_z(config, expected=True)
    autoencoder = KLAutoencoder(
        latent_channels=config["embed_dim"], bottleneck_channels=config["ddconfig"]["z_channels"], **_layout(config)
    )
    weights = _first_stage(state_dict)
    weights["latent_shift"] = torch.zeros_like(autoencoder.latent_shift)
    weights["latent_scale"] = scale.to(autoencoder.latent_scale).expand_as(autoencoder.latent_scale)
    return load_strictly(autoencoder, weights)


def from_taming(state_dict: Mapping[str, Tensor], config: Mapping[str, Any]) -> VQAutoencoder | GumbelAutoencoder:
    """Autoencoder from a CompVis taming-transformers `VQModel` file, or `GumbelVQ` where it has `quantize.proj`.

    `config` holds the official constructor arguments: `ddconfig`, `n_embed`, `embed_dim`, and where given `beta` and
    `legacy`, which decide the weights of the two codebook terms (official default: legacy), or for a GumbelVQ
    `kl_weight`, `temp_init`, `straight_through`. Re-mapped codes are all kept: `remapping_from_taming` has their
    tokens.

    Raises:
        ValueError: the file belongs to another architecture; keys and shapes are named.
    """
    _check_double_z(config, expected=False)
    weights = {_RENAMED.get(key, key): value for key, value in _first_stage(state_dict).items() if key != USED}
    shape = {
        "codes": config["n_embed"],
        "code_width": config["embed_dim"],
        "bottleneck_channels": config["ddconfig"]["z_channels"],
        **_layout(config),
    }
    if "quantizer.proj.weight" in weights:
        return load_strictly(GumbelAutoencoder(**shape, **_gumbel_options(config)), weights)
    beta = float(config.get("beta", 0.25))
    codebook_weight, commitment_weight = (beta, 1.0) if config.get("legacy", True) else (1.0, beta)
    autoencoder = VQAutoencoder(codebook_weight=codebook_weight, commitment_weight=commitment_weight, **shape)
    return load_strictly(autoencoder, weights)


def remapping_from_taming(state_dict: Mapping[str, Tensor], config: Mapping[str, Any]) -> Remapping:
    """Tokens of a taming file whose codes are re-mapped (`remap`), from its key `quantize.used`.

    `unknown_index` in `config` is a number or "extra"; the official default, a random token for each unused code, is
    refused with them when such a code is met.

    Raises:
        ValueError: the file has no such key.
    """
    weights = _first_stage(state_dict)
    if USED not in weights:
        raise ValueError(f"the file's codes are not re-mapped: it has no {USED}")
    unknown = config.get("unknown_index", "random")
    return Remapping.from_used(
        weights[USED],
        config["n_embed"],
        unknown=unknown if isinstance(unknown, int) else None,
        extra=unknown == "extra",
    )


def _gumbel_options(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "temperature": float(config.get("temp_init", 1.0)),
        "prior_weight": float(config.get("kl_weight", 5e-4)),
        "straight_through": bool(config.get("straight_through", True)),
    }


def discriminator_from_taming(state_dict: Mapping[str, Tensor], config: Mapping[str, Any]) -> PatchGAN:
    """PatchGAN from the keys `loss.discriminator.` or `discriminator.` of an official file.

    `config` holds the arguments of the official loss (`lossconfig.params`): `disc_num_layers`, `disc_ndf`,
    `disc_in_channels`.

    Raises:
        ValueError: the discriminator has activation normalisation, or the file belongs to another architecture.
    """
    if config.get("use_actnorm", False):
        raise ValueError("use_actnorm=True is not supported; the released discriminators have batch normalisation")
    adversary = PatchGAN(
        image_channels=config.get("disc_in_channels", 3),
        channels=config.get("disc_ndf", 64),
        layers=config.get("disc_num_layers", 3),
    )
    parts = {key.removeprefix(LOSS): value for key, value in state_dict.items()}
    prefix = "discriminator."
    return load_strictly(
        adversary, {key.removeprefix(prefix): value for key, value in parts.items() if key.startswith(prefix)}
    )


def _layout(config: Mapping[str, Any]) -> dict[str, Any]:
    options = dict(config["ddconfig"])
    layout = {
        "image_channels": options.pop("in_channels"),
        "channels": options.pop("ch"),
        "multipliers": tuple(options.pop("ch_mult")),
        "residual_blocks": options.pop("num_res_blocks"),
        "attention_resolutions": tuple(options.pop("attn_resolutions")),
        "resolution": options.pop("resolution"),
    }
    if (images_out := options.pop("out_ch")) != layout["image_channels"]:
        raise ValueError(
            f"ddconfig: out_ch {images_out} differs from in_channels {layout['image_channels']}, which is not supported"
        )
    if (kind := options.pop("attn_type", "vanilla")) == "none":
        layout |= {"attention_resolutions": (), "mid_attention": False}
    elif kind != "vanilla":
        raise ValueError(f"ddconfig: attn_type {kind!r} is not supported; 'vanilla' and 'none' are")
    for name in _IGNORED_NETWORK_OPTIONS | {"z_channels"}:
        options.pop(name, None)
    if unknown := {name: value for name, value in options.items() if _FIXED_NETWORK_OPTIONS.get(name) != value}:
        raise ValueError(f"ddconfig: {unknown} not supported")
    sides = [layout["resolution"] // 2**level for level in range(len(layout["multipliers"]))]
    layout["attention_resolutions"] = tuple(side for side in layout["attention_resolutions"] if side in sides)
    return layout


def _check_double_z(config: Mapping[str, Any], *, expected: bool) -> None:
    if bool(config["ddconfig"].get("double_z", True)) != expected:
        kind = "KL" if expected else "VQ"
        raise ValueError(
            f"ddconfig: double_z must be {expected} for a {kind}-regularised autoencoder, got {not expected}"
        )


def _first_stage(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    nested = {key.removeprefix(FIRST_STAGE): value for key, value in state_dict.items() if key.startswith(FIRST_STAGE)}
    return {key: value for key, value in (nested or dict(state_dict)).items() if not key.startswith(LOSS)}
