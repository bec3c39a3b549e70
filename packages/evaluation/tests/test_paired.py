"""Peak signal-to-noise ratio by hand."""

import math

import pytest
import torch

from diffusion_evaluation import psnr


def test_psnr_by_hand() -> None:
    real = torch.zeros(3, 3, 2, 2, dtype=torch.uint8)
    fake = real.clone()
    fake[0] = 255
    fake[1, 0] = 51
    expected = [0.0, 10 * math.log10(255**2 / (51**2 / 3)), math.inf]
    assert psnr(real, fake).tolist() == pytest.approx(expected)
    assert torch.equal(psnr(real, fake), psnr(fake, real))


def test_pairs_must_match() -> None:
    with pytest.raises(ValueError, match="equal shapes"):
        psnr(torch.zeros(1, 3, 2, 2, dtype=torch.uint8), torch.zeros(2, 3, 2, 2, dtype=torch.uint8))
