"""Peak signal-to-noise ratio by hand, and structural similarity window by window."""

import math

import pytest
import torch

from diffusion_evaluation import mean_score, psnr, ssim


def test_psnr_by_hand() -> None:
    real = torch.zeros(3, 3, 2, 2, dtype=torch.uint8)
    fake = real.clone()
    fake[0] = 255
    fake[1, 0] = 51
    expected = [0.0, 10 * math.log10(255**2 / (51**2 / 3)), math.inf]
    assert psnr(real, fake).tolist() == pytest.approx(expected)
    assert torch.equal(psnr(real, fake), psnr(fake, real))


def images(seed: int) -> torch.Tensor:
    drawn = torch.randint(0, 256, (2, 3, 14, 13), generator=torch.Generator().manual_seed(seed))
    return drawn.to(torch.uint8)


def test_ssim_equals_its_definition_window_by_window() -> None:
    """Checks: SSIM definition"""
    real, fake = images(0), (images(0).float() * 0.7 + images(1).float() * 0.3).to(torch.uint8)
    weights = torch.tensor(
        [[math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / 4.5) for j in range(11)] for i in range(11)], dtype=torch.float64
    )
    weights /= weights.sum()
    c1, c2 = 2.55**2, 7.65**2
    for x, y, value in zip(real.double(), fake.double(), ssim(real, fake).tolist(), strict=True):
        found = []
        for c, top, left in ((c, i, j) for c in range(3) for i in range(4) for j in range(3)):
            a, b = (side[c, top : top + 11, left : left + 11] for side in (x, y))
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
            covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
            luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
            found.append((luminance * (2 * covariance + c2) / (var_a + var_b + c2)).item())
        assert value == pytest.approx(sum(found) / len(found), rel=1e-10)


def test_ssim_is_one_for_copies_less_for_others_and_symmetric() -> None:
    real, fake = images(0), images(1)
    assert ssim(real, real).tolist() == pytest.approx([1.0, 1.0], abs=1e-12)
    assert ssim(real, fake).max() < 0.5
    assert ssim(real, 255 - real).max() < 0
    torch.testing.assert_close(ssim(real, fake), ssim(fake, real), rtol=1e-12, atol=0.0)
    assert str(mean_score(ssim(real, real), "SSIM", n_real=2)) == "SSIM[N=2/2] 1.00 [1.00, 1.00]"
    assert ssim(real[:0], fake[:0]).shape == (0,)


def test_pairs_must_match() -> None:
    for measure in (psnr, ssim):
        with pytest.raises(ValueError, match="equal shapes"):
            measure(torch.zeros(1, 3, 12, 12, dtype=torch.uint8), torch.zeros(2, 3, 12, 12, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"needs images of 11 x 11 pixels at least, got \(9, 13\)"):
        ssim(images(0)[:, :, :9], images(1)[:, :, :9])
