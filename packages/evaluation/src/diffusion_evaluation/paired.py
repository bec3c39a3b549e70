"""Measures of an image against its own reference: peak signal-to-noise ratio and structural similarity."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ._types import FakeImages, PerImage, RealImages
from .features import require_uint8_images

_WINDOW = 11
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def psnr(real: RealImages, fake: FakeImages) -> PerImage:
    r"""The peak signal-to-noise ratio $10 \log_{10}(255^2 / \mathrm{MSE})$ of each pair of images, in dB.

    The result is `(b,)` float64; identical images give infinity.
    `mean_score(psnr(real, fake), "PSNR", n_real=len(real))` makes a score of it.
    """
    _require_pairs(real, fake)
    squared_error = (real.double() - fake.double()).square().flatten(1).mean(dim=1)
    return 10 * torch.log10(255.0**2 / squared_error)


def ssim(real: RealImages, fake: FakeImages) -> PerImage:
    r"""The structural similarity of each pair of images, in [-1, 1]; 1 only for identical ones.

    The mean over channels and places of
    $\frac{(2 \mu_x \mu_y + c_1)(2 \sigma_{xy} + c_2)}{(\mu_x^2 + \mu_y^2 + c_1)(\sigma_x^2 + \sigma_y^2 + c_2)}$
    with moments under an 11 x 11 Gaussian window of deviation 1.5, $c_1 = (0.01 \cdot 255)^2$ and
    $c_2 = (0.03 \cdot 255)^2$, at every place where the window lies within the image: some libraries count a mirrored
    border too. The result is `(b,)` float64.
    `mean_score(ssim(real, fake), "SSIM", n_real=len(real))` makes a score of it.

    Raises ValueError when shapes differ or a side is shorter than 11 pixels.

    Source: SSIM definition
    Unstated: how colours are joined; here each channel is measured and the three are averaged, at full size [fixed].
    """
    _require_pairs(real, fake)
    if min(real.shape[-2:]) < _WINDOW:
        raise ValueError(f"SSIM needs images of {_WINDOW} x {_WINDOW} pixels at least, got {tuple(real.shape[-2:])}")
    similarities = [_ssim(x.double(), y.double()) for x, y in zip(real[:, None], fake[:, None], strict=True)]
    return torch.cat(similarities) if similarities else torch.zeros(0, dtype=torch.float64)


def _ssim(x: Tensor, y: Tensor) -> Tensor:
    mean_x, mean_y, square_x, square_y, product = _window_means(torch.stack([x, y, x * x, y * y, x * y]).flatten(0, 1))
    covariance = product - mean_x * mean_y
    variances = square_x - mean_x.square() + square_y - mean_y.square()
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x.square() + mean_y.square() + _C1)
    structure = (2 * covariance + _C2) / (variances + _C2)
    return torch.mul(luminance, structure).mean()[None]


def _window_means(images: Tensor) -> Tensor:
    """The means `(b, c, H - 10, W - 10)` of images `(b, c, H, W)` under the window, one axis after the other."""
    offsets = torch.arange(_WINDOW, dtype=images.dtype, device=images.device) - _WINDOW // 2
    weights = (-offsets.square() / (2 * 1.5**2)).softmax(dim=0)
    flat = images.flatten(0, 1)[:, None]
    means = F.conv2d(F.conv2d(flat, weights[None, None, None]), weights[None, None, :, None])
    return means.view(*images.shape[:2], *means.shape[-2:])


def _require_pairs(real: Tensor, fake: Tensor) -> None:
    require_uint8_images(real, "real")
    require_uint8_images(fake, "fake")
    if real.shape != fake.shape:
        raise ValueError(f"pairs need equal shapes, got real {tuple(real.shape)} and fake {tuple(fake.shape)}")
