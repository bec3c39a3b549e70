"""Measures of an image against its own reference: peak signal-to-noise ratio."""

from __future__ import annotations

import torch

from ._types import FakeImages, PerImage, RealImages
from .features import require_uint8_images


def psnr(real: RealImages, fake: FakeImages) -> PerImage:
    r"""The peak signal-to-noise ratio $10 \log_{10}(255^2 / \mathrm{MSE})$ of each pair of images, in dB.

    The result is `(b,)` float64; identical images give infinity.
    `mean_score(psnr(real, fake), "PSNR", n_real=len(real))` makes a score of it.
    """
    require_uint8_images(real, "real")
    require_uint8_images(fake, "fake")
    if real.shape != fake.shape:
        raise ValueError(f"pairs need equal shapes, got real {tuple(real.shape)} and fake {tuple(fake.shape)}")
    squared_error = (real.double() - fake.double()).square().flatten(1).mean(dim=1)
    return 10 * torch.log10(255.0**2 / squared_error)
