"""The kernel distance (KID): an unbiased squared maximum mean discrepancy, under a cubic polynomial or any kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ._types import FakeFeatures, FakeRows, RealFeatures, RealRows
from .arrays import feature_rows, require_equal_width
from .features import UNNAMED, Space
from .score import Score
from .statistics import as_float64

Kernel = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Polynomial:
    r"""The kernel $k(x, y) = (x^T y / d + c)^p$ of rows `(n, d)` and `(m, d)`: a matrix `(n, m)`.

    Source: KID polynomial kernel discrepancy
    """

    degree: int = 3
    offset: float = 1.0

    def __call__(self, x: RealFeatures, y: FakeFeatures) -> Tensor:
        """The kernel between all rows of `x` and all rows of `y`."""
        kernel: Tensor = (x @ y.T / x.shape[1] + self.offset) ** self.degree
        return kernel

    def __str__(self) -> str:
        return f"polynomial {self.degree}"


@dataclass(frozen=True)
class Gaussian:
    r"""The radial kernel $k(x, y) = \exp(-|x - y|^2 / 2 \sigma^2)$ of rows `(n, d)` and `(m, d)`: a matrix `(n, m)`."""

    sigma: float

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise ValueError(f"Gaussian: sigma is a positive length in feature space, got {self.sigma}")

    def __call__(self, x: RealFeatures, y: FakeFeatures) -> Tensor:
        """The kernel between all rows of `x` and all rows of `y`."""
        squared = torch.addmm(x.square().sum(1, keepdim=True) + y.square().sum(1), x, y.T, alpha=-2)
        return squared.clamp_min_(0).div_(-2 * self.sigma**2).exp_()

    def __str__(self) -> str:
        return f"rbf {self.sigma:g}"


CUBIC = Polynomial()


def kernel_distance(
    real: RealRows,
    fake: FakeRows,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    kernel: Kernel = CUBIC,
    space: Space = UNNAMED,
    generator: torch.Generator | None = None,
) -> Score:
    """The mean unbiased discrepancy over random subsets: `KID[<space>]`, or `KID[<space>, <kernel>]` of another kernel.

    `low` and `high` are the 2.5 % and 97.5 % quantiles over subsets: the spread of one subset, not of the mean. There
    are none for one subset, nor where every subset is the whole of both sides. Each subset is `subset_size` rows
    without replacement of either side; it shrinks to the smaller side where that has fewer rows. Unbiased, so its
    expectation does not depend on the counts and it may be below zero. A kernel maps float64 rows `(n, d)` and
    `(m, d)` to `(n, m)` and is named by its `str`.

    Source: KID polynomial kernel discrepancy
    """
    rows, others = feature_rows(real, "real"), feature_rows(fake, "fake")
    size = min(subset_size, len(rows), len(others))
    if subsets < 1:
        raise ValueError(f"subsets must be at least 1, got {subsets}")
    values = torch.tensor(
        [discrepancy(_subset(rows, size, generator), _subset(others, size, generator), kernel) for _ in range(subsets)],
        dtype=torch.float64,
    )
    name = f"KID[{space.name}]" if kernel == CUBIC else f"KID[{space.name}, {kernel}]"
    if subsets == 1 or size == len(rows) == len(others):
        return Score(name, values.mean().item(), len(rows), len(others), space=space)
    low, high = values.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Score(name, values.mean().item(), len(rows), len(others), low, high, space)


def polynomial_discrepancy(real: RealRows, fake: FakeRows) -> float:
    r"""The unbiased discrepancy under $k(x, y) = (x^T y / d + 1)^3$, see `discrepancy`.

    Source: KID polynomial kernel discrepancy
    """
    return discrepancy(real, fake, CUBIC)


def discrepancy(real: RealRows, fake: FakeRows, kernel: Kernel) -> float:
    r"""The unbiased estimate of the squared maximum mean discrepancy under a kernel, in float64.

    $\frac{1}{n(n-1)} \sum_{i \ne j} k(x_i, x_j) + \frac{1}{m(m-1)} \sum_{i \ne j} k(y_i, y_j)
    - \frac{2}{nm} \sum_{ij} k(x_i, y_j)$. It holds matrices of n x n, m x m and n x m kernel values in turn.
    Raises ValueError when widths differ or a side has fewer than two rows.

    Source: KID polynomial kernel discrepancy
    """
    x, y = as_float64(feature_rows(real, "real")), as_float64(feature_rows(fake, "fake"))
    require_equal_width(x, y)
    if min(len(x), len(y)) < 2:
        raise ValueError(f"the unbiased discrepancy needs 2 rows a side, got {len(x)} real and {len(y)} fake")
    across = kernel(x, y.to(x.device)).mean()
    return (_mean_off_diagonal(x, kernel) + _mean_off_diagonal(y, kernel).to(x.device) - 2 * across).item()


def _mean_off_diagonal(x: Tensor, kernel: Kernel) -> Tensor:
    values = kernel(x, x)
    return (values.sum() - values.trace()) / (len(x) * (len(x) - 1))


def _subset(rows: Tensor, size: int, generator: torch.Generator | None) -> Tensor:
    return rows[torch.randperm(len(rows), generator=generator)[:size].to(rows.device)]
