r"""Other distances between two sets of vectors, to be given to `ContextPrediction(distance=...)`.

All take sets `(..., q, c)` and `(..., r, c)`, whose sizes need not be equal, and return `(...)` in at least single
precision. Points weigh the same, and squared lengths are divided by the channels, $\lVert x \rVert_c^2 = \lVert x
\rVert^2 / c$, so that a weight keeps its meaning for any width and all compare with `wasserstein`. Gradients are finite
where the sets coincide. What is random takes a `generator`; what is not, does not.

| distance | zero only for equal multisets | cost of one pair of sets |
|---|---|---|
| `wasserstein`, `wasserstein_rms` | yes | q^3, exact |
| `Sinkhorn` | yes, up to its convergence | q r per iteration; needs the extra `sinkhorn` |
| `energy_distance` | yes | q r |
| `SlicedWasserstein` | yes for almost all projections, if there are enough | (q + r) log(q + r) per projection |
| `chamfer` | no: equal sets, whatever their multiplicities | q r |
| `gaussian_wasserstein` | no: equal means and covariances | q r c and a singular value decomposition |
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ._types import Distances, LeftSet
from .optional import optional

Distance = Callable[[Tensor, Tensor], Tensor]
OtherSet = Float[Tensor, "*units r c"]
EXACT = "donot_use_mm_for_euclid_dist"


def chamfer(a: LeftSet, b: OtherSet) -> Distances:
    r"""Chamfer distance: mean squared distance to the nearest of the other set, both ways, per channel.

    $\frac{1}{q} \sum_i \min_j \lVert a_i - b_j \rVert_c^2 + \frac{1}{r} \sum_j \min_i \lVert a_i - b_j \rVert_c^2$. It
    is at most twice `wasserstein`, and blind to multiplicities: zero as soon as either set holds all of the other.

    Raises:
        ValueError: sets of different width or leading axes, or an empty one.

    Source: ConPreDiff surrogates of the matching
    """
    a, b = as_sets(a, b)
    lengths = torch.cdist(a.detach(), b.detach(), compute_mode=EXACT)
    to_b, to_a = _pick(b, lengths.argmin(-1)), _pick(a, lengths.argmin(-2))
    return (a - to_b).square().mean((-2, -1)) + (b - to_a).square().mean((-2, -1))


def energy_distance(a: LeftSet, b: OtherSet) -> Distances:
    r"""Energy distance: twice the mean distance across the sets, less the mean distances within them.

    $2 E \lVert a - b \rVert_c - E \lVert a - a' \rVert_c - E \lVert b - b' \rVert_c$ as a V-statistic:
    over all pairs, a point with itself among them. It is the distance of the empirical measures, hence at least zero,
    and zero for equal multisets alone. On draws it is biased upwards as an estimate for what they were
    drawn from (the unbiased U-statistic can be negative). The gradient of a pair at distance zero is zero.

    Raises:
        ValueError: sets of different width or leading axes, or an empty one.
    """
    a, b = as_sets(a, b)
    across, within_a, within_b = (
        torch.cdist(x, y, compute_mode=EXACT).mean((-2, -1)) for x, y in ((a, b), (a, a), (b, b))
    )
    return (2 * across - within_a - within_b) / math.sqrt(a.shape[-1])


def gaussian_wasserstein(a: LeftSet, b: OtherSet) -> Distances:
    r"""Squared 2-Wasserstein distance of the two normal distributions that share the sets' moments, per channel.

    $\lVert m_a - m_b \rVert_c^2 + \frac{1}{c} \operatorname{tr}\big(C_a + C_b - 2 (C_a^{1/2} C_b C_a^{1/2})^{1/2}\big)$
    (Bures), with the covariances of the empirical measures: divided by q and r. At most `wasserstein`, and zero for
    equal means and covariances, whatever the sets. With centred sets A and B as rows, the last trace is the nuclear
    norm of $A B^\top / \sqrt{q r}$, so that no covariance is inverted or even formed and singular ones do no harm; its
    gradient is that of the orthogonal factor held fixed (the envelope theorem), directions without variance left out.

    Raises:
        ValueError: sets of different width or leading axes, or an empty one.
    """
    a, b = as_sets(a, b)
    apart = (a.mean(-2) - b.mean(-2)).square().mean(-1)
    a, b = (x - x.mean(-2, keepdim=True) for x in (a / math.sqrt(a.shape[-2]), b / math.sqrt(b.shape[-2])))
    spread = a.square().sum((-2, -1)) + b.square().sum((-2, -1))
    shared = (_orthogonal_factor(a.detach() @ b.detach().mT) * (a @ b.mT)).sum((-2, -1))
    return apart + (spread - 2 * shared) / a.shape[-1]


@dataclass(frozen=True)
class SlicedWasserstein:
    r"""Sliced 2-Wasserstein distance, squared: the mean over random directions of that of the projections on a line.

    $\frac{1}{L} \sum_{l=1}^{L} W_2^2(\{\theta_l \cdot a_i\}, \{\theta_l \cdot b_j\})$ with `projections` L directions
    uniform on the sphere, drawn anew at every call and shared by all units. On a line the optimal transport is
    monotone, so sets of different sizes are compared exactly, by their quantile functions. The projection divides by
    the channels, $E (\theta \cdot x)^2 = \lVert x \rVert_c^2$: in expectation at most `wasserstein`, and
    equal to it for c = 1.

    Raises:
        ValueError: `projections` below 1; sets of different width or leading axes, or an empty one.
    """

    projections: int = 64

    def __post_init__(self) -> None:
        if self.projections < 1:
            raise ValueError(f"projections is {self.projections}: project on at least 1 direction")

    def __call__(self, a: LeftSet, b: OtherSet, *, generator: torch.Generator | None = None) -> Distances:
        a, b = as_sets(a, b)
        source = generator.device if generator is not None else a.device
        directions = torch.randn(a.shape[-1], self.projections, device=source, generator=generator).to(a)
        directions = directions / torch.linalg.vector_norm(directions, dim=0)
        lengths, of_a, of_b = (part.to(a.device) for part in _quantiles(a.shape[-2], b.shape[-2]))
        left = (a @ directions).sort(-2).values.index_select(-2, of_a)
        right = (b @ directions).sort(-2).values.index_select(-2, of_b)
        distances: Tensor = ((left - right).square().mean(-1) * lengths.to(a)).sum(-1)
        return distances


@dataclass(frozen=True)
class Sinkhorn:
    r"""Sinkhorn divergence, debiased, by geomloss: between `wasserstein` (`blur` to 0) and the distance of the means.

    $S_\varepsilon(a, b) = OT_\varepsilon(a, b) - \frac12 OT_\varepsilon(a, a) - \frac12 OT_\varepsilon(b, b)$ with the
    cost $\lVert x - y \rVert_c^2$ and $\varepsilon = 2\,\mathrm{blur}^2$. `blur` is a length per channel, below which
    details are not seen. The entropy is lowered from `diameter`, at least the largest such length between two points,
    by the factor `scaling` in (0, 1) at each iteration; nearer to 1 is slower and more exact. `diameter` is fixed,
    where geomloss takes that of the batch, so that a unit's distance depends on its own sets alone. Needs the extra
    `sinkhorn`.

    Raises:
        ValueError: settings out of range; sets of different width or leading axes, or an empty one.
        ImportError: geomloss is not installed.

    Source: ConPreDiff surrogates of the matching
    """

    blur: float = 0.05
    scaling: float = 0.5
    diameter: float = 10.0

    def __post_init__(self) -> None:
        if not (0 < self.blur < math.inf and 0 < self.diameter < math.inf and 0 < self.scaling < 1):
            raise ValueError(
                f"blur is {self.blur}, scaling {self.scaling}, diameter {self.diameter}: the lengths must be positive"
                " and finite, the factor between 0 and 1"
            )

    def __call__(self, a: LeftSet, b: OtherSet) -> Distances:
        a, b = as_sets(a, b)
        if a.shape[:-2].numel() == 0:
            return (a.sum((-2, -1)) + b.sum((-2, -1))).detach()
        divergence = optional("geomloss", "sinkhorn", "Sinkhorn").SamplesLoss(
            "sinkhorn", p=2, blur=self.blur, scaling=self.scaling, diameter=self.diameter, backend="tensorized"
        )
        width = math.sqrt(a.shape[-1])
        rows, columns = (x.reshape(-1, *x.shape[-2:]) / width for x in (a, b))
        halves: Tensor = divergence(rows, columns)
        return 2 * halves.reshape(a.shape[:-2])


def as_sets(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Two sets per unit, `(..., q, c)` and `(..., r, c)`, in one precision, at least single; others are refused."""
    alike = a.ndim == b.ndim >= 2 and a.shape[:-2] == b.shape[:-2] and a.shape[-1] == b.shape[-1]
    if not alike or 0 in (a.shape[-2], b.shape[-2], a.shape[-1]):
        raise ValueError(
            f"a has shape {tuple(a.shape)} and b {tuple(b.shape)}: give two sets (..., q, c) and (..., r, c) of at"
            " least one vector each, of the same width and for the same units"
        )
    common = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    return a.to(common), b.to(common)


def _pick(points: Tensor, chosen: Tensor) -> Tensor:
    """The `chosen` points of every set: `(..., q, c)` and `(..., r)` to `(..., r, c)`."""
    return points.gather(-2, chosen[..., None].expand(*chosen.shape, points.shape[-1]))


def _orthogonal_factor(matrix: Tensor) -> Tensor:
    """U V^T of the singular value decomposition, over the singular values that rounding leaves apart from zero."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    least = values[..., :1] * max(matrix.shape[-2:]) * torch.finfo(matrix.dtype).eps
    factor: Tensor = (left * (values > least)[..., None, :]) @ right
    return factor


def _quantiles(q: int, r: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pieces of (0, 1] on which both empirical quantile functions are constant: their lengths, and the rank in each."""
    whole = math.lcm(q, r)
    ends = torch.unique(torch.cat([torch.arange(1, q + 1) * (whole // q), torch.arange(1, r + 1) * (whole // r)]))
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    return (ends - starts).double() / whole, starts // (whole // q), starts // (whole // r)
