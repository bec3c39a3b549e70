"""Precision and recall: the share of each set that lies on the manifold of the other."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ._types import FakeRows, PerRow, RealRows
from .arrays import feature_rows
from .features import UNNAMED, Space
from .neighbours import Arithmetic, Manifold, as_manifold, distance_blocks, some_in
from .score import Score, proportion


@dataclass(frozen=True)
class PrecisionRecall:
    """The share of fake features on the real manifold, and of real ones on the fake manifold."""

    precision: Score
    recall: Score


def precision_recall(
    real: Manifold | RealRows,
    fake: Manifold | FakeRows,
    *,
    neighbours: int | None = None,
    arithmetic: Arithmetic | None = None,
    level: float = 0.95,
    space: Space = UNNAMED,
) -> PrecisionRecall:
    r"""`precision[<space>, k=<neighbours>]` and `recall[...]` with their Wilson intervals.

    A point lies on the manifold of a set when it is within the distance of some point of the set to that point's
    k-th nearest other one, $|x - y| \le |y - \mathrm{NN}_k(y)|$. The intervals are those of a share with the manifolds
    held fixed. `neighbours` is 3 and `arithmetic` is `EXACT` unless given (or brought by a `Manifold`);
    `arithmetic=ADM` follows guided-diffusion's script, half precision in blocks of 10,000, and is named so.

    Takes memory for one block of distances and n + m flags, whatever the number of rows. Raises ValueError when widths
    differ, when a side has no more rows than neighbours, and when two manifolds were made differently.

    Source: Precision and Recall precision and recall
    """
    ours = as_manifold(real, neighbours, arithmetic, "real")
    theirs = as_manifold(fake, ours.neighbours, ours.arithmetic, "fake")
    covered, hit = torch.zeros(len(ours), dtype=torch.bool), torch.zeros(len(theirs), dtype=torch.bool)
    covered, hit = covered.to(ours.squared_radii.device), hit.to(ours.squared_radii.device)
    for rows, columns, squared in distance_blocks(ours.features, theirs.features, ours.arithmetic):
        hit[columns] |= some_in(squared <= ours.squared_radii[rows, None], 0)
        covered[rows] |= some_in(squared <= theirs.squared_radii[columns].to(squared.device), 1)
    where = neighbourhood_name(ours, space)

    def share(successes: Tensor, what: str) -> Score:
        score = proportion(successes, f"{what}[{where}]", level=level)
        return replace(score, n_real=len(ours), n_fake=len(theirs), space=space)

    return PrecisionRecall(share(hit, "precision"), share(covered, "recall"))


def realism(real: Manifold | RealRows, fake: FakeRows, *, neighbours: int | None = None) -> PerRow:
    r"""The realism of each fake row: $\max_i |x_i - \mathrm{NN}_k(x_i)| / |x_i - y|$ over the denser half of the balls.

    Only real points whose ball is narrower than the median ball count. 1 and above is on the manifold; a fake row
    equal to a real one has infinity. The result is `(n_fake,)` float64.

    Source: Precision and Recall realism score
    """
    manifold = as_manifold(real, neighbours, None, "real")
    others = feature_rows(fake, "fake")
    radii = manifold.squared_radii.sqrt()
    narrow = radii < radii.quantile(0.5)
    best = radii.new_zeros(len(others))
    for rows, columns, squared in distance_blocks(manifold.features[narrow], others, manifold.arithmetic):
        ratios = radii[narrow][rows, None] / squared.sqrt()
        best[columns] = torch.maximum(best[columns], ratios.amax(dim=0))
    return best


def neighbourhood_name(manifold: Manifold, space: Space) -> str:
    """The part of a score's name in brackets: the space, k and, where it is not exact, the arithmetic."""
    arithmetic = manifold.arithmetic.name
    return f"{space.name}, k={manifold.neighbours}" + (f", {arithmetic}" if arithmetic else "")
