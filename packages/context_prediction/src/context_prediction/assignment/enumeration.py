"""The assignment engine for very small problems: try every permutation."""

import itertools
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

LARGEST_ENUMERATED = 5


def permutations(cost: Tensor) -> Tensor:
    r"""Best of all $q!$ permutations of every problem `(n, q, q)`, as one matrix product in float64, on any device.

    Time $O(n\,q!\,q^2)$, memory $8 n q!$ bytes. Of equally good permutations, the first in lexicographic order.

    Raises:
        ValueError: q above 8, where the table of permutations would fill the memory.
    """
    q = cost.shape[-1]
    if q > 8:
        raise ValueError(f"cost {tuple(cost.shape)} has {q}! permutations: leave out engine, or give another one")
    columns, chosen = _table(q)
    totals = cost.double().flatten(1) @ torch.as_tensor(chosen, device=cost.device)
    return torch.as_tensor(columns, device=cost.device)[totals.argmin(-1)]


@lru_cache
def _table(q: int) -> tuple[np.ndarray, np.ndarray]:
    """All permutations `(q!, q)`, and which of the `q * q` cost entries each of them adds up, `(q * q, q!)`."""
    columns = np.array(list(itertools.permutations(range(q))), dtype=np.int64)
    chosen = np.eye(q)[columns].reshape(len(columns), q * q).T.copy()
    return columns, chosen
