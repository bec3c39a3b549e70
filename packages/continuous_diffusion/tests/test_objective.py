"""The objective, against its definition and the official losses."""

from typing import Any

import pytest
import torch
from torch import Tensor

import continuous_diffusion.objective
from continuous_diffusion import (
    Clean,
    Displacement,
    Epsilon,
    ForwardProcess,
    MinSnr,
    Objective,
    Prediction,
    Schedule,
    Target,
    UNet,
    Velocity,
    absolute,
    squared,
)

process = ForwardProcess(Schedule.linear(40, 0.001, 0.2))


class Knowing:
    """Knows the clean image, and so answers any target exactly."""

    def __init__(self, target: Target, x_0: Tensor) -> None:
        self.target, self.x_0 = target, x_0

    def __call__(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Prediction:
        at = process.coefficients(t, x_t)
        noise = Clean().noise(x_t, self.x_0, at)
        return Prediction(value=self.target.of(self.x_0, noise, at), features=x_t)


class Silent:
    """Says nothing, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def __call__(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Prediction:
        self.asked.append((x_t, t, condition))
        return Prediction(value=torch.zeros_like(x_t), features=x_t)

    def null_condition(self, b: int, l: int) -> Tensor:  # noqa: E741
        return torch.full((b, l, 3), 7.0)


@pytest.mark.parametrize("target", [Epsilon(), Velocity(), Clean()], ids=lambda target: type(target).__name__)
def test_a_denoiser_that_knows_has_no_loss(target: Target) -> None:
    """Checks: DDPM Eq. 14, Algorithm 1
    Checks: LDM latent objective
    """
    clean = torch.randn(8, 2, 4, 4, dtype=torch.float64)
    denoising = Objective(Knowing(target, clean), process, target=target)(clean)
    assert denoising.loss.shape == (8,)
    assert denoising.loss.max() < 1e-20
    torch.testing.assert_close(denoising.estimate, clean)


@pytest.mark.parametrize(("distance", "power"), [(squared, 2), (absolute, 1)])
def test_loss_is_the_mean_distance_to_the_noise(distance: Any, power: int) -> None:
    """A silent denoiser is as far away as the noise is long.

    Checks: DDPM Eq. 14, Algorithm 1
    """
    clean, silent = torch.randn(3, 2, 4, 4, dtype=torch.float64), Silent()
    denoising = Objective(silent, process, distance=distance)(clean, t=torch.tensor([1, 20, 40]))
    (x_t, t, _), signal = silent.asked[0], process.signal(torch.tensor([1, 20, 40]))
    noise = (x_t - signal.sqrt()[:, None, None, None] * clean) / (1 - signal).sqrt()[:, None, None, None]
    expected = torch.stack([(one.abs() ** power).sum() / one.numel() for one in noise])
    torch.testing.assert_close(denoising.loss, expected)
    assert denoising.terms["denoising"] is denoising.loss
    assert denoising.t is t


def test_weights_multiply_and_terms_add_up() -> None:
    """Checks: Min-SNR weighting"""
    clean, t = torch.randn(3, 2, 4, 4), torch.tensor([1, 20, 40])
    plain, weighed = (
        Objective(Silent(), process, **options)(clean, t=t, generator=torch.Generator().manual_seed(0))
        for options in ({}, {"weight": MinSnr(), "bound": 0.3})
    )
    expected = MinSnr()(process, Epsilon(), t).float() * plain.loss
    torch.testing.assert_close(weighed.terms["denoising"], expected)
    torch.testing.assert_close(weighed.loss, weighed.terms["denoising"] + 0.3 * weighed.terms["bound"])


@pytest.mark.parametrize("target", [Velocity(), Clean(), Displacement()], ids=lambda target: type(target).__name__)
def test_processes_that_end_in_pure_noise_are_trained_to_their_end(target: Target) -> None:
    """Checks: Zero Terminal SNR Algorithm 1
    Checks: Rectified Flow straight path
    """
    for schedule in (Schedule.linear(40).to_zero_snr(), Schedule.rectified_flow(40)):
        objective = Objective(Silent(), ForwardProcess(schedule), target=target, weight=MinSnr(), bound=0.1)
        denoising = objective(torch.randn(2, 1, 4, 4), t=torch.tensor([1, 40]))
        assert denoising.loss.isfinite().all()
        assert denoising.estimate.isfinite().all()


def test_steps_are_uniform_and_reach_both_ends() -> None:
    """Checks: DDPM Algorithm 1"""
    t = Objective(Silent(), process)(torch.zeros(40_000, 1, 1, 1)).t
    counts = torch.bincount(t, minlength=41)
    assert counts[0] == 0
    chi_squared = ((counts[1:] - 1000.0) ** 2 / 1000).sum()
    assert chi_squared < 81  # 39 degrees of freedom: exceeded once in 10,000 seeds


@pytest.mark.parametrize(("rate", "low", "high"), [(0.0, 0, 0), (1.0, 2000, 2000), (0.1, 140, 260)])
def test_whole_rows_of_the_condition_are_dropped_at_the_rate(rate: float, low: int, high: int) -> None:
    silent, condition = Silent(), torch.randn(2000, 5, 3)
    Objective(silent, process, condition_dropout=rate)(torch.zeros(2000, 1, 1, 1), condition)
    given = silent.asked[0][2]
    assert given is not None
    dropped = (given == 7).all((1, 2))
    assert low <= int(dropped.sum()) <= high
    assert torch.equal(given[~dropped], condition[~dropped])


def test_the_generator_decides_everything() -> None:
    def run(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        denoising: Tensor = Objective(Silent(), process)(torch.ones(4, 2, 2, 2), generator=generator).loss
        return denoising

    assert torch.equal(run(3), run(3))
    assert not torch.equal(run(3), run(4))


def test_gradient_reaches_the_network_and_its_null_states() -> None:
    unet = UNet(
        in_channels=1,
        out_channels=1,
        channels=4,
        multipliers=(1,),
        residual_blocks=1,
        heads=1,
        condition_width=3,
        groups=2,
    )
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    objective = Objective(unet, process, condition_dropout=1.0)
    objective(torch.randn(4, 1, 2, 2), torch.randn(4, 5, 3)).loss.mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in unet.parameters())


def test_wrong_inputs_are_named() -> None:
    with pytest.raises(ValueError, match="share of the bound"):
        Objective(Silent(), process, bound=-1.0)
    with pytest.raises(ValueError, match="has no signal"):
        Objective(Silent(), ForwardProcess(Schedule.rectified_flow(4)))
    with pytest.raises(ValueError, match="not a probability"):
        Objective(Silent(), process, condition_dropout=1.5)
    with pytest.raises(ValueError, match=r"leaves 0\.\.40"):
        Objective(Silent(), process)(torch.zeros(1, 1, 1, 1), t=torch.tensor([41]))


@pytest.mark.parity
@pytest.mark.parametrize(("kind", "distance"), [("l1", absolute), ("l2", squared)])
def test_official_losses(kind: str, distance: Any, golden: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks: LDM latent objective"""
    case = golden("ldm_ddim_plms")
    toy, arguments = case.config["toy_model"], case.config["process"]

    def denoiser(x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Prediction:
        wave = torch.sin(toy["w"] * (t - 1).float())[:, None, None, None]
        return Prediction(value=toy["a"] * x_t + toy["b"] * wave, features=x_t)

    official = ForwardProcess(
        Schedule.sqrt_linear(arguments["timesteps"], arguments["linear_start"], arguments["linear_end"])
    )
    monkeypatch.setattr(continuous_diffusion.objective, "gaussian", lambda *_, **__: case.io["gauss.noise"])
    for share in (0.0, 0.01):
        objective = Objective(denoiser, official, distance=distance, bound=share)
        denoising = objective(case.io["x0"], t=case.io["p_losses.t"] + 1)
        expected = {name: case.io[f"p_losses.{kind}.elbo{share}.{name}"] for name in ("loss", "simple", "vlb")}
        torch.testing.assert_close(denoising.loss.mean(), expected["loss"], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(denoising.terms["denoising"].mean(), expected["simple"], rtol=1e-5, atol=1e-6)
        if share:
            torch.testing.assert_close(denoising.terms["bound"].mean(), expected["vlb"], rtol=1e-4, atol=1e-6)
