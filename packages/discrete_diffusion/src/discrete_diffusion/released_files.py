"""The files of the released code: one checkpoint holds the denoiser twice, the codec and the text encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251 (to name it, not to unpickle)
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from discrete_diffusion.time_sampling import ImportanceTimes

_CODEC, _CONDITION = "content_codec.", "condition_emb."


@dataclass(frozen=True)
class ReleasedParts:
    """The parts of an official VQ-Diffusion checkpoint.

    Attributes:
        denoiser: tensors for `from_vq_diffusion`.
        codec: those of the autoencoder, without `content_codec.`; empty where the file has none.
        condition: those of the text encoder, without `condition_emb.`, for `ClipText.from_vq_diffusion`; or empty.
        times: the law of t that training had reached, where the file has it.
    """

    denoiser: dict[str, Tensor]
    codec: dict[str, Tensor]
    condition: dict[str, Tensor]
    times: ImportanceTimes | None


def read_vq_diffusion(path: str | Path, *, averaged: bool = True) -> ReleasedParts:
    """Read an official `.pth` file, or a `.safetensors` file with the keys of its `model` entry.

    Args:
        path: the file.
        averaged: take the moving average (`ema`) of the denoiser where the file has one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, holds objects that would have to be unpickled, or no VQ-Diffusion model.
    """
    return split_vq_diffusion(load_checkpoint(path), averaged=averaged)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """What a `.safetensors` file or a file of `torch.save` holds, on the CPU; nothing is unpickled.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds objects that would have to be unpickled.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        loaded: dict[str, Any] = (
            load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        )
    except UnpicklingError as error:
        raise ValueError(
            f"{path} holds objects besides tensors, and nothing is unpickled here; where you trust it, save its "
            "tensors (`model` and `ema`, or `state_dict`) alone"
        ) from error
    except (SafetensorError, EOFError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged or cut short ({error}); fetch it again") from error
    return loaded


def split_vq_diffusion(checkpoint: Mapping[str, Any], *, averaged: bool = True) -> ReleasedParts:
    """Tell the parts of a loaded checkpoint apart.

    Args:
        checkpoint: with entries `model` and maybe `ema`, or a plain state dict.
        averaged: take the moving average of the denoiser where there is one.

    Raises:
        ValueError: it holds no VQ-Diffusion model.
    """
    model = checkpoint.get("model", checkpoint)
    tensors = {_bare(key): value for key, value in model.items() if isinstance(value, Tensor)}
    average = checkpoint.get("ema") if averaged and "model" in checkpoint else None
    both = tensors | {_bare(key): value for key, value in (average or {}).items() if isinstance(value, Tensor)}
    denoiser = {key: value for key, value in both.items() if not key.startswith((_CODEC, "condition_"))}
    if not any("content_emb." in key for key in denoiser):
        raise ValueError(f"the checkpoint holds no VQ-Diffusion model; its entries are {sorted(checkpoint)[:8]}")
    return ReleasedParts(denoiser, _part(tensors, _CODEC), _part(both, _CONDITION), _times(both))


def _bare(key: str) -> str:
    """A key without the prefixes of parallel training and of the model around; so `model` and `ema` agree."""
    for prefix in ("module.", "transformer.", "transformer."):
        key = key.removeprefix(prefix)
    return key


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _times(tensors: Mapping[str, Tensor]) -> ImportanceTimes | None:
    if not {"Lt_history", "Lt_count"} <= tensors.keys():
        return None
    times = ImportanceTimes(len(tensors["Lt_history"]))
    times.load_state_dict({"history": tensors["Lt_history"], "count": tensors["Lt_count"]})
    return times
