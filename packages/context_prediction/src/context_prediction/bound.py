r"""The bound that motivates context prediction, for ordered predictions under squared error.

Let $\Psi(j \to i)$ be the prediction of unit i made at unit j, $\Psi(i \to i)$ the point prediction, and let every unit
average the predictions that arrive at it. By Jensen's inequality the error of the average is at most the average error;
summed over units and re-indexed by origin,

$$ \sum_i \Big\lVert x^i - \tfrac{1}{m_i} \sum_{j \to i} \Psi(j \to i) \Big\rVert^2
   \le \frac{1}{\min_i m_i} \sum_j \sum_{i \in N_j \cup \{j\}} \lVert x^i - \Psi(j \to i) \rVert^2, $$

where $m_i$ counts the predictions that arrive at unit i, its own among them: p + 1 on a torus, fewer at a border.
Averaging what a unit *sends* mixes predictions of different targets and bounds nothing. Nor is the trained, matched
loss a bound: it is at most the ordered one.
"""

from dataclasses import dataclass

import torch

from ._types import Counts, Grid, Ordered, PerExample
from .neighbourhood import Neighbourhood, NeighbourPositions


@dataclass(frozen=True)
class AggregationBound:
    """Both sides of the inequality, per example: `error <= constant * loss`."""

    error: PerExample
    loss: PerExample
    constant: float


def arrivals(neighbourhood: Neighbourhood, *grid: int) -> Counts:
    """Number of predictions that arrive at each unit of a `grid`, its own among them."""
    found = neighbourhood.neighbours(*grid)
    arrived = torch.bincount(found.positions[found.exists], minlength=found.positions[0].numel())
    return arrived.reshape(grid) + 1


def aggregate(point: Grid, neighbours: Ordered, neighbourhood: Neighbourhood) -> Grid:
    r"""Average all predictions that arrive at a unit: $\frac{1}{m_i} \sum_{j \to i} \Psi(j \to i)$.

    `point (b, c, *grid)` predicts the units themselves, `neighbours (b, p, c, *grid)` theirs, in the order of
    `Neighbourhood.offsets`; entries for neighbours that do not exist are ignored.

    Source: ConPreDiff aggregation bound
    Deviation: averages what arrives at a unit, not, as the formula reads, what it sends, which bounds nothing.
    """
    grid = point.shape[2:]
    found = _on(neighbourhood.neighbours(*grid), point.device)
    sent = (neighbours * found.exists[None, :, None]).transpose(1, 2).flatten(2)
    arrived = point.flatten(2).index_add(2, found.positions.flatten(), sent).reshape(point.shape)
    return arrived / arrivals(neighbourhood, *grid).to(point)


def ordered_loss(point: Grid, neighbours: Ordered, target: Grid, neighbourhood: Neighbourhood) -> PerExample:
    r"""Squared error of the points and of their neighbours, each against its own target, summed over the grid.

    Source: ConPreDiff point and neighbourhood loss
    """
    real = neighbourhood.all_neighbours(target)
    outward = ((neighbours - real.values) * real.exists[None, :, None]).square()
    return (point - target).square().flatten(1).sum(1) + outward.flatten(1).sum(1)


def bound(point: Grid, neighbours: Ordered, target: Grid, neighbourhood: Neighbourhood) -> AggregationBound:
    """Error of the aggregated prediction, the loss that bounds it, and the constant between them.

    Source: ConPreDiff aggregation bound
    Deviation: the constant is 1 / min_i m_i, 1/4 for stride 1 with valid borders, where the paper has 1/(p + 1) = 1/9.
    """
    error = (aggregate(point, neighbours, neighbourhood) - target).square().flatten(1).sum(1)
    fewest = int(arrivals(neighbourhood, *target.shape[2:]).min())
    return AggregationBound(error, ordered_loss(point, neighbours, target, neighbourhood), 1 / fewest)


def _on(found: NeighbourPositions, device: torch.device) -> NeighbourPositions:
    return NeighbourPositions(found.positions.to(device), found.exists.to(device))
