"""Folders of diffusers: a U-Net alone, or a pipeline that samples, read and written."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from continuous_diffusion.checkpoints.diffusers import PLAIN, VERSION, from_diffusers, to_diffusers
from continuous_diffusion.schedule import Schedule
from continuous_diffusion.target import EPSILON, Clean, Epsilon, Target, Velocity
from continuous_diffusion.unet import UNet

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
INDEX, SCHEDULER = "model_index.json", "scheduler_config.json"
_TARGETS: dict[str, Target] = {"epsilon": Epsilon(), "v_prediction": Velocity(), "sample": Clean()}


@dataclass(frozen=True)
class Pipeline:
    """What a diffusers pipeline holds of ours: the U-Net, its schedule, and the target in which it answers."""

    unet: UNet
    schedule: Schedule
    target: Target


def read_diffusers(folder: str | Path) -> UNet:
    """The U-Net of a folder with `config.json` and `diffusion_pytorch_model.safetensors`, or of a pipeline's `unet`.

    Raises FileNotFoundError when one of the two is missing, and what `from_diffusers` raises.
    """
    path = Path(folder)
    path = path / "unet" if (path / INDEX).is_file() else path
    return from_diffusers(load_file(_existing(path / WEIGHTS)), _json(path / CONFIG))


def read_diffusers_pipeline(folder: str | Path) -> Pipeline:
    """The U-Net, schedule and target of a pipeline's folder.

    Raises FileNotFoundError for a file that is missing, ValueError for a schedule or a target that is not known.
    """
    path = Path(folder)
    _existing(path / INDEX)
    config = _json(path / "scheduler" / SCHEDULER)
    target = config.get("prediction_type", "epsilon")
    if target not in _TARGETS:
        raise ValueError(f"{SCHEDULER}: prediction_type {target!r} is not one of {', '.join(_TARGETS)}")
    return Pipeline(unet=read_diffusers(path), schedule=_schedule(config), target=_TARGETS[target])


def write_diffusers(unet: UNet, folder: str | Path, *, grid: tuple[int, int] | None = None) -> None:
    """Write a folder that diffusers' `UNet2DModel` or `UNet2DConditionModel` reads.

    Raises ValueError when diffusers has no such network; what it lacks is named.
    """
    weights, config = to_diffusers(unet, grid=grid)
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    save_file(weights, path / WEIGHTS, metadata={"format": "pt"})
    _write(path / CONFIG, config)


def write_diffusers_pipeline(
    unet: UNet,
    folder: str | Path,
    *,
    schedule: Schedule,
    target: Target = EPSILON,
    grid: tuple[int, int] | None = None,
    autoencoder: str | Path | None = None,
) -> None:
    """Write a folder that `DiffusionPipeline.from_pretrained` loads and samples from, of an unconditional U-Net.

    A `DDIMPipeline` over pixels; with `autoencoder`, the folder of a diffusers `VQModel` or `AutoencoderKL`, an
    `LDMPipeline` over its latents. `grid` (h, w) is the size of the states. With the same noise and a number of steps
    that divides T it gives the images of `sample(..., steps=steps)`; over pixels cut to -1..1 at the end.

    Raises ValueError for a U-Net that needs a condition or that diffusers has not, a schedule or target that it has
    not, and no grid; FileNotFoundError when `autoencoder` is not such a folder.
    """
    if needed := [name for name in ("condition_width", "classes") if unet.arguments[name] is not None]:
        raise ValueError(
            f"unet: built with {needed}; write_diffusers writes it, no pipeline of one part gives it those"
        )
    if unet.in_channels != unet.head.out_channels:
        raise ValueError(
            f"unet: {unet.in_channels} channels in and {unet.head.out_channels} out; a pipeline needs as many"
        )
    if grid is None and unet.grid is None:
        raise ValueError("grid is missing: a pipeline needs the size (h, w) of what it samples")
    path = Path(folder)
    scheduler = _scheduler(schedule, target)
    parts = {"scheduler": ["diffusers", "DDIMScheduler"], "unet": ["diffusers", PLAIN]}
    if autoencoder is not None:
        parts["vqvae"] = ["diffusers", _json(Path(autoencoder) / CONFIG)["_class_name"]]
        shutil.copytree(autoencoder, path / "vqvae", dirs_exist_ok=True)
    write_diffusers(unet, path / "unet", grid=grid)
    (path / "scheduler").mkdir(exist_ok=True)
    _write(path / "scheduler" / SCHEDULER, scheduler)
    kind = "DDIMPipeline" if autoencoder is None else "LDMPipeline"
    _write(path / INDEX, {"_class_name": kind, "_diffusers_version": VERSION, **parts})


def _scheduler(schedule: Schedule, target: Target) -> dict[str, Any]:
    names = [name for name, known in _TARGETS.items() if known == target]
    if not names:
        raise ValueError(f"target: {target} has no name in diffusers; known are {', '.join(_TARGETS)}")
    if schedule.scale is not None or schedule.signal[-1] == 0:
        raise ValueError("schedule: DDIMScheduler has none that scales the state or ends without signal")
    return {
        "_class_name": "DDIMScheduler",
        "_diffusers_version": VERSION,
        "num_train_timesteps": schedule.T,
        **_betas(schedule),
        "prediction_type": names[0],
        "timestep_spacing": "trailing",
        "set_alpha_to_one": True,
        "steps_offset": 0,
        "clip_sample": False,
    }


def _betas(schedule: Schedule) -> dict[str, Any]:
    """The name of a schedule in diffusers, or else all of its betas."""
    first, last = schedule.betas[0].item(), schedule.betas[-1].item()
    for name, make in (("scaled_linear", Schedule.sqrt_linear), ("linear", Schedule.linear)):
        if torch.allclose(make(schedule.T, first, last).signal, schedule.signal, rtol=1e-9, atol=0):
            return {"beta_schedule": name, "beta_start": first, "beta_end": last}
    return {"trained_betas": schedule.betas.tolist()}


def _schedule(config: Mapping[str, Any]) -> Schedule:
    T, name = config.get("num_train_timesteps", 1000), config.get("beta_schedule", "linear")
    ends = (config.get("beta_start", 1e-4), config.get("beta_end", 0.02))
    if config.get("rescale_betas_zero_snr", False):
        return _schedule({**config, "rescale_betas_zero_snr": False}).to_zero_snr()
    if config.get("trained_betas") is not None:
        return Schedule.from_betas(torch.tensor(config["trained_betas"], dtype=torch.float64))
    makers = {
        "linear": lambda: Schedule.linear(T, *ends),
        "scaled_linear": lambda: Schedule.sqrt_linear(T, *ends),
        "squaredcos_cap_v2": lambda: Schedule.cosine(T),
    }
    if name not in makers:
        raise ValueError(f"{SCHEDULER}: beta_schedule {name!r} is not one of {', '.join(makers)}")
    return makers[name]()


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} holds no {path.name}; give a folder that diffusers wrote")
    return path


def _json(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(_existing(path).read_text(encoding="utf-8"))
    return read


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
