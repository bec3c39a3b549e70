"""The question that every engine answers, and the choice among them."""

from collections.abc import Callable

import torch
from torch import Tensor

from context_prediction._types import Costs, Matching

from .enumeration import LARGEST_ENUMERATED, permutations
from .sequential import scipy_loop

CHUNK = 65_536

Engine = Callable[[Tensor], Tensor]


def linear_assignment(cost: Costs, *, engine: Engine | None = None, chunk: int = CHUNK) -> Matching:
    r"""Match rows to columns at the least total cost, exactly, for any number of problems at once.

    $\pi^* = \arg\min_{\pi \in S_q} \sum_j C_{j, \pi(j)}$ for each of the `(..., q, q)` costs; `matching[..., j]` is the
    column of row `j`, int64, on the cost's device, the same on every run. Totals are compared in double precision. At
    most `chunk` problems are held at a time. `engine` solves them; `None` lets `choose` decide.

    Raises:
        ValueError: a cost that is not finite, or not square; a chunk below 1.

    Source: ConPreDiff empirical Wasserstein distance
    """
    q = cost.shape[-1] if cost.ndim else 0
    if cost.ndim < 2 or cost.shape[-2] != q or q < 1:
        raise ValueError(f"cost has shape {tuple(cost.shape)}: its last two axes must be equal and at least 1")
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}: at least one problem must be held at a time")
    cost = cost.detach()
    if cost.numel() and not all(bound.isfinite() for bound in torch.aminmax(cost)):
        raise ValueError(
            f"cost {tuple(cost.shape)} holds values that are not finite; look for overflow or NaN in its origin"
        )
    problems = cost.reshape(-1, q, q)
    solve = engine or choose(cost.device, q, min(len(problems), chunk))
    parts = [solve(part) for part in torch.split(problems, chunk)]
    return torch.cat(parts).reshape(cost.shape[:-1])


def choose(device: torch.device, q: int, n: int) -> Engine:
    """Choose the engine expected to solve `n` problems of size `q` fastest on `device`, of those that are installed."""
    return permutations if q <= LARGEST_ENUMERATED else scipy_loop
