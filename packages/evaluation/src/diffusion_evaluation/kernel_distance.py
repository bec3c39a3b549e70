"""The kernel distance (KID): an unbiased squared maximum mean discrepancy under a cubic polynomial kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from ._types import FakeFeatures, RealFeatures
from .features import UNNAMED, Space
from .score import Score
from .statistics import as_float64


def kernel_distance(
    real: RealFeatures,
    fake: FakeFeatures,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    space: Space = UNNAMED,
    generator: torch.Generator | None = None,
) -> Score:
    """The mean unbiased discrepancy over random subsets, `KID[<space>]`.

    `low` and `high` are the 2.5 % and 97.5 % quantiles over subsets: the spread of one subset, not of the mean.
    Each subset is `subset_size` rows without replacement of either side; it shrinks to the smaller side where that
    has fewer rows. Unbiased, so its expectation does not depend on the counts and it may be below zero.

    Source: KID polynomial kernel discrepancy
    """
    size = min(subset_size, len(real), len(fake))
    if subsets < 1:
        raise ValueError(f"subsets must be at least 1, got {subsets}")
    rows, others = as_float64(real), as_float64(fake)
    values = torch.tensor(
        [
            polynomial_discrepancy(_subset(rows, size, generator), _subset(others, size, generator))
            for _ in range(subsets)
        ],
        dtype=torch.float64,
    )
    low, high = values.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Score(f"KID[{space.name}]", values.mean().item(), len(real), len(fake), low, high, space)


def polynomial_discrepancy(real: RealFeatures, fake: FakeFeatures) -> float:
    r"""The unbiased estimate of the squared discrepancy under $k(x, y) = (x^T y / d + 1)^3$, in float64.

    $\frac{1}{n(n-1)} \sum_{i \ne j} k(x_i, x_j) + \frac{1}{m(m-1)} \sum_{i \ne j} k(y_i, y_j)
    - \frac{2}{nm} \sum_{ij} k(x_i, y_j)$.
    Raises ValueError when widths differ or a side has fewer than two rows.

    Source: KID polynomial kernel discrepancy
    """
    if real.shape[1] != fake.shape[1]:
        raise ValueError(f"real features have width {real.shape[1]}, fake ones {fake.shape[1]}")
    if min(len(real), len(fake)) < 2:
        raise ValueError(f"the unbiased discrepancy needs 2 rows a side, got {len(real)} real and {len(fake)} fake")
    x, y = as_float64(real), as_float64(fake)
    return (_mean_off_diagonal(x) + _mean_off_diagonal(y) - 2 * _kernel(x, y).mean()).item()


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _mean_off_diagonal(x: Tensor) -> Tensor:
    kernel = _kernel(x, x)
    return (kernel.sum() - kernel.trace()) / (len(x) * (len(x) - 1))


def _subset(rows: Tensor, size: int, generator: torch.Generator | None) -> Tensor:
    return rows[torch.randperm(len(rows), generator=generator)[:size].to(rows.device)]
