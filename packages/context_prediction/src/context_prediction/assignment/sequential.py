"""The assignment engine that is always there: SciPy, one problem after another."""

import numpy as np
import torch
from torch import Tensor

BLOCK = 2**20


def scipy_loop(cost: Tensor) -> Tensor:
    r"""Solve the problems `(n, q, q)` one by one on one core with SciPy's shortest augmenting paths.

    Time $O(n q^3)$; memory that of the costs on the CPU, which pass through float64 a few megabytes at a time. Chosen
    for q above 5 on the CPU where numba is not installed.
    """
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]  # slow to import, not always needed

    columns = np.empty(cost.shape[:2], dtype=np.int64)
    k = 0
    for block in torch.split(cost.detach().cpu(), max(1, BLOCK // cost.shape[-1] ** 2)):
        for problem in block.double().numpy():
            columns[k] = linear_sum_assignment(problem)[1]
            k += 1
    return torch.from_numpy(columns).to(cost.device)
