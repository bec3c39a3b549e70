"""The assignment engine that is always there: SciPy, one problem after another."""

import numpy as np
import torch
from torch import Tensor


def scipy_loop(cost: Tensor) -> Tensor:
    r"""Solve the problems `(n, q, q)` one by one on one core with SciPy's shortest augmenting paths.

    Time $O(n q^3)$, memory $8 n q^2$ bytes for the costs in float64. Chosen for q above 5 on the CPU where numba is
    not installed.
    """
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]  # slow to import, not always needed

    problems = cost.detach().cpu().double().numpy()
    columns = np.empty(problems.shape[:2], dtype=np.int64)
    for k, problem in enumerate(problems):
        columns[k] = linear_sum_assignment(problem)[1]
    return torch.from_numpy(columns).to(cost.device)
