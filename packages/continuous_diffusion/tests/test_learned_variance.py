"""Learned variances, against torch's own normal distributions."""

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from continuous_diffusion import ForwardProcess, Objective, Prediction, PredictionWithVariance, Schedule
from continuous_diffusion.learned_variance import bound_of_variance, log_variance

process = ForwardProcess(Schedule.linear(30, 0.001, 0.2))
t = torch.arange(1, 31)
clean, estimate, answer, noise = (torch.randn(30, 2, 3, 3, dtype=torch.float64) for _ in range(4))
x_t = process.sample(clean, t, noise)


def test_ends_of_the_range_are_the_step_and_its_posterior() -> None:
    """Checks: Improved DDPM Eq. 15"""
    upper, lower = (log_variance(process, torch.full_like(clean, v), t, t - 1).exp()[:, 0, 0, 0] for v in (1.0, -1.0))
    torch.testing.assert_close(upper, process.schedule.betas)
    posterior = process.posterior(clean, x_t, t).variance.flatten()
    torch.testing.assert_close(lower[1:], posterior[1:])
    assert lower[0] == lower[1]
    middle = log_variance(process, torch.zeros_like(clean), t, t - 1)[:, 0, 0, 0]
    torch.testing.assert_close(middle, (upper.log() + lower.log()) / 2)


def test_bound_is_the_divergence_and_at_the_end_the_density() -> None:
    """Checks: Improved DDPM Eq. 16"""
    spread = (log_variance(process, answer, t, t - 1) / 2).exp()
    guess = Normal(process.posterior(estimate, x_t, t).mean, spread)
    truth = process.posterior(clean, x_t, t)
    divergence = kl_divergence(Normal(truth.mean[1:], truth.variance[1:].sqrt()), Normal(guess.mean[1:], spread[1:]))
    ours = bound_of_variance(process, clean, x_t, t, estimate, answer)
    torch.testing.assert_close(ours[1:], divergence.mean((1, 2, 3)))
    torch.testing.assert_close(ours[0], -guess.log_prob(clean)[0].mean())


def test_objective_trains_the_variance_by_the_bound_and_the_mean_by_the_distance() -> None:
    """Checks: Improved DDPM Eq. 16"""
    value, variance = (torch.zeros(4, 1, 2, 2, requires_grad=True) for _ in range(2))

    def denoiser(x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Prediction:
        return PredictionWithVariance(value=value, features=x_t, variance=variance)

    denoising = Objective(denoiser, process, bound=0.03)(torch.randn(4, 1, 2, 2), t=torch.tensor([1, 2, 9, 30]))
    torch.testing.assert_close(denoising.loss, denoising.terms["denoising"] + 0.03 * denoising.terms["bound"])
    denoising.terms["bound"].sum().backward(retain_graph=True)
    assert value.grad is None
    assert variance.grad is not None
    assert variance.grad.isfinite().all()
    assert variance.grad.any()
    denoising.loss.sum().backward()
    assert value.grad is not None


def test_one_step_has_no_bound() -> None:
    one = ForwardProcess(Schedule.linear(1))
    with pytest.raises(ValueError, match="at least two steps"):
        bound_of_variance(one, clean[:1], x_t[:1], t[:1], estimate[:1], answer[:1])
