"""The assignment engine that is always there: SciPy, one problem after another."""

import numpy as np
import torch
from torch import Tensor

BLOCK = 2**18


def scipy_loop(cost: Tensor) -> Tensor:
    r"""Solve the problems `(n, q, q)` one by one on one core with SciPy's shortest augmenting paths.

    Time $O(n q^3)$; memory that of the costs on the CPU, which pass through float64 two megabytes at a time. Chosen
    for q above 5 on the CPU where numba is not installed.
    """
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]  # slow to import, not always needed

    problems = cost.detach().cpu()
    if problems.dtype not in (torch.float32, torch.float64):
        problems = problems.float()
    block = np.empty((max(1, BLOCK // cost.shape[-1] ** 2), *cost.shape[1:]))
    columns = np.empty(cost.shape[:2], dtype=np.int64)
    for start in range(0, len(columns), len(block)):
        part = problems[start : start + len(block)].numpy()
        np.copyto(block[: len(part)], part)  # torch would wake its threads for it
        for k, problem in enumerate(block[: len(part)], start):
            columns[k] = linear_sum_assignment(problem)[1]
    return torch.from_numpy(columns).to(cost.device)
