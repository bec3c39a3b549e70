"""Exact optimal transport between two sets of vectors, by assignment where each has one partner."""

import torch
from torch import Tensor

from ._types import Distances, LeftSet
from .assignment import CHUNK, Engine, linear_assignment
from .distances import EXACT, OtherSet, as_sets
from .plan import LeftMass, RightMass, transport_plan


def wasserstein(
    a: LeftSet,
    b: OtherSet,
    *,
    a_mass: LeftMass | None = None,
    b_mass: RightMass | None = None,
    engine: Engine | None = None,
    chunk: int = CHUNK,
) -> Distances:
    r"""Squared 2-Wasserstein distance between two empirical measures, per channel.

    $W_2^2(a, b) = \min_{\pi \in S_q} \frac{1}{q c} \sum_{j=1}^q \lVert a_j - b_{\pi(j)} \rVert^2$ for sets `(..., q,
    c)`; zero iff they are equal as multisets. The matching is found on detached costs, so the gradient flows through
    the matched pairs alone (the envelope theorem: exact wherever the optimal matching is unique). Computed in at least
    single precision. `engine` and `chunk` are those of `linear_assignment`.

    Sets of unequal sizes, `(..., q, c)` and `(..., r, c)`, or with masses, `(..., q)` and `(..., r)`, are transported
    by a plan: $\min_P \frac{1}{c} \sum_{jk} P_{jk} \lVert a_j - b_k \rVert^2$, see `transport_plan`, which needs the
    extra `ot`. Masses are divided by their sum, and receive no gradient.

    Raises:
        ValueError: sets of different width or leading axes, values that are not finite, masses that are none.
        ImportError: unequal sizes or masses, and POT is not installed.

    Source: ConPreDiff empirical Wasserstein distance
    Deviation: divided by channels as well as by q, so that a weight keeps its meaning for any width: 1/(q c), not 1/q
        [ContextPrediction.distance].
    """
    a, b = as_sets(a, b)
    if a.shape == b.shape and a_mass is None and b_mass is None:
        return (a - _matched(a, b, engine, chunk)).square().mean((-2, -1))
    lengths = torch.cdist(a, b, compute_mode=EXACT)
    plan = transport_plan(lengths.detach().square(), a_mass, b_mass)
    cost: Tensor = (plan * lengths.square()).sum((-2, -1)) / a.shape[-1]
    return cost


def wasserstein_rms(
    a: LeftSet,
    b: OtherSet,
    *,
    a_mass: LeftMass | None = None,
    b_mass: RightMass | None = None,
    engine: Engine | None = None,
    chunk: int = CHUNK,
) -> Distances:
    r"""Mean root-mean-square distance of optimally matched pairs: NWR-GAE's released form of the loss.

    $\min_{\pi \in S_q} \frac{1}{q} \sum_j \sqrt{\lVert a_j - b_{\pi(j)} \rVert^2 / c}$ for sets `(..., q, c)`; a
    1-Wasserstein distance. The gradient of a pair at distance zero is zero. All else as in `wasserstein`.

    Source: NWR-GAE neighbourhood reconstruction loss
    """
    a, b = as_sets(a, b)
    if a.shape == b.shape and a_mass is None and b_mass is None:
        apart = a - _matched(a, b, engine, chunk, power=1)
        distances: Tensor = torch.linalg.vector_norm(apart, dim=-1).mean(-1) / apart.shape[-1] ** 0.5
        return distances
    lengths = torch.cdist(a, b, compute_mode=EXACT)
    cost: Tensor = (transport_plan(lengths.detach(), a_mass, b_mass) * lengths).sum((-2, -1)) / a.shape[-1] ** 0.5
    return cost


def _matched(a: Tensor, b: Tensor, engine: Engine | None, chunk: int, power: int = 2) -> Tensor:
    """Reorder `b` so that its j-th vector is the partner of `a`'s, at the least sum of distances to the `power`."""
    rows, columns = a.detach().reshape(-1, *a.shape[-2:]), b.detach().reshape(-1, *b.shape[-2:])
    parts = [
        linear_assignment(torch.cdist(x, y, compute_mode=EXACT) ** power, engine=engine, chunk=chunk)
        for x, y in zip(torch.split(rows, chunk), torch.split(columns, chunk), strict=True)
    ]
    matching = torch.cat(parts).reshape(a.shape[:-1])
    return b.gather(-2, matching[..., None].expand_as(b))
