"""CMMD: the maximum mean discrepancy between embeddings of images, such as CLIP's, under one wide Gaussian kernel."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ._types import FakeRows, Features, RealRows, Rows
from .arrays import feature_rows, require_equal_width
from .features import UNNAMED, Space
from .kernel_distance import Gaussian, Kernel
from .score import Score, normal_quantile
from .statistics import as_float64

PUBLISHED_KERNEL = Gaussian(10.0)
PUBLISHED_SCALE = 1000.0
_ROWS_AT_ONCE = 2048


def cmmd(real: RealRows, fake: FakeRows, *, level: float = 0.95, space: Space = UNNAMED) -> Score:
    r"""The squared discrepancy between two sets of embeddings, times 1000: `CMMD[<space>, x1e3]`.

    $1000 (\overline{k(x, x')} + \overline{k(y, y')} - 2 \overline{k(x, y)})$ with $k(x, y) = \exp(-|x - y|^2 / 200)$.

    Published numbers take CLIP ViT-L/14 embeddings at 336 pixels scaled to length 1 (`unit_rows`), without which the
    kernel's width means nothing. Means run over all pairs, equal ones too, so that the value is never negative and is
    above its expectation by about 1 / N. The interval is normal, with the spread of $\overline{k(x, X)} -
    \overline{k(x, Y)}$ over both sides; it describes the value at these counts and is too narrow where both sides are
    alike. Time is quadratic in the counts, memory is not.

    Raises ValueError when widths differ.

    Source: CMMD estimator
    """
    quantile = normal_quantile(level)
    x, y = as_float64(feature_rows(real, "real")), as_float64(feature_rows(fake, "fake"))
    require_equal_width(x, y)
    y = y.to(x.device)
    pairs = ((x, x), (y, y), (x, y))
    (within_x, _), (within_y, _), (x_to_y, y_to_x) = (_means(*pair, PUBLISHED_KERNEL) for pair in pairs)
    value = (within_x.mean() + within_y.mean() - 2 * x_to_y.mean()).clamp_min(0).item()
    name, counts = f"CMMD[{space.name}, x1e3]", (len(x), len(y))
    if min(counts) < 2:
        return Score(name, PUBLISHED_SCALE * value, *counts, space=space)
    witness = (within_x - x_to_y, within_y - y_to_x)
    radius = quantile * 2 * math.sqrt(sum(side.var().item() / len(side) for side in witness))
    low, high = (PUBLISHED_SCALE * bound for bound in (value - radius, value + radius))
    return Score(name, PUBLISHED_SCALE * value, *counts, low, high, space)


def unit_rows(embeddings: Rows) -> Features:
    """The embeddings `(n, d)` with every row scaled to length 1; ValueError names a row of zeros."""
    rows = feature_rows(embeddings, "embeddings")
    lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    empty = (lengths == 0).nonzero()
    if len(empty):
        raise ValueError(f"embeddings: {len(empty)} rows are zero, without direction; the first is row {empty[0, 0]}")
    return torch.div(rows, lengths)


def _means(x: Tensor, y: Tensor, kernel: Kernel) -> tuple[Tensor, Tensor]:
    """The mean kernel of each row of `x` to all rows of `y`, and of each row of `y` to all rows of `x`."""
    to_y, to_x = x.new_zeros(len(x)), x.new_zeros(len(y))
    for top in range(0, len(x), _ROWS_AT_ONCE):
        for left in range(0, len(y), _ROWS_AT_ONCE):
            rows, columns = slice(top, top + _ROWS_AT_ONCE), slice(left, left + _ROWS_AT_ONCE)
            values = kernel(x[rows], y[columns])
            to_y[rows] += values.sum(dim=1)
            to_x[columns] += values.sum(dim=0)
    return to_y / len(y), to_x / len(x)
