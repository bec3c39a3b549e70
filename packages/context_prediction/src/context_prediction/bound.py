r"""The bound that motivates context prediction, for ordered predictions under squared error.

Let $\Psi(j \to i)$ be the prediction of unit i made at unit j, $\Psi(i \to i)$ the point prediction, and let every unit
average the predictions that arrive at it. By Jensen's inequality the error of the average is at most the average error;
summed over units and re-indexed by origin,

$$ \sum_i \Big\lVert x^i - \tfrac{1}{m_i} \sum_{j \to i} \Psi(j \to i) \Big\rVert^2
   \le \frac{1}{\min_i m_i} \sum_j \sum_{i \in N_j \cup \{j\}} \lVert x^i - \Psi(j \to i) \rVert^2, $$

where $m_i$ counts the predictions that arrive at unit i, its own among them: $p + 1$ on a torus and behind a mirror
that repeats the edge (`Border.SYMMETRIC`); fewest in a corner with `Border.VALID` and `Border.REFLECT`, $(s+1)^n$ for
stride s on n axes longer than s + 1. Averaging what a unit *sends* mixes predictions of different targets and bounds
nothing. Nor is the trained, matched loss a bound: it is at most the ordered one.

For tokens the same holds of negative log-likelihoods, of which the average is a mixture of the distributions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ._types import Counts, Grid, LogProbabilities, Ordered, OrderedLogProbabilities, PerExample, Tokens
from .neighbourhood import Neighbourhood, NeighbourPositions

NORMALISED = 0.01


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

    Raises:
        ValueError: shapes that differ from these.

    Source: ConPreDiff aggregation bound
    Deviation: averages what arrives at a unit, not, as the formula reads, what it sends, which bounds nothing [fixed].
    """
    _check(point, neighbours, neighbourhood)
    grid = point.shape[2:]
    found = _on(neighbourhood.neighbours(*grid), point.device)
    sent = neighbours.where(found.exists[None, :, None], 0).transpose(1, 2).flatten(2)
    arrived = point.flatten(2).index_add(2, found.positions.flatten(), sent).reshape(point.shape)
    return arrived / arrivals(neighbourhood, *grid).to(point)


def ordered_loss(point: Grid, neighbours: Ordered, target: Grid, neighbourhood: Neighbourhood) -> PerExample:
    r"""Squared error of the points and of their neighbours, each against its own target, summed over the grid.

    Raises:
        TypeError: an integer target.
        ValueError: shapes that differ from `(b, c, *grid)`, `(b, p, c, *grid)`, `(b, c, *grid)`.

    Source: ConPreDiff point and neighbourhood loss
    """
    _check(point, neighbours, neighbourhood)
    _check_target(point, target)
    real = neighbourhood.all_neighbours(target)
    outward = (neighbours - real.values).where(real.exists[None, :, None], 0).square()
    return (point - target).square().flatten(1).sum(1) + outward.flatten(1).sum(1)


def bound(point: Grid, neighbours: Ordered, target: Grid, neighbourhood: Neighbourhood) -> AggregationBound:
    """Error of the aggregated prediction, the loss that bounds it, and the constant between them.

    Shapes and errors as in `ordered_loss`.

    Source: ConPreDiff aggregation bound
    Deviation: the constant is 1 / min_i m_i, 1/4 for stride 1 with valid borders, where the paper has 1/(p + 1) = 1/9
        [Neighbourhood.border].
    """
    loss = ordered_loss(point, neighbours, target, neighbourhood)
    error = (aggregate(point, neighbours, neighbourhood) - target).square().flatten(1).sum(1)
    return AggregationBound(error, loss, _constant(neighbourhood, target.shape[2:]))


def aggregate_log_probabilities(
    point: LogProbabilities, neighbours: OrderedLogProbabilities, neighbourhood: Neighbourhood
) -> LogProbabilities:
    r"""Average all distributions that arrive at a unit: $\log \frac{1}{m_i} \sum_{j \to i} \exp \Psi(j \to i)$.

    `point (b, k, *grid)` holds log-probabilities of the units' tokens, `neighbours (b, p, k, *grid)` of their
    neighbours', in the order of `Neighbourhood.offsets`; entries for neighbours that do not exist are ignored.

    Raises:
        ValueError: shapes that differ from these.

    Source: ConPreDiff aggregation bound
    Unstated: what is averaged for tokens; distributions, not their logarithms [fixed].
    """
    _check(point, neighbours, neighbourhood)
    grid = point.shape[2:]
    found = _on(neighbourhood.neighbours(*grid), point.device)
    sent = neighbours.where(found.exists[None, :, None], -torch.inf).transpose(1, 2).flatten(2)
    own, to = point.flatten(2), found.positions.flatten()
    highest = own.detach().scatter_reduce(2, to.expand_as(sent), sent.detach(), "amax")
    highest = highest.clamp(min=torch.finfo(own.dtype).min)
    total = (own - highest).exp().index_add(2, to, (sent - highest[:, :, to]).exp())
    return (total.log() + highest).reshape(point.shape) - arrivals(neighbourhood, *grid).to(point).log()


