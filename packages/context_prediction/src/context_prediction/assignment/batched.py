"""The assignment engine for any device: shortest augmenting paths on all problems at once, in plain torch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .precision import in_double


@dataclass(frozen=True)
class Paths:
    """Shortest paths from one row of each of `m` problems to the nearest column that nobody owns."""

    end: Tensor
    length: Tensor
    predecessor: Tensor
    settled: Tensor


@dataclass(frozen=True)
class Pairs:
    """What is matched so far: `owner (n, q)` of columns, `column (n, q)` of rows, -1 for none; `price (n, q)`."""

    price: Tensor
    owner: Tensor
    column: Tensor


def torch_batched(cost: Tensor) -> Tensor:
    r"""Solve the problems `(n, q, q)` side by side with torch operations, on the device of the costs.

    Each column is offered to its cheapest row; every row that is left over then takes the shortest augmenting path
    (Dijkstra on the reduced costs $C_{ij} - v_j$) in the problems where it has no column. Time $O(n q^3)$ in $O(q^2)$
    steps of a dozen kernels; memory about $8 n (q^2 + 6 q)$ bytes. It makes the same choices as `numba_threads` and
    `triton_programs`, ties included. Chosen on CUDA for q above 5 where Triton is missing or q is above 128.
    """
    problems = in_double(cost)
    pairs = _cheapest_rows(problems)
    for row in range(cost.shape[-1]):
        unmatched = (pairs.column[:, row] < 0).nonzero()[:, 0]
        if len(unmatched):
            _augment(pairs, unmatched, row, _search(problems, pairs, unmatched, row))
    return pairs.column.to(cost.device)


def _cheapest_rows(cost: Tensor) -> Pairs:
    """Price of a column: its least cost. A row takes the first of the columns in which it is the first cheapest."""
    q = cost.shape[-1]
    cheapest = cost.argmin(1)
    price = cost.gather(1, cheapest[:, None])[:, 0]
    column = torch.full_like(cheapest, -1)
    for row in range(q):
        offered = cheapest == row
        column[:, row] = torch.where(offered.any(1), offered.int().argmax(1), -1)
    taken = column.gather(1, cheapest) == torch.arange(q, device=cost.device)
    return Pairs(price, torch.where(taken, cheapest, -1), column)


def _search(cost: Tensor, pairs: Pairs, problems: Tensor, row: int) -> Paths:
    """Dijkstra from `row` in each of the `problems (m,)`; those that have arrived are left out of the next step."""
    m, q = len(problems), cost.shape[-1]
    distance = cost.new_full((m, q), torch.inf)
    found = Paths(problems.new_zeros(m), cost.new_zeros(m), problems.new_zeros(m, q), distance.clone())
    at, rows, walked = torch.arange(m, device=cost.device), torch.full_like(problems, row), cost.new_zeros(m)
    for _ in range(q):
        here, unsettled = problems[at], found.settled[at].isinf()
        offer = cost[here, rows] - pairs.price[here] + walked[:, None]
        nearer = unsettled & (offer < distance[at])
        distance[at] = torch.where(nearer, offer, distance[at])
        found.predecessor[at] = torch.where(nearer, rows[:, None], found.predecessor[at])
        reach = torch.where(unsettled, distance[at], torch.inf)
        shortest = reach.amin(1)
        nearest, free = reach == shortest[:, None], pairs.owner[here] < 0
        column = (nearest.int() + (nearest & free).int()).argmax(1)
        found.end[at], found.length[at] = column, shortest
        on = ~free.gather(1, column[:, None])[:, 0]
        at, here, column, walked = at[on], here[on], column[on], shortest[on]
        if not len(at):
            break
        found.settled[at, column] = walked
        rows = pairs.owner[here, column]
        walked = walked - (cost[here, rows, column] - pairs.price[here, column])
    return found


def _augment(pairs: Pairs, problems: Tensor, row: int, paths: Paths) -> None:
    """Lower the prices along the way, and hand every column on the path to its predecessor."""
    lowered = torch.where(paths.settled.isinf(), 0.0, paths.settled - paths.length[:, None])
    pairs.price[problems] += lowered
    at, column = torch.arange(len(problems), device=problems.device), paths.end
    while len(at):
        here, owner = problems[at], paths.predecessor[at, column]
        pairs.owner[here, column] = owner
        given_up = pairs.column[here, owner]
        pairs.column[here, owner] = column
        on = owner != row
        at, column = at[on], given_up[on]
