"""Statistics files of other projects: the `.npz` of pytorch-fid, clean-fid, EDM and guided-diffusion (ADM)."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .features import UNNAMED, Space
from .statistics import Statistics


@dataclass(frozen=True)
class Keys:
    """The names of mean and covariance in a file, and how many channels lie innermost where they are of maps."""

    mean: str
    covariance: str
    channels_last: int | None = None


POOLED = Keys("mu", "sigma")
ADM_SPATIAL = Keys("mu_s", "sigma_s", 7)


def read_npz_statistics(
    path: str | os.PathLike[str], *, count: int | None = None, space: Space | None = None, keys: Keys = POOLED
) -> Statistics:
    """The statistics in an `.npz` file, in float64; nothing is unpickled.

    `POOLED` reads what pytorch-fid, clean-fid, EDM and guided-diffusion all write (`mu`, `sigma`); `ADM_SPATIAL` reads
    guided-diffusion's `mu_s`, `sigma_s`, and puts them in the order of `spatial_rows`. No such file says how many
    images it was made of, nor in which feature space: give `count` and `space`. Files of `write_npz_statistics` say
    both, and are held to what is given.

    Raises ValueError, naming the file, when it is anything else, when the count is missing, and when what is given
    contradicts it.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            mean, covariance = (
                torch.from_numpy(np.asarray(file[key], np.float64)) for key in (keys.mean, keys.covariance)
            )
            own = {key: file[key].item() for key in ("count", "name", "version", "sha256") if key in file.files}
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            f"{os.fspath(path)} is not an .npz file with {keys.mean!r} and {keys.covariance!r}: {error}. Pickled "
            "statistics (.pkl) are not read: save their arrays with numpy.savez(path, mu=..., sigma=...)"
        ) from error
    _check(path, mean, covariance)
    if keys.channels_last is not None:
        order = _channels_first(path, len(mean), keys.channels_last)
        mean, covariance = mean[order], covariance[order][:, order]
    return Statistics(
        _agreed_count(path, count, own.pop("count", None)), mean, covariance, _agreed_space(path, space, own)
    )


def write_npz_statistics(
    path: str | os.PathLike[str], statistics: Statistics, *, spatial: Statistics | None = None
) -> None:
    """Write the `.npz` that pytorch-fid, clean-fid, EDM and, with `spatial`, guided-diffusion read.

    It holds `mu` and `sigma` in float64, for `spatial` (statistics of `spatial_rows` of 7 channels) also `mu_s` and
    `sigma_s`, and besides them, which others ignore, the count and the feature space. It is written under a partial
    name first. Raises ValueError when both statistics do not have one count.
    """
    if spatial is not None and spatial.count != statistics.count:
        raise ValueError(
            f"statistics are of {statistics.count} images, spatial ones of {spatial.count}: give one set's"
        )
    arrays: dict[str, Any] = {"mu": statistics.mean.cpu().numpy(), "sigma": statistics.covariance.cpu().numpy()}
    if spatial is not None:
        order = _channels_first(path, len(spatial.mean), ADM_SPATIAL.channels_last or 1).argsort()
        arrays["mu_s"] = spatial.mean.cpu()[order].numpy()
        arrays["sigma_s"] = spatial.covariance.cpu()[order][:, order].numpy()
    arrays["count"] = np.asarray(statistics.count)
    arrays |= {key: np.asarray(value) for key, value in asdict(statistics.space).items()}
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        np.savez(file, **arrays)
    os.replace(partial, target)


def _check(path: str | os.PathLike[str], mean: Tensor, covariance: Tensor) -> None:
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise ValueError(
            f"{os.fspath(path)}: a mean (d,) and a covariance (d, d) are wanted, it holds {tuple(mean.shape)} and "
            f"{tuple(covariance.shape)}"
        )
    if not (mean.isfinite().all() and covariance.isfinite().all()):
        raise ValueError(f"{os.fspath(path)}: not all numbers are finite: make the file anew")
    if (covariance - covariance.T).abs().amax() > 1e-6 * covariance.abs().amax():
        raise ValueError(f"{os.fspath(path)}: its covariance is not symmetric: make the file anew")


def _channels_first(path: str | os.PathLike[str], width: int, channels: int) -> Tensor:
    if width % channels:
        raise ValueError(f"{os.fspath(path)}: {width} spatial features are no maps of {channels} channels")
    return torch.arange(width).reshape(-1, channels).T.flatten()


def _agreed_count(path: str | os.PathLike[str], given: int | None, own: int | None) -> int:
    if given is None and own is None:
        raise ValueError(
            f"{os.fspath(path)} does not say of how many images it was made: give count=..., since a Frechet distance "
            "means little without it"
        )
    if given is not None and own is not None and given != own:
        raise ValueError(f"{os.fspath(path)} was made of {own} images, not of {given}")
    return given if given is not None else int(own or 0)


def _agreed_space(path: str | os.PathLike[str], given: Space | None, own: dict[str, str]) -> Space:
    if not own:
        return given or UNNAMED
    written = Space(**own)
    if given not in (None, written):
        raise ValueError(f"{os.fspath(path)} holds statistics of {written}, not of {given}")
    return written