def discrete_bound(
    point: LogProbabilities, neighbours: OrderedLogProbabilities, tokens: Tokens, neighbourhood: Neighbourhood
) -> AggregationBound:
    r"""Counterpart of `bound` for tokens, with negative log-likelihoods in place of squared errors.

    $$ -\sum_i \log \tfrac{1}{m_i} \sum_{j \to i} P_{j \to i}(x^i)
       \le \frac{1}{\min_i m_i} \sum_j \sum_{i \in N_j \cup \{j\}} -\log P_{j \to i}(x^i) $$

    By Jensen's inequality, since $-\log$ is convex, and because no likelihood of a token exceeds 1. `point (b, k,
    *grid)` and `neighbours (b, p, k, *grid)` are log-probabilities, `tokens (b, *grid)` the clean ones, in 0 .. k - 1.

    Raises:
        TypeError: tokens that are not integers.
        ValueError: shapes that differ from these, tokens out of range, or logits that are not normalised over k.

    Source: ConPreDiff aggregation bound
    Unstated: the bound for tokens, being stated for squared errors alone; that of negative log-likelihoods [fixed].
    """
    _check(point, neighbours, neighbourhood)
    _check_tokens(point, tokens)
    found = _on(neighbourhood.neighbours(*tokens.shape[1:]), tokens.device)
    _check_normalised("point", point)
    _check_normalised("neighbours", neighbours.transpose(1, 2).where(found.exists, -math.log(point.shape[1])))
    real = tokens.flatten(1)[:, found.positions]
    outward = neighbours.gather(2, real[:, :, None])[:, :, 0].where(found.exists, 0)
    loss = -_likelihood(point, tokens) - outward.flatten(1).sum(1)
    error = -_likelihood(aggregate_log_probabilities(point, neighbours, neighbourhood), tokens)
    return AggregationBound(error, loss, _constant(neighbourhood, tokens.shape[1:]))


def _likelihood(log_probabilities: Tensor, tokens: Tensor) -> Tensor:
    return log_probabilities.gather(1, tokens[:, None]).flatten(1).sum(1)


def _constant(neighbourhood: Neighbourhood, grid: Sequence[int]) -> float:
    return 1 / int(arrivals(neighbourhood, *grid).min())


def _on(found: NeighbourPositions, device: torch.device) -> NeighbourPositions:
    return NeighbourPositions(found.positions.to(device), found.exists.to(device))


def _check(point: Tensor, neighbours: Tensor, neighbourhood: Neighbourhood) -> None:
    b, channels, *grid = point.shape
    expected = (b, neighbourhood.size(len(grid)), channels, *grid)
    if neighbours.shape != expected:
        raise ValueError(
            f"neighbours has shape {tuple(neighbours.shape)}, but point {tuple(point.shape)} and {neighbourhood} ask"
            f" for {expected}; give one prediction for each of neighbourhood.offsets({len(grid)})"
        )


def _check_target(point: Tensor, target: Tensor) -> None:
    if not target.is_floating_point():
        raise TypeError(f"target has type {target.dtype}: give vectors; for tokens there is discrete_bound")
    if target.shape != point.shape:
        raise ValueError(f"target {tuple(target.shape)} and point {tuple(point.shape)} must have the same shape")


def _check_tokens(point: Tensor, tokens: Tensor) -> None:
    b, k, *grid = point.shape
    if tokens.is_floating_point():
        raise TypeError(f"tokens has type {tokens.dtype}: give token ids; for vectors there is bound")
    if tokens.shape != (b, *grid):
        raise ValueError(f"tokens has shape {tuple(tokens.shape)}; point {tuple(point.shape)} asks for {(b, *grid)}")
    if tokens.numel() and (int(tokens.min()) < 0 or int(tokens.max()) >= k):
        raise ValueError(
            f"tokens holds ids from {int(tokens.min())} to {int(tokens.max())}, but point {tuple(point.shape)} has"
            f" probabilities of {k}, 0 to {k - 1}; give clean tokens, without the mask"
        )


def _check_normalised(name: str, log_probabilities: Tensor) -> None:
    total = log_probabilities.detach().logsumexp(1)
    if not bool((total.abs() < NORMALISED).all()):
        raise ValueError(
            f"{name} is not normalised: its probabilities add up to other than 1; give log-probabilities, log_softmax"
            " of the logits over k"
        )
