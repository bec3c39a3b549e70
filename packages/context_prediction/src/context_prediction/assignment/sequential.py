"""The assignment engine that is always there: SciPy, one problem after another."""

import numpy as np
import torch
from torch import Tensor


def scipy_loop(cost: Tensor) -> Tensor:
    r"""Solve the problems `(n, q, q)` one by one on the CPU with SciPy's shortest augmenting paths.

    Time $O(n q^3)$; memory $8 n q^2$ bytes for the costs in float64.
    """
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]  # slow to import, not always needed

    problems = cost.detach().double().cpu().numpy()
    columns = np.empty(problems.shape[:2], dtype=np.int64)
    for row, problem in zip(columns, problems, strict=True):
        row[:] = linear_sum_assignment(problem)[1]
    return torch.from_numpy(columns).to(cost.device)
