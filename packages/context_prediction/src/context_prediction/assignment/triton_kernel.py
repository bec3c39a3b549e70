"""Shortest augmenting paths as a Triton kernel, one program for each problem: imported only when it is first needed.

The choices are those of `numba_kernel`, ties included; it describes them. Vectors `(WIDTH,)` over columns, or over rows
for `column`, are spread over the lanes; `WIDTH` is a power of two, and the lanes from q on stay idle.
"""
# ruff: noqa: ANN001, ANN201

from typing import no_type_check

import triton  # type: ignore[import-not-found, import-untyped, unused-ignore]
import triton.language as tl  # type: ignore[import-not-found, import-untyped, unused-ignore]


@triton.jit
@no_type_check
def entry_of(values, lanes, index):
    """Entry `index` of a vector that is spread over the lanes."""
    return tl.sum(tl.where(lanes == index, values, tl.zeros_like(values)))


@triton.jit
@no_type_check
def row_of(cost, row, q, lanes):
    """Costs of a row in float64, infinite in idle lanes."""
    return tl.load(cost + row * q + lanes, mask=lanes < q, other=float("inf")).to(tl.float64)


@triton.jit
@no_type_check
def claim(cost, q, lanes, WIDTH: tl.constexpr):
    """Price each column at its least cost, and give it to the first row that has it: `(price, owner, column)`."""
    price = tl.full((WIDTH,), float("inf"), tl.float64)
    cheapest = tl.full((WIDTH,), -1, tl.int32)
    for row in range(q):
        entries = row_of(cost, row, q, lanes)
        cheapest = tl.where(entries < price, row, cheapest)
        price = tl.where(entries < price, entries, price)
    price = tl.where(lanes < q, price, 0.0)
    owner = tl.full((WIDTH,), -1, tl.int32)
    column = tl.full((WIDTH,), -1, tl.int32)
    for row in range(q):
        claimed = tl.min(tl.where(cheapest == row, lanes, WIDTH))
        owner = tl.where(lanes == claimed, row, owner)
        column = tl.where((lanes == row) & (claimed < WIDTH), claimed, column)
    return price, owner, column


@triton.jit
@no_type_check
def search(start, cost, q, lanes, price, owner, WIDTH: tl.constexpr):
    """Walk from a row to the nearest column that nobody owns: `(column, price lowered on the way, predecessor)`."""
    distance = tl.full((WIDTH,), float("inf"), tl.float64)
    settled = tl.full((WIDTH,), float("inf"), tl.float64)
    predecessor = tl.full((WIDTH,), -1, tl.int32)
    row = start
    walked = tl.full((), 0.0, tl.float64)
    shortest = tl.full((), 0.0, tl.float64)
    end = tl.full((), -1, tl.int32)
    steps = 0
    while (end < 0) & (steps < q):
        offer = row_of(cost, row, q, lanes) - price + walked
        unsettled = (lanes < q) & (settled == float("inf"))
        nearer = unsettled & (offer < distance)
        distance = tl.where(nearer, offer, distance)
        predecessor = tl.where(nearer, row, predecessor)
        shortest = tl.min(tl.where(unsettled, distance, float("inf")))
        rank = tl.where(owner < 0, lanes, lanes + WIDTH)
        nearest = tl.min(tl.where(unsettled & (distance == shortest), rank, 2 * WIDTH - 1))
        if nearest < WIDTH:
            end = nearest
        else:
            nearest -= WIDTH
            settled = tl.where(lanes == nearest, shortest, settled)
            row = entry_of(owner, lanes, nearest)
            entry = tl.load(cost + row * q + nearest).to(tl.float64)
            walked = shortest - (entry - entry_of(price, lanes, nearest))
        steps += 1
    return end, tl.where(settled < float("inf"), price + (settled - shortest), price), predecessor


@triton.jit
@no_type_check
def augment(start, end, lanes, owner, column, predecessor):
    """Hand every column on the path to its predecessor, back to the row where it starts: `(owner, column)`."""
    row = tl.full((), -1, tl.int32)
    while (row != start) & (end >= 0):
        row = entry_of(predecessor, lanes, end)
        given_up = entry_of(column, lanes, row)
        owner = tl.where(lanes == end, row, owner)
        column = tl.where(lanes == row, end, column)
        end = given_up
    return owner, column


@triton.jit
@no_type_check
def solve(costs, matching, q, WIDTH: tl.constexpr):
    """Write the matching `(q,)` of problem `program_id`."""
    problem = tl.program_id(0).to(tl.int64)
    cost = costs + problem * q * q
    lanes = tl.arange(0, WIDTH)
    price, owner, column = claim(cost, q, lanes, WIDTH)
    for row in range(q):
        if entry_of(column, lanes, row) < 0:
            end, price, predecessor = search(row, cost, q, lanes, price, owner, WIDTH)
            owner, column = augment(row, end, lanes, owner, column, predecessor)
    tl.store(matching + problem * q + lanes, column.to(tl.int64), mask=lanes < q)
