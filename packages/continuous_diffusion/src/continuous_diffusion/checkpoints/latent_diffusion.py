"""A whole LDM checkpoint, taken apart: what belongs here is read, the rest handed back by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from continuous_diffusion.checkpoints.files import account_for, filled, without_prefix
from continuous_diffusion.checkpoints.transformers import CONDITION_STAGE, token_encoder_from_compvis
from continuous_diffusion.checkpoints.unets import PREFIX, from_compvis, official_names
from continuous_diffusion.conditioning import ClassStates, MapRescaler
from continuous_diffusion.schedule import Schedule
from continuous_diffusion.unet import UNet

FIRST_STAGE, AVERAGED = "first_stage_model.", "model_ema."
_BUFFERS = {
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    "lvlb_weights",
    "logvar",
}


@dataclass(frozen=True)
class LatentDiffusion:
    """The parts of an LDM checkpoint.

    * `unet` as trained, and `averaged`, its moving average, None where the file has none; sample with the latter.
    * `schedule`; `latent_scale`, by which the first stage's latents are multiplied.
    * `conditioner`: the encoder of classes, tokens or maps; None where there is none, or where it is not read here.
    * `first_stage`, and `condition_stage` where it is not read here: their tensors, without their outer prefixes.
    """

    unet: UNet
    averaged: UNet | None
    schedule: Schedule
    latent_scale: float
    conditioner: nn.Module | None
    first_stage: dict[str, Tensor]
    condition_stage: dict[str, Tensor]


def latent_diffusion_from_compvis(state_dict: Mapping[str, Tensor], config: Mapping[str, Any]) -> LatentDiffusion:
    """The parts of a `LatentDiffusion` checkpoint; `config` holds its arguments (`model.params` of the YAML).

    Raises KeyError that names the parameters missing or left over, ValueError for a config or a shape that differs,
    and for a schedule other than the file's.

    Source: LDM latent rescaling
    """
    unet_config = _arguments(config["unet_config"])
    parts, rest = _by_part(state_dict, (PREFIX, AVERAGED, FIRST_STAGE, CONDITION_STAGE))
    scale = rest.pop("scale_factor", torch.tensor(float(config.get("scale_factor", 1.0))))
    schedule = _schedule(config)
    _check_buffers(rest, schedule)
    unet = from_compvis(parts[PREFIX], unet_config)
    averaged = from_compvis(_dotted(parts[AVERAGED], unet), unet_config) if parts[AVERAGED] else None
    conditioner = _conditioner(parts[CONDITION_STAGE], config.get("cond_stage_config"))
    return LatentDiffusion(
        unet=unet,
        averaged=averaged,
        schedule=schedule,
        latent_scale=float(scale),
        conditioner=conditioner,
        first_stage=parts[FIRST_STAGE],
        condition_stage={} if conditioner is not None else parts[CONDITION_STAGE],
    )


def class_states_from_compvis(state_dict: Mapping[str, Tensor], config: Mapping[str, Any]) -> ClassStates:
    """LDM's `ClassEmbedder`, whose last class means none; `config` holds its constructor arguments."""
    states = ClassStates(classes=config.get("n_classes", 1000) - 1, width=config["embed_dim"])
    return filled(states, without_prefix(state_dict, CONDITION_STAGE), {"embedding.weight": ["embedding.weight"]})


def map_rescaler_from_compvis(state_dict: Mapping[str, Tensor], config: Mapping[str, Any]) -> MapRescaler:
    """LDM's `SpatialRescaler`; `config` holds its constructor arguments.

    Raises ValueError for one that does not halve bilinearly and mix channels.
    """
    odd = {"method": "bilinear", "multiplier": 0.5}
    if refused := {name: config[name] for name, value in odd.items() if config.get(name, value) != value}:
        raise ValueError(f"config: {refused} of SpatialRescaler, supported only as {odd}")
    if config.get("out_channels") is None:
        raise ValueError(
            "config: out_channels of SpatialRescaler is missing; only one that mixes channels is supported"
        )
    rescaler = MapRescaler(
        channels_in=config.get("in_channels", 3),
        channels_out=config["out_channels"],
        stages=config.get("n_stages", 1),
        bias=config.get("bias", False),
    )
    sources = {name: [name.replace("mix", "channel_mapper")] for name in rescaler.state_dict()}
    return filled(rescaler, without_prefix(state_dict, CONDITION_STAGE), sources)


_CONDITIONERS = {
    "ClassEmbedder": class_states_from_compvis,
    "BERTEmbedder": token_encoder_from_compvis,
    "SpatialRescaler": map_rescaler_from_compvis,
}


def _arguments(config: Mapping[str, Any]) -> Mapping[str, Any]:
    arguments: Mapping[str, Any] = config.get("params", {}) if "target" in config else config
    return arguments


def _conditioner(weights: dict[str, Tensor], config: Any) -> nn.Module | None:  # noqa: ANN401
    if not isinstance(config, Mapping):
        return None
    reader = _CONDITIONERS.get(str(config["target"]).rpartition(".")[2])
    return None if reader is None else reader(weights, _arguments(config))


def _by_part(
    state_dict: Mapping[str, Tensor], prefixes: tuple[str, ...]
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {prefix: {} for prefix in prefixes}
    rest = {}
    for key, value in state_dict.items():
        prefix = next((one for one in prefixes if key.startswith(one)), None)
        if prefix is None:
            rest[key] = value
        else:
            parts[prefix][key.removeprefix(prefix)] = value
    return parts, rest


def _dotted(averaged: Mapping[str, Tensor], unet: UNet) -> dict[str, Tensor]:
    """The moving average under the U-Net's names: the file has them without their dots."""
    dotless = {f"diffusion_model{name.replace('.', '')}": name for name in official_names(unet)}
    account_for([key for key in averaged if key not in ("decay", "num_updates")], dotless)
    return {name: averaged[key] for key, name in dotless.items()}


def _schedule(config: Mapping[str, Any]) -> Schedule:
    T, ends = config.get("timesteps", 1000), (config.get("linear_start", 1e-4), config.get("linear_end", 2e-2))
    makers = {
        "linear": lambda: Schedule.sqrt_linear(T, *ends),
        "sqrt_linear": lambda: Schedule.linear(T, *ends),
        "sqrt": lambda: Schedule.sqrt(T, *ends),
        "cosine": lambda: Schedule.cosine(T, config.get("cosine_s", 8e-3)),
    }
    name = config.get("beta_schedule", "linear")
    if name not in makers:
        raise ValueError(f"config: beta_schedule {name!r} is not one of {', '.join(makers)}")
    return makers[name]()


def _check_buffers(rest: Mapping[str, Tensor], schedule: Schedule) -> None:
    if unknown := sorted(set(rest) - _BUFFERS):
        raise KeyError(f"the checkpoint has {len(unknown)} parameters with no place: {', '.join(unknown[:8])}")
    for name, buffer in rest.items():
        if buffer.shape != (schedule.T,):
            raise ValueError(f"{name}: shape {tuple(buffer.shape)}, config asks for ({schedule.T},)")
    levels = rest.get("alphas_cumprod")
    if levels is not None and not torch.allclose(levels.double(), schedule.signal[1:], rtol=1e-4, atol=1e-7):
        raise ValueError("alphas_cumprod: not those of config's beta_schedule, linear_start and linear_end")
