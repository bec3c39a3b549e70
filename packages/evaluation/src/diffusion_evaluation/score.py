"""A score is a number that says what it is: its name, its sample counts, its interval, its feature space."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from ._types import PerImage, Successes
from .features import Space


class SmallSampleWarning(UserWarning):
    """There are too few images for the score to mean much beyond this very comparison."""


@dataclass(frozen=True)
class Score:
    """A named value, the number of images behind it and, where known, an interval.

    `n_real` is None for scores without a reference set. `space` is the feature space the score was measured in, where
    there is one. Two scores can be ordered or subtracted only when name, counts and space agree; anything else raises
    ValueError, because the difference would mean nothing.
    """

    name: str
    value: float
    n_real: int | None
    n_fake: int
    low: float | None = None
    high: float | None = None
    space: Space | None = None

    def __str__(self) -> str:
        decimals = _decimals(self.value)
        counts = f"N={self.n_fake}" if self.n_real is None else f"N={self.n_real}/{self.n_fake}"
        title = f"{self.name[:-1]}, {counts}]" if self.name.endswith("]") else f"{self.name}[{counts}]"
        interval = (
            "" if self.low is None or self.high is None else f" [{self.low:.{decimals}f}, {self.high:.{decimals}f}]"
        )
        return f"{title} {self.value:.{decimals}f}{interval}"

    def __sub__(self, other: Score) -> float:
        require_comparable(self, other)
        return self.value - other.value

    def __lt__(self, other: Score) -> bool:
        return self - other < 0

    def __gt__(self, other: Score) -> bool:
        return self - other > 0


def require_comparable(first: Score, *others: Score) -> None:
    """Raise ValueError, naming what differs, unless all scores share name, sample counts and feature space."""
    for other in others:
        for what in ("name", "n_real", "n_fake", "space"):
            ours, theirs = getattr(first, what), getattr(other, what)
            if ours != theirs:
                raise ValueError(
                    f"{first} and {other} cannot be compared: {what} is {ours!r} in one and {theirs!r} in the other. "
                    "Measure both with the same metric, feature space and numbers of images."
                )


def bootstrap(
    measure: Callable[[Tensor, Tensor], Score],
    real: Tensor | npt.NDArray[Any],
    fake: Tensor | npt.NDArray[Any],
    *,
    resamples: int = 200,
    level: float = 0.95,
    generator: torch.Generator | None = None,
) -> Score:
    """The score with a normal interval whose width is the spread of the score over resampled images.

    `measure(real, fake)` is evaluated on `resamples` draws with replacement of the rows of both sets, of features or of
    images, as torch tensors; the interval is
    `value +- z * standard deviation`. It is centred on the value and not on the resamples, because distances between
    distributions are biased upwards when rows repeat. It describes the spread at these sample counts, not the
    distance to the limit of infinitely many images.
    """
    if resamples < 2:
        raise ValueError(f"bootstrap: resamples must be at least 2, got {resamples}")
    real, fake = torch.as_tensor(real), torch.as_tensor(fake)
    score = measure(real, fake)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SmallSampleWarning)
        values = [measure(_resample(real, generator), _resample(fake, generator)).value for _ in range(resamples)]
    return _with_interval(score, torch.tensor(values, dtype=torch.float64).std().item(), level)


def mean_score(values: PerImage, name: str, *, n_real: int | None = None, level: float = 0.95) -> Score:
    """The mean of per-image values with the normal interval of its standard error.

    There is no interval for one image, nor where a value is infinite (the PSNR of identical images).
    """
    if len(values) == 0:
        raise ValueError(f"{name}: there are no values to average")
    sample = values.double()
    score = Score(name, sample.mean().item(), n_real, len(values))
    if len(values) == 1 or not math.isfinite(score.value):
        return score
    return _with_interval(score, sample.std().item() / math.sqrt(len(values)), level)


def proportion(successes: Successes, name: str, *, level: float = 0.95) -> Score:
    r"""The share of successes with its Wilson interval.

    With $\hat p = s / n$ and the normal quantile $z$, the interval is
    $\frac{\hat p + z^2 / 2n \pm z \sqrt{\hat p (1 - \hat p) / n + z^2 / 4n^2}}{1 + z^2 / n}$,
    which stays within [0, 1] and is sound for small n and for shares near 0 and 1.

    Raises ValueError when there is nothing to count.
    """
    n = len(successes)
    if n == 0:
        raise ValueError(f"{name}: there are no outcomes to count")
    share, z = successes.double().mean().item(), normal_quantile(level)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    radius = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low, high = max(0.0, centre - radius), min(1.0, centre + radius)
    return Score(name, share, None, n, min(low, share), max(high, share))


def _with_interval(score: Score, deviation: float, level: float) -> Score:
    radius = normal_quantile(level) * deviation
    return replace(score, low=score.value - radius, high=score.value + radius)


def normal_quantile(level: float) -> float:
    """How many standard errors a two-sided normal interval reaches; ValueError unless 0 < level < 1."""
    if not 0 < level < 1:
        raise ValueError(f"level is a probability strictly between 0 and 1, got {level}")
    return NormalDist().inv_cdf((1 + level) / 2)


def _resample(rows: Tensor, generator: torch.Generator | None) -> Tensor:
    drawn = torch.randint(len(rows), (len(rows),), generator=generator)
    return rows[drawn.to(rows.device)]


def _decimals(value: float) -> int:
    """Two, or as many as show three significant digits of a value below one."""
    if value == 0 or not math.isfinite(value) or abs(value) < 1e-6:
        return 2
    return max(2, 2 - math.floor(math.log10(abs(value))))
