"""Density and coverage: how deep fakes lie in the real manifold, and how much of it they reach."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ._types import FakeRows, RealRows
from .arrays import feature_rows
from .features import UNNAMED, Space
from .neighbours import Manifold, as_manifold, distance_blocks, some_in
from .precision_recall import neighbourhood_name
from .score import Score, mean_score, proportion


@dataclass(frozen=True)
class DensityCoverage:
    """The mean number of real balls that hold a fake row, over k, and the share of real balls that hold a fake row."""

    density: Score
    coverage: Score


def density_coverage(
    real: Manifold | RealRows,
    fake: FakeRows,
    *,
    neighbours: int | None = None,
    level: float = 0.95,
    space: Space = UNNAMED,
) -> DensityCoverage:
    r"""`density[<space>, k=<neighbours>]` and `coverage[...]`, with a normal and a Wilson interval.

    Density is $\frac{1}{k m} \sum_j \sum_i [|x_i - y_j| \le |x_i - \mathrm{NN}_k(x_i)|]$, above 1 where fakes crowd
    where real points are dense; coverage is the share of real points whose ball holds a fake. Both depend on the real
    manifold alone, so that outliers among the fakes do not count. `neighbours` is 5 unless given. The intervals hold
    the real manifold fixed.

    Takes memory for one block of distances. Raises ValueError when widths differ or the real side has no more rows
    than neighbours.

    Source: Density and Coverage density, Density and Coverage coverage
    """
    if neighbours is None and not isinstance(real, Manifold):
        neighbours = 5
    manifold, others = as_manifold(real, neighbours, None, "real"), feature_rows(fake, "fake")
    radii = manifold.squared_radii
    holds, balls = torch.zeros_like(radii, dtype=torch.bool), radii.new_zeros(len(others))
    for rows, columns, squared in distance_blocks(manifold.features, others, manifold.arithmetic):
        inside = squared <= radii[rows, None]
        holds[rows] |= some_in(inside, 1)
        balls[columns] += inside.sum(dim=0)
    where = neighbourhood_name(manifold, space)
    density = mean_score(balls / manifold.neighbours, f"density[{where}]", n_real=len(radii), level=level)
    coverage = replace(
        proportion(holds, f"coverage[{where}]", level=level), n_real=len(radii), n_fake=len(others), space=space
    )
    return DensityCoverage(replace(density, space=space), coverage)


def authenticity(real: RealRows, fake: FakeRows, *, level: float = 0.95, space: Space = UNNAMED) -> Score:
    """The share of fakes that are no copies: `authenticity[<space>]`, with its Wilson interval.

    A fake is authentic when its nearest real row is nearer to another real row than to the fake. A generator that
    copies its training set, which must then be the real side, comes near 0.

    Source: Authenticity definition
    """
    manifold, others = Manifold.of(real, neighbours=1, argument="real"), feature_rows(fake, "fake")
    nearest = manifold.squared_radii.new_full((len(others),), torch.inf)
    radius = torch.zeros_like(nearest)
    for rows, columns, squared in distance_blocks(manifold.features, others, manifold.arithmetic):
        closest: Tensor
        closest, index = squared.min(dim=0)
        nearer = closest < nearest[columns]
        radius[columns] = torch.where(nearer, manifold.squared_radii[rows][index], radius[columns])
        nearest[columns] = torch.minimum(closest, nearest[columns])
    score = proportion(nearest > radius, f"authenticity[{space.name}]", level=level)
    return replace(score, n_real=len(manifold), space=space)
