"""The manifold of a set of features: a ball about every point, as wide as the way to its k-th nearest neighbour."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ._types import FakeFeatures, PerRow, RealFeatures, Rows
from .arrays import feature_rows, require_equal_width
from .statistics import as_float64

_GROUP = 64
_NEAR = 1e-9
_PAIRS_AT_ONCE = 4096


@dataclass(frozen=True)
class Arithmetic:
    """How squared distances are computed, and how many rows and columns of their matrix are held at once.

    `squared_distances` maps rows `(r, d)` and `(s, d)` to a matrix `(r, s)`. `name` becomes part of the names of
    scores, unless it is empty.
    """

    name: str
    squared_distances: Callable[[Tensor, Tensor], Tensor]
    rows_at_once: int = 2048
    columns_at_once: int = 4096


def exact_squared_distances(x: RealFeatures, y: FakeFeatures) -> Tensor:
    r"""$|x_i - y_j|^2$ in float64: $|x|^2 + |y|^2 - 2 x^T y$ about a common origin, and differences where that cancels.

    The result is `(r, s)` for `x` `(r, d)` and `y` `(s, d)`. Equal rows are at distance 0 exactly.
    """
    x, y = as_float64(x), as_float64(y)
    origin = y.mean(dim=0)
    x, y = x - origin, y - origin
    squared, largest = _gram_distances(x, y)
    limit = _NEAR * largest
    if squared.amin() < limit:
        for pairs in torch.split(torch.nonzero(squared < limit), _PAIRS_AT_ONCE):
            rows, columns = pairs.unbind(1)
            squared[rows, columns] = (x[rows] - y[columns]).square().sum(1)
    return squared


def half_squared_distances(x: RealFeatures, y: FakeFeatures) -> Tensor:
    """Squared distances in float32 `(r, s)`, of features and to results rounded to float16, unless one overflows.

    Deviation: the published script leaves every step to TensorFlow's float16 kernels; here features and distances are
        rounded to float16 and sums are float32, which such kernels use for products of matrices [fixed].
    """
    rounded = _gram_distances(x.half().float(), y.half().float())[0].half()
    return rounded.float() if rounded.isfinite().all() else _gram_distances(x.float(), y.float())[0]


EXACT = Arithmetic("", exact_squared_distances)
ADM = Arithmetic("ADM", half_squared_distances, rows_at_once=10_000, columns_at_once=10_000)


@dataclass(frozen=True, eq=False)
class Manifold:
    """Features `(n, d)`, and the squared distance `(n,)` of each to its `neighbours`-th nearest other one.

    Make it once of a reference set with `Manifold.of` and give it to several scores in place of the features.
    """

    features: Tensor
    squared_radii: PerRow
    neighbours: int
    arithmetic: Arithmetic = EXACT

    @classmethod
    def of(
        cls, features: Rows, *, neighbours: int = 3, arithmetic: Arithmetic = EXACT, argument: str = "features"
    ) -> Manifold:
        """The manifold of features `(n, d)`; ValueError, naming the argument, unless 1 <= neighbours < n.

        Only blocks of the matrix of distances are held, and those below its diagonal are not computed.

        Source: Precision and Recall k-nearest-neighbour manifold
        """
        rows = feature_rows(features, argument)
        if not 1 <= neighbours < len(rows):
            raise ValueError(
                f"{argument}: neighbours must be between 1 and the number of other rows, {len(rows) - 1}; "
                f"got {neighbours}"
            )
        return cls(rows, nearest_squared_distances(rows, neighbours, arithmetic)[:, -1], neighbours, arithmetic)

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.features)


def nearest_squared_distances(rows: Tensor, neighbours: int, arithmetic: Arithmetic) -> Tensor:
    """The squared distances `(n, neighbours)`, ascending, of every row to the nearest other rows."""
    step = min(arithmetic.rows_at_once, arithmetic.columns_at_once)
    nearest: list[Tensor] = []
    blocks = torch.split(rows, step)
    for i, some in enumerate(blocks):
        for j, others in enumerate(blocks[i:], i):
            squared = arithmetic.squared_distances(some, others)
            if j == i:
                squared.fill_diagonal_(torch.inf)
            if i == 0:
                nearest.append(squared.new_full((len(others), neighbours), torch.inf))
            nearest[i] = smallest(torch.cat([nearest[i], smallest(squared, neighbours)], dim=1), neighbours)
            if j > i:
                nearest[j] = smallest(torch.cat([nearest[j], smallest(squared.T, neighbours)], dim=1), neighbours)
    return torch.cat(nearest)


def smallest(values: Tensor, count: int) -> Tensor:
    """The `count` smallest values of each row of `(r, s)`, ascending, or all s where there are fewer.

    The smallest values of a row lie in those groups of columns that have the smallest minima, and in the rest.
    """
    groups = values.shape[1] // _GROUP
    if groups > 2 * count:
        grouped = values[:, : groups * _GROUP].reshape(-1, groups, _GROUP)
        chosen = grouped.transpose(0, 1).amin(dim=2).T.topk(count, largest=False).indices
        found = grouped.gather(1, chosen[:, :, None].expand(-1, -1, _GROUP)).flatten(1)
        values = torch.cat([found, values[:, groups * _GROUP :]], dim=1)
    return values.topk(min(count, values.shape[1]), largest=False).values


def distance_blocks(real: Tensor, fake: Tensor, arithmetic: Arithmetic) -> Iterator[tuple[slice, slice, Tensor]]:
    """Rows, columns and squared distances between them, block by block; ValueError when widths differ."""
    require_equal_width(real, fake)
    for top in range(0, len(real), arithmetic.rows_at_once):
        rows = slice(top, top + arithmetic.rows_at_once)
        for left in range(0, len(fake), arithmetic.columns_at_once):
            columns = slice(left, left + arithmetic.columns_at_once)
            yield rows, columns, arithmetic.squared_distances(real[rows], fake[columns].to(real.device))


def some_in(mask: Tensor, dim: int) -> Tensor:
    """Whether anything along `dim` is true, as `mask.any(dim)` says, and sooner."""
    return mask.view(torch.uint8).amax(dim).bool()


def as_manifold(
    side: Manifold | Rows, neighbours: int | None, arithmetic: Arithmetic | None, argument: str
) -> Manifold:
    """The side itself, checked, when it is a manifold; else the manifold of its features (default: k = 3, exact)."""
    if not isinstance(side, Manifold):
        k = 3 if neighbours is None else neighbours
        return Manifold.of(side, neighbours=k, arithmetic=arithmetic or EXACT, argument=argument)
    if neighbours not in (None, side.neighbours) or arithmetic not in (None, side.arithmetic):
        raise ValueError(
            f"{argument}: the manifold was made with neighbours={side.neighbours} and "
            f"{side.arithmetic.name or 'exact'} arithmetic: leave both out, or make it anew"
        )
    return side


def _gram_distances(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    norms, others = x.square().sum(1, keepdim=True), y.square().sum(1)
    squared = torch.addmm(norms + others, x, y.T, alpha=-2).clamp_min_(0)
    return squared, norms.amax() + others.amax()
