"""The Frechet distance between Gaussians fitted to two sets of features, without a matrix square root."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from ._types import Covariance, Factor, FakeRows, Matrix, Mean, RealRows, Rows, Scalar
from .arrays import feature_rows
from .features import UNNAMED, Space
from .score import Score, SmallSampleWarning
from .statistics import Statistics


def frechet_distance(real: Statistics | RealRows, fake: Statistics | FakeRows, *, space: Space | None = None) -> Score:
    r"""The squared Frechet distance $|\mu_r - \mu_f|^2 + \mathrm{tr}(S_r + S_f - 2 (S_r S_f)^{1/2})$ as a score.

    Each side is either `Statistics` or float features `(n, d)`; `space` says where bare features were measured, and
    the score is called `FID[<name of the space>]`. Warns once with `SmallSampleWarning` when a count does not exceed
    d: the covariances are then singular and the value, finite and right as it is, depends strongly on the counts.

    Raises ValueError when widths or spaces differ, and when a side has fewer than two rows.

    Source: TTUR Frechet inception distance
    """
    ours, theirs = _statistics(real, space, "real"), _statistics(fake, space, "fake")
    if ours.space != theirs.space:
        raise ValueError(f"real features were measured in {ours.space}, fake ones in {theirs.space}: use one space")
    width = len(ours.mean)
    if width != len(theirs.mean):
        raise ValueError(f"real features have width {width}, fake ones {len(theirs.mean)}: use one feature space")
    if min(ours.count, theirs.count) <= width:
        warnings.warn(
            f"FID[{ours.space.name}] of {ours.count} real and {theirs.count} fake images in {width} dimensions: "
            "covariances are singular; compare only scores with exactly these counts",
            SmallSampleWarning,
            stacklevel=2,
        )
    value = gaussian_frechet_distance(ours.mean, ours.covariance, theirs.mean, theirs.covariance)
    return Score(f"FID[{ours.space.name}]", value, ours.count, theirs.count, space=ours.space)


def gaussian_frechet_distance(
    real_mean: Mean, real_covariance: Covariance, fake_mean: Mean, fake_covariance: Covariance
) -> float:
    r"""The squared 2-Wasserstein distance between two Gaussians, never negative.

    With factors $S = F F^T$ the trace of the root is a sum of singular values,
    $\mathrm{tr}(S_r S_f)^{1/2} = |F_r^T F_f|_*$, so that no root is taken of a rounding error.

    Source: TTUR Frechet inception distance
    """
    cross = factor(real_covariance).T @ factor(fake_covariance).to(real_covariance.device)
    shift = (real_mean - fake_mean.to(real_mean.device)).square().sum()
    distance = shift + real_covariance.trace() + fake_covariance.trace() - 2 * nuclear_norm(cross)
    return max(0.0, distance.item())


def factor(covariance: Covariance) -> Factor:
    """A matrix F with F F^T = covariance: Cholesky's where definite, else from the r eigenvectors above rounding."""
    rounding = len(covariance) * torch.finfo(covariance.dtype).eps
    lower: Tensor
    lower, failed = torch.linalg.cholesky_ex(covariance)
    pivots = lower.diagonal()
    if not failed and pivots.min() > rounding**0.5 * pivots.max():
        return lower
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > rounding * values.max().clamp_min(0)
    return torch.mul(vectors[:, kept], values[kept].sqrt())


def nuclear_norm(matrix: Matrix) -> Scalar:
    """The sum of singular values: roots of the Gram matrix's eigenvalues where those keep 9 digits, else an SVD."""
    if matrix.numel() == 0:
        return matrix.new_zeros(())
    gram = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
    squares = torch.linalg.eigvalsh(gram).clamp_min(0)
    error = squares.max() * len(gram) ** 0.5 * torch.finfo(gram.dtype).eps
    singular = squares.sqrt()
    if (error / singular.clamp_min(error.sqrt())).sum() <= 1e-9 * singular.sum():
        return torch.sum(singular)
    return torch.sum(torch.linalg.svdvals(matrix))


def _statistics(side: Statistics | Rows, space: Space | None, argument: str) -> Statistics:
    if not isinstance(side, Statistics):
        side = Statistics.of(feature_rows(side, argument), space or UNNAMED)
    elif space is not None and side.space != space:
        raise ValueError(f"{argument}: the statistics were measured in {side.space}, not in {space}")
    if side.count < 2:
        raise ValueError(f"{argument}: a covariance needs at least 2 rows of features, got {side.count}")
    return side
