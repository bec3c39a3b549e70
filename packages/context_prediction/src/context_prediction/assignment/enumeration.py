"""The assignment engine for very small problems: try every permutation."""

import itertools

import numpy as np
import torch
from torch import Tensor

from .precision import in_double

LARGEST_TABLE = 8

_tables: dict[int, tuple[np.ndarray, np.ndarray]] = {}


def permutations(cost: Tensor) -> Tensor:
    r"""Take the best of all $q!$ permutations of every problem `(n, q, q)`, by one matrix product, on any device.

    Time $O(n\,q!\,q^2)$, memory $8 n q!$ bytes. Of equally good permutations, the first in lexicographic order.
    Chosen for q up to 5, or up to 4 on the CPU beside numba, whose kernel is faster from there on.

    Raises:
        ValueError: q above 8, whose permutations would fill the memory.
    """
    q = cost.shape[-1]
    if q > LARGEST_TABLE:
        raise ValueError(
            f"cost {tuple(cost.shape)} has {q}! permutations: too many to try; leave out engine, or name another"
        )
    columns, chosen = _table(q)
    problems = in_double(cost)
    totals = problems.flatten(1) @ torch.as_tensor(chosen, device=problems.device)
    return torch.as_tensor(columns, device=problems.device)[totals.argmin(-1)].to(cost.device)


def _table(q: int) -> tuple[np.ndarray, np.ndarray]:
    """All permutations `(q!, q)`, and which of the `q * q` cost entries each of them adds up, `(q * q, q!)`."""
    if q not in _tables:
        _tables[q] = _new_table(q)
    return _tables[q]


def _new_table(q: int) -> tuple[np.ndarray, np.ndarray]:
    columns = np.array(list(itertools.permutations(range(q))), dtype=np.int64)
    chosen = np.eye(q)[columns].reshape(len(columns), q * q).T.copy()
    return columns, chosen
