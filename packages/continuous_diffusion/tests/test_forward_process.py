"""Laws of the forward process, against algebra, simulation and the official numbers."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from continuous_diffusion import ForwardProcess, Schedule
from continuous_diffusion.forward_process import times

T = 20
process = ForwardProcess(Schedule.sqrt_linear(T, 0.01, 0.4))
flow = ForwardProcess(Schedule.rectified_flow(T))
steps = st.tuples(st.integers(0, T), st.integers(0, T)).map(sorted)


def at(t: int, b: int = 2) -> torch.Tensor:
    return torch.full((b,), t)


@settings(deadline=None, max_examples=30)
@given(steps)
def test_two_steps_of_the_marginal_are_one(pair: list[int]) -> None:
    """Checks: DDPM Eq. 4"""
    s, t = pair
    x_0 = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    on = process.transition(process.sample(x_0, at(s), torch.zeros_like(x_0)), at(s), at(t))
    torch.testing.assert_close(on.mean, process.sample(x_0, at(t), torch.zeros_like(x_0)))
    ratio = process.schedule.signal[t] / process.schedule.signal[s]
    total = on.variance[0].squeeze() + ratio * (1 - process.schedule.signal[s])
    torch.testing.assert_close(total, 1 - process.schedule.signal[t])


@settings(deadline=None, max_examples=30)
@given(steps)
def test_two_steps_along_the_straight_path_are_one(pair: list[int]) -> None:
    """The mean is (1 - u) x_0 and the spread u, whatever stands between.

    Checks: Rectified Flow straight path
    """
    s, t = pair
    x_0 = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    if s == T:
        return
    on = flow.transition(flow.sample(x_0, at(s), torch.zeros_like(x_0)), at(s), at(t))
    torch.testing.assert_close(on.mean, (1 - t / T) * x_0)
    total = on.variance[0].item() + ((1 - t / T) / (1 - s / T) * s / T) ** 2
    assert total == pytest.approx((t / T) ** 2)


@settings(deadline=None, max_examples=30)
@given(steps.filter(lambda pair: 0 < pair[0] < pair[1] < T))
def test_posterior_along_the_straight_path_is_bayes_rule(pair: list[int]) -> None:
    """Checks: Rectified Flow straight path"""
    s, t = pair
    x_0, x_t = torch.randn(2, 1, 2, 2, dtype=torch.float64), torch.randn(2, 1, 2, 2, dtype=torch.float64)
    kept = (1 - t / T) / (1 - s / T)
    spread = (t / T) ** 2 - (kept * s / T) ** 2
    precision = (T / s) ** 2 + kept**2 / spread
    mean = ((1 - s / T) * x_0 * (T / s) ** 2 + kept * x_t / spread) / precision
    posterior = flow.posterior(x_0, x_t, at(t), at(s))
    torch.testing.assert_close(posterior.mean, mean)
    assert posterior.variance[0].item() == pytest.approx(1 / precision)


def test_step_zero_is_clean_and_the_noise_is_scaled_by_sigma() -> None:
    """Checks: DDPM Eq. 4"""
    x_0, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(process.sample(x_0, at(0), noise), x_0)
    pure = process.sample(torch.zeros_like(x_0), torch.tensor([1, T]), noise)
    expected = (1 - process.schedule.signal[[1, T]]).sqrt().float()
    torch.testing.assert_close(pure, expected[:, None, None, None] * noise)


def test_along_the_straight_path_noise_takes_the_share_that_the_image_loses() -> None:
    """Checks: Rectified Flow straight path"""
    x_0, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(flow.sample(x_0, at(5), noise), 0.75 * x_0 + 0.25 * noise)
    alpha, sigma, scale = flow.coefficients(at(5), x_0)
    torch.testing.assert_close(scale, (alpha**2 + sigma**2).sqrt())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_images_decide_on_the_dtype(dtype: torch.dtype) -> None:
    """Levels are float64; what multiplies images is not."""
    x = torch.randn(2, 1, 2, 2, dtype=dtype)
    for one in (process, flow):
        for gaussian in (one.transition(x, at(3), at(9)), one.posterior(x, x, at(9), at(3))):
            assert gaussian.mean.dtype == gaussian.variance.dtype == dtype
            assert gaussian.variance.shape == (2, 1, 1, 1)
        assert one.sample(x, at(3)).dtype == dtype
        assert {part.dtype for part in one.coefficients(at(3), x) if isinstance(part, torch.Tensor)} == {dtype}


def test_noise_is_drawn_in_the_precision_of_the_images() -> None:
    """Oracle: the generator's own numbers, which are others in float32."""
    x_0 = torch.zeros(2, 3, 2, 2, dtype=torch.float64)
    noise = torch.randn(x_0.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    drawn = process.sample(x_0, at(T), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn, process.sample(x_0, at(T), noise), rtol=0, atol=0)


def test_times_are_one_step_for_every_example() -> None:
    assert torch.equal(times(3, 7), torch.tensor([7, 7, 7]))
    assert times(3, 7, "meta").device.type == "meta"


@settings(deadline=None, max_examples=30)
@given(steps.filter(lambda pair: pair[0] < pair[1]))
def test_posterior_is_bayes_rule(pair: list[int]) -> None:
    """The product of two Gaussians in x_s, by precisions.

    Checks: DDPM Eq. 7
    """
    s, t = pair
    if s == 0:
        return
    x_0, x_t = torch.randn(2, 1, 2, 2, dtype=torch.float64), torch.randn(2, 1, 2, 2, dtype=torch.float64)
    a_s, ratio = process.schedule.signal[s], process.schedule.signal[t] / process.schedule.signal[s]
    precision = 1 / (1 - a_s) + ratio / (1 - ratio)
    mean = (a_s.sqrt() * x_0 / (1 - a_s) + ratio.sqrt() * x_t / (1 - ratio)) / precision
    posterior = process.posterior(x_0, x_t, at(t), at(s))
    torch.testing.assert_close(posterior.mean, mean)
    torch.testing.assert_close(posterior.variance[0].squeeze(), 1 / precision)


def test_posterior_of_the_first_step_is_the_clean_image() -> None:
    x_0, x_1 = torch.randn(2, 1, 2, 2), torch.randn(2, 1, 2, 2)
    posterior = process.posterior(x_0, x_1, at(1))
    torch.testing.assert_close(posterior.mean, x_0)
    assert posterior.variance.abs().max() == 0


def test_one_generator_per_image_makes_images_independent_of_the_batch() -> None:
    x_0 = torch.randn(3, 2, 4, 4)
    seeds = [torch.Generator().manual_seed(i) for i in range(3)]
    together = process.sample(x_0, at(7, 3), generator=seeds)
    alone = process.sample(x_0[1:2], at(7, 1), generator=[torch.Generator().manual_seed(1)])
    assert torch.equal(together[1:2], alone)


def test_wrong_inputs_are_named() -> None:
    with pytest.raises(ValueError, match=r"leaves 0\.\.20"):
        process.signal(torch.tensor([3, T + 1]))
    with pytest.raises(ValueError, match="1 generators for a batch of 2"):
        process.sample(torch.zeros(2, 1, 1, 1), at(1), generator=[torch.Generator()])


def test_levels_are_not_saved() -> None:
    assert ForwardProcess(process.schedule).state_dict() == {}
    made = ForwardProcess(flow.schedule)
    assert made.state_dict() == {}
    assert made.scales is not None and torch.equal(made.scales, flow.schedule.scale)


@pytest.mark.parity
def test_official_marginal_and_posterior(golden: Any) -> None:
    """Checks: DDPM Eq. 4, Eq. 7"""
    case = golden("ldm_ddim_plms")
    io, arguments = case.io, case.config["process"]
    ours = ForwardProcess(
        Schedule.sqrt_linear(arguments["timesteps"], arguments["linear_start"], arguments["linear_end"])
    )
    t = io["gauss.t"] + 1
    x_t = ours.sample(io["x0"], t, io["gauss.noise"])
    torch.testing.assert_close(x_t, io["gauss.q_sample"], rtol=1e-6, atol=1e-6)
    posterior = ours.posterior(io["x0"], x_t, t)
    torch.testing.assert_close(posterior.mean, io["gauss.q_posterior_mean"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(posterior.variance, io["gauss.q_posterior_variance"], rtol=1e-5, atol=1e-9)
