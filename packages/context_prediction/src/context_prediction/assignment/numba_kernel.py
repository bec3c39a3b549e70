"""Shortest augmenting paths, compiled by numba: imported only when they are first needed.

Annotations stay away from compiled functions. `fastmath` frees the compiler from NaN and from the sign of zero, which
lets it vectorise minima; the order of additions is kept.
"""
# ruff: noqa: ANN001, ANN201

from collections.abc import Callable
from functools import partial
from inspect import unwrap
from typing import Any, no_type_check

import numba  # type: ignore[import-not-found, import-untyped, unused-ignore]
import numpy as np

LANES = 4


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile without the interpreter's lock, and keep the result on disk where there is a place to write.

    What an import hook has wrapped around the function, as jaxtyping's does in tests, is not compiled.
    """
    compile_ = partial(numba.njit, nogil=True, fastmath={"nnan", "nsz"}, error_model="numpy")
    kernel: Callable[..., Any]
    try:
        kernel = compile_(cache=True)(unwrap(function))
    except RuntimeError:
        kernel = compile_()(unwrap(function))
    return kernel


@compiled
@no_type_check
def claim(cost, padded, price, cheapest, owner, column):
    """Copy the costs to float64, price each column at its least cost, and give it to the first row that has it."""
    q = len(column)
    for j in range(q):
        padded[0, j] = price[j] = cost[0, j]
        cheapest[j] = 0
        owner[j] = column[j] = -1
    for i in range(1, q):
        for j in range(q):
            entry = np.float64(cost[i, j])
            padded[i, j] = entry
            less = entry < price[j]
            price[j] = entry if less else price[j]
            cheapest[j] = i if less else cheapest[j]
    for j in range(q):
        if column[cheapest[j]] < 0:
            column[cheapest[j]] = j
            owner[j] = cheapest[j]


@compiled
@no_type_check
def first_at(distance, shortest, owner):
    """Find the first column at the shortest distance that nobody owns, or else the first at that distance."""
    first = 0
    while distance[first] != shortest:
        first += 1
    if owner[first] >= 0:
        for j in range(first + 1, len(distance)):
            if distance[j] == shortest and owner[j] < 0:
                return j
    return first


@compiled
@no_type_check
def search(start, cost, price, owner, distance, closing, predecessor, settled, lengths):
    """Walk from a row to the nearest column that nobody owns: `(column, its distance, how many were settled before)`.

    A settled column has `distance` and `-closing` infinite, so that it is neither nearest nor ever nearer. The column
    is -1 where all distances are infinite.
    """
    width = len(price)
    for j in range(width):
        distance[j] = np.inf
        closing[j] = price[j]
    row, walked, steps = start, 0.0, 0
    while True:
        for j in range(width):
            offer = cost[row, j] - closing[j] + walked
            nearer = offer < distance[j]
            distance[j] = offer if nearer else distance[j]
            predecessor[j] = row if nearer else predecessor[j]
        shortest = distance[0]
        for j in range(1, width):
            shortest = distance[j] if distance[j] < shortest else shortest
        if shortest == np.inf:
            return -1, shortest, steps
        nearest = first_at(distance, shortest, owner)
        if owner[nearest] < 0:
            return nearest, shortest, steps
        settled[steps] = nearest
        lengths[steps] = shortest
        steps += 1
        distance[nearest] = np.inf
        closing[nearest] = -np.inf
        row = owner[nearest]
        walked = shortest - (cost[row, nearest] - price[nearest])


@compiled
@no_type_check
def augment(start, end, owner, column, predecessor):
    """Hand every column on the path to its predecessor, back to the row where it starts."""
    j = end
    while True:
        i = predecessor[j]
        owner[j] = i
        column[i], j = j, column[i]
        if i == start:
            return


@compiled
@no_type_check
def solve(costs, matching):
    """Fill `matching (n, q)` from `costs (n, q, q)`; false where a problem has no matching of finite cost."""
    n, q = matching.shape
    width = (q + LANES - 1) // LANES * LANES
    cost, price, owner = np.full((q, width), np.inf), np.zeros(width), np.full(width, -1)
    distance, closing, lengths = np.empty(width), np.empty(width), np.empty(q)
    column, cheapest, settled = np.empty(q, np.int64), np.empty(q, np.int64), np.empty(q, np.int64)
    predecessor = np.empty(width, np.int64)
    for k in range(n):
        claim(costs[k], cost, price, cheapest, owner, column)
        for row in range(q):
            if column[row] >= 0:
                continue
            end, length, steps = search(row, cost, price, owner, distance, closing, predecessor, settled, lengths)
            if end < 0:
                return False
            for step in range(steps):
                price[settled[step]] += lengths[step] - length
            augment(row, end, owner, column, predecessor)
        matching[k] = column
    return True
