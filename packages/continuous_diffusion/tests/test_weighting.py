"""Weights of the steps, against the formulas of the papers and the published numbers."""

from typing import Any

import pytest
import torch

from continuous_diffusion import (
    Clean,
    Displacement,
    Epsilon,
    ForwardProcess,
    MinSnr,
    Schedule,
    Target,
    Velocity,
    by_snr,
    of_the_bound,
)

process = ForwardProcess(Schedule.cosine(30))
t = torch.arange(1, 31)
ratio = process.schedule.signal[1:] / (1 - process.schedule.signal[1:])


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Clean(), ratio.clamp(max=5)),
        (Epsilon(), ratio.clamp(max=5) / ratio),
        (Velocity(), ratio.clamp(max=5) / (ratio + 1)),
    ],
)
def test_min_snr_is_the_papers_weight_in_each_coordinate(target: Target, expected: torch.Tensor) -> None:
    """Checks: Min-SNR weighting"""
    torch.testing.assert_close(MinSnr(5.0)(process, target, t), expected)


def test_snr_on_the_clean_image_is_no_weight_on_the_noise() -> None:
    torch.testing.assert_close(by_snr(process, Epsilon(), t), torch.ones(30, dtype=torch.float64))
    torch.testing.assert_close(by_snr(process, Clean(), t), ratio)


@pytest.mark.parametrize("target", [Epsilon(), Velocity(), Clean(), Displacement()], ids=lambda one: type(one).__name__)
def test_the_bound_weighs_by_the_divergence_of_the_posteriors(target: Target) -> None:
    """Two Gaussians of the same variance diverge by the squared distance of their means over twice it.

    Checks: Variational Diffusion Eq. 13
    """
    x_0, value = torch.randn(29, 1, 2, 2, dtype=torch.float64), torch.randn(29, 1, 2, 2, dtype=torch.float64)
    at = process.coefficients(t[1:], x_0)
    noise = torch.randn_like(x_0)
    x_t = process.sample(x_0, t[1:], noise)
    truth = process.posterior(x_0, x_t, t[1:])
    guess = process.posterior(target.estimate(x_t, value, at), x_t, t[1:])
    divergence = ((truth.mean - guess.mean) ** 2 / (2 * truth.variance)).sum((1, 2, 3))
    distance = ((value - target.of(x_0, noise, at)) ** 2).sum((1, 2, 3))
    torch.testing.assert_close(of_the_bound(process, target, t[1:]) * distance, divergence)
    assert of_the_bound(process, target, t[:1]) == of_the_bound(process, target, t[1:2])


def test_one_step_has_no_bound() -> None:
    with pytest.raises(ValueError, match="at least two steps"):
        of_the_bound(ForwardProcess(Schedule.linear(1)), Epsilon(), torch.ones(1, dtype=torch.int64))


@pytest.mark.parity
def test_official_weights_of_the_bound(golden: Any) -> None:
    """Checks: Variational Diffusion Eq. 13"""
    io = golden("ldm_ddim_plms").io
    official = ForwardProcess(Schedule.sqrt_linear(1000, 0.0015, 0.0205))
    ours = of_the_bound(official, Epsilon(), torch.arange(1, 1001))
    torch.testing.assert_close(ours.float(), io["schedule2.lvlb_weights_eps"], rtol=2e-3, atol=0)
