"""The question that every engine answers, and the choice among them."""

import math
from collections.abc import Callable
from typing import no_type_check

import torch
from torch import Tensor

from context_prediction._types import Costs, Matching

from .batched import torch_batched
from .enumeration import permutations
from .programs import LARGEST_PROGRAM, triton_is_usable, triton_programs
from .sequential import scipy_loop
from .threads import NUMBA_IS_INSTALLED, numba_threads

CHUNK = 65_536
LARGEST_ENUMERATED = 5
LARGEST_ENUMERATED_BESIDE_NUMBA = 4
SUMS_MAY_OVERFLOW = 2.0**900

Engine = Callable[[Tensor], Tensor]


def linear_assignment(cost: Costs, *, engine: Engine | None = None, chunk: int = CHUNK) -> Matching:
    r"""Match rows to columns at the least total cost, exactly, for any number of problems at once.

    $\pi^* = \arg\min_{\pi \in S_q} \sum_j C_{j, \pi(j)}$ for each of the `(..., q, q)` costs; `matching[..., j]` is the
    column of row `j`, int64, on the cost's device, the same on every run. Totals are compared in double precision:
    exactly, unless the costs of one problem differ by more than about seven orders of magnitude. At most `chunk`
    problems are held at a time. `engine` solves them; `None` lets `choose` decide.

    Raises:
        ValueError: a cost that is not finite, or not square; a chunk below 1.

    Source: ConPreDiff empirical Wasserstein distance
    """
    q = cost.shape[-1] if cost.ndim else 0
    if cost.ndim < 2 or cost.shape[-2] != q or q < 1:
        raise ValueError(f"cost has shape {tuple(cost.shape)}: its last two axes must be equal and at least 1")
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}: hold at least 1 problem at a time")
    if engine is None and torch.compiler.is_compiling():
        matching: Tensor = _in_one_piece(cost.detach(), chunk)
        return matching
    return _solve(cost.detach(), engine or choose(cost.device, q), chunk)


def choose(device: torch.device, q: int) -> Engine:
    """Choose the engine expected to solve problems of size `q` fastest on `device`, of those that are installed.

    Permutations where they are few (q up to 5, or up to 4 beside numba); else on CUDA Triton or batched torch, and on
    the CPU numba or SciPy. The choice does not depend on the number of problems, so that neither the batch nor the
    chunks decide which of several equally good matchings is taken. Other devices are served by the CPU's engines.
    """
    if device.type == "cuda":
        if q <= LARGEST_ENUMERATED:
            return permutations
        return triton_programs if q <= LARGEST_PROGRAM and triton_is_usable() else torch_batched
    if NUMBA_IS_INSTALLED:
        return permutations if q <= LARGEST_ENUMERATED_BESIDE_NUMBA else numba_threads
    return permutations if q <= LARGEST_ENUMERATED else scipy_loop


def _summable(cost: Tensor) -> Tensor:
    """Refuse costs that are not finite; halve those whose sums would overflow, often enough."""
    if not cost.numel():
        return cost
    low, high = torch.stack(torch.aminmax(cost)).tolist()
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(
            f"cost {tuple(cost.shape)} holds values that are not finite; look for overflow or NaN in its origin"
        )
    return cost * 2.0**-64 if max(-low, high) > SUMS_MAY_OVERFLOW else cost


def _solve(cost: Tensor, solve: Engine, chunk: int) -> Tensor:
    problems = _summable(cost).reshape(-1, *cost.shape[-2:])
    return torch.cat([solve(part) for part in torch.split(problems, chunk)]).reshape(cost.shape[:-1])


@torch.library.custom_op("context_prediction::linear_assignment", mutates_args=())
@no_type_check
def _in_one_piece(cost: Tensor, chunk: int) -> Tensor:
    """Keep compilers out of the engines; no graph is broken."""
    return _solve(cost, choose(cost.device, cost.shape[-1]), chunk)


@_in_one_piece.register_fake
@no_type_check
def _shape_in_one_piece(cost: Tensor, chunk: int) -> Tensor:
    return cost.new_empty(cost.shape[:-1], dtype=torch.int64)
