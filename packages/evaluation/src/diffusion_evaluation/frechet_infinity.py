"""FID-infinity: the Frechet distance that infinitely many generated images would have, by extrapolation in 1 / N."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from ._types import FakeRows, RealRows
from .arrays import feature_rows
from .features import UNNAMED, Space
from .frechet import frechet_distance
from .score import Score, SmallSampleWarning, normal_quantile
from .statistics import Statistics


@dataclass(frozen=True)
class Line:
    """The least-squares line through points: its value at 0, its slope, and the standard error of the former."""

    intercept: float
    slope: float
    intercept_error: float


def frechet_distance_at_infinity(
    real: Statistics | RealRows,
    fake: FakeRows,
    *,
    points: int = 15,
    smallest: int = 5000,
    level: float = 0.95,
    space: Space | None = None,
    generator: torch.Generator | None = None,
) -> Score:
    r"""The intercept of a line through the distances of `points` random subsets against 1 / N: `FID-infinity[<space>]`.

    The distance of N generated images is biased by nearly $c / N$; its sizes here run evenly from `smallest` to all of
    `fake`, each subset drawn anew without replacement. The real side stays as it is, with what bias it has of its
    own; use all of the reference images. The interval is normal, with the standard error of the intercept; it takes
    the subsets for independent, which overlapping ones are not, and holds the real side fixed.

    Raises ValueError unless 2 <= smallest < m and points >= 3, and whatever `frechet_distance` refuses.

    Source: FID infinity extrapolation
    Deviation: subsets are random; Chong and Forsyth also draw the generator's inputs from Sobol sequences [fixed].
    """
    quantile, rows = normal_quantile(level), feature_rows(fake, "fake")
    if points < 3 or not 2 <= smallest < len(rows):
        raise ValueError(
            f"the line needs 3 points or more, and smallest must be between 2 and {len(rows) - 1}, one less than the "
            f"rows of fake; got points={points}, smallest={smallest}"
        )
    if not isinstance(real, Statistics):
        real = Statistics.of(feature_rows(real, "real"), space or UNNAMED)
    space = space or real.space
    sizes = torch.linspace(smallest, len(rows), points, dtype=torch.float64).int().tolist()
    values = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SmallSampleWarning)
        for size in sizes:
            chosen = torch.randperm(len(rows), generator=generator)[:size].to(rows.device)
            values.append(frechet_distance(real, rows[chosen], space=space).value)
    line = fitted_line(1 / torch.tensor(sizes, dtype=torch.float64), torch.tensor(values, dtype=torch.float64))
    radius = quantile * line.intercept_error
    low, high = line.intercept - radius, line.intercept + radius
    return Score(f"FID-infinity[{space.name}]", line.intercept, real.count, len(rows), low, high, space)


def fitted_line(x: Tensor, y: Tensor) -> Line:
    """The least-squares line through 3 points or more: abscissae `x` `(p,)`, not all one, and ordinates `y` `(p,)`."""
    centred = x - x.mean()
    spread = centred.square().sum()
    slope = (centred * y).sum() / spread
    intercept = y.mean() - slope * x.mean()
    residual = (y - intercept - slope * x).square().sum() / (len(x) - 2)
    error = (residual * (1 / len(x) + x.mean().square() / spread)).sqrt()
    return Line(intercept.item(), slope.item(), error.item())
