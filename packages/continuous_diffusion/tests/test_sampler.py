"""Sampling, against closed forms, DDPM's own algorithm, and the official trajectories."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import continuous_diffusion.sampler
from continuous_diffusion import (
    Clean,
    Epsilon,
    ForwardProcess,
    Prediction,
    Schedule,
    Target,
    Velocity,
    ancestral,
    ddim,
    dpm_solver,
    evenly_in_log_snr,
    heun,
    plms,
    quadratic,
    sample,
    strided,
    trajectory,
)
from continuous_diffusion.solvers import Solver

process = ForwardProcess(Schedule.cosine(50))
MEAN, SPREAD = 1.5, 0.6


def posterior_mean(x_t: Tensor, t: Tensor) -> Tensor:
    """E[x_0 | x_t] for x_0 ~ N(MEAN, SPREAD^2): the closed-form denoiser."""
    signal = process.signal(t)[:, None, None, None].to(x_t.dtype)
    gain = signal.sqrt() * SPREAD**2 / (signal * SPREAD**2 + 1 - signal)
    return MEAN + gain * (x_t - signal.sqrt() * MEAN)


def gaussian_denoiser(target: Target) -> Callable[..., Prediction]:
    def denoiser(x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Prediction:
        x_0, at = posterior_mean(x_t, t), process.coefficients(t, x_t)
        return Prediction(value=target.of(x_0, Clean().noise(x_t, x_0, at), at), features=x_t)

    return denoiser


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("target", [Epsilon(), Velocity(), Clean()], ids=lambda target: type(target).__name__)
def test_gaussian_data_are_sampled_with_their_mean_and_variance(eta: float, target: Target) -> None:
    """Checks: DDIM Eq. 12, Eq. 16
    Checks: DDPM Algorithm 2
    """
    samples = sample(gaussian_denoiser(target), (4000, 1, 2, 2), process=process, target=target, eta=eta)
    assert samples.mean().item() == pytest.approx(MEAN, abs=0.03)
    assert samples.std().item() == pytest.approx(SPREAD, rel=0.08)
    correlation = torch.corrcoef(samples.flatten(1).T) - torch.eye(4)
    assert correlation.abs().max() < 0.08


def test_all_steps_with_eta_one_are_ancestral_sampling() -> None:
    """Checks: DDPM Algorithm 2, Eq. 7"""
    generator, again = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    start = torch.randn(3, 2, 2, 2)
    ours = trajectory(
        gaussian_denoiser(Epsilon()), start.shape, process=process, eta=1.0, start=start, generator=generator
    )
    x = start
    for state in ours:
        t = torch.full((3,), state.t + 1)
        posterior = process.posterior(posterior_mean(x, t), x, t)
        x = posterior.mean
        if state.t > 0:
            x = x + posterior.variance.sqrt() * torch.randn(x.shape, generator=again)
        torch.testing.assert_close(state.x, x, atol=1e-4, rtol=1e-4)


def test_the_deterministic_path_converges_to_the_exact_flow() -> None:
    """For Gaussian data the flow keeps the quantile: x_0 = MEAN + SPREAD x_T, nearly.

    Checks: DDIM Eq. 12
    """
    fine = ForwardProcess(Schedule.cosine(1000))
    start = torch.randn(1, 1, 8, 8)
    scale = (fine.schedule.signal[-1] * (SPREAD**2 - 1) + 1).sqrt().float()
    exact = MEAN + SPREAD * (start - fine.schedule.signal[-1].sqrt().float() * MEAN) / scale

    def denoiser(x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Prediction:
        signal = fine.signal(t)[:, None, None, None].float()
        gain = signal.sqrt() * SPREAD**2 / (signal * SPREAD**2 + 1 - signal)
        return Prediction(value=MEAN + gain * (x_t - signal.sqrt() * MEAN), features=x_t)

    errors = [
        (sample(denoiser, start.shape, process=fine, target=Clean(), steps=n, start=start) - exact).abs().max().item()
        for n in (25, 50, 100)
    ]
    assert errors[0] > 1.7 * errors[1] > 1.7**2 * errors[2]


@pytest.mark.parametrize(
    ("solver", "eta"), [(ddim, 1.0), (ddim, 0.0), (ancestral, 0.0), (plms, 0.0), (heun, 0.0), (dpm_solver, 0.0)]
)
def test_image_depends_on_its_own_generator_alone(solver: Solver, eta: float) -> None:
    def run(seeds: list[int]) -> Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        arguments: dict[str, Any] = {"process": process, "solver": solver, "steps": 7, "eta": eta}
        return sample(gaussian_denoiser(Epsilon()), (len(seeds), 1, 3, 3), generator=generators, **arguments)

    together, alone = run(list(range(8))), run([6])
    assert torch.equal(together[6:7], alone)
    assert not torch.equal(together[0], together[1])


def test_sample_is_the_last_state_and_the_path_ends_clean() -> None:
    start = torch.randn(2, 1, 3, 3)
    arguments: dict[str, Any] = {"process": process, "steps": 5, "start": start}
    states = list(trajectory(gaussian_denoiser(Epsilon()), start.shape, **arguments))
    assert [state.t for state in states] == [40, 30, 20, 10, 0]
    assert torch.equal(states[-1].x, sample(gaussian_denoiser(Epsilon()), start.shape, **arguments))
    torch.testing.assert_close(states[-1].x, states[-1].estimate)


def test_clip_bounds_the_estimate_and_nothing_else_changes_inside() -> None:
    start = torch.randn(2, 1, 3, 3)
    free, loose, tight = (
        list(trajectory(gaussian_denoiser(Epsilon()), start.shape, process=process, start=start, clip=clip))
        for clip in (None, 100.0, 0.3)
    )
    torch.testing.assert_close(loose[-1].x, free[-1].x, atol=1e-4, rtol=1e-4)
    assert max(state.estimate.abs().max().item() for state in tight) <= 0.3 + 1e-6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 51}, r"51 asked for, the process has 1\.\.50"),
        ({"steps": 0}, "0 asked for"),
        ({"steps": 50, "spacing": strided}, "reach 51"),
        ({"spacing": lambda T, n: (3, 2)}, "expected rising steps"),
        ({"start": torch.zeros(1, 1, 2, 2)}, r"expected \(2, 1, 2, 2\)"),
        ({"eta": -0.1}, "negative"),
        ({"solver": plms, "eta": 1.0}, "ddim's share of fresh noise"),
        ({"solver": dpm_solver, "eta": 0.5}, "ddim's share of fresh noise"),
        ({"solver": plms, "clip": 1.0}, "combines noises"),
        ({"solver": heun, "clip": 1.0}, "combines noises"),
        ({"process": ForwardProcess(Schedule.rectified_flow(9))}, "take Velocity"),
        ({"spacing": evenly_in_log_snr(process.schedule), "steps": 50}, "expected rising steps"),
        ({"generator": [torch.Generator()]}, "pass one per image"),
    ],
)
def test_wrong_inputs_are_named_before_any_work(changes: dict[str, Any], message: str) -> None:
    def never(x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Prediction:
        raise AssertionError("the denoiser was called")

    with pytest.raises(ValueError, match=message):
        trajectory(never, (2, 1, 2, 2), **({"process": process} | changes))


TRAJECTORIES: dict[str, dict[str, Any]] = {
    "ddim_eta0": {},
    "ddim_eta0_odd": {},
    "ddim_eta05": {"eta": 0.5},
    "ddim_eta1": {"eta": 1.0},
    "ddim_cfg": {"guidance": 3.0},
    "ddim_cond_only": {},
    "ddim_quad": {"spacing": quadratic},
    "plms": {"solver": plms},
    "plms_odd": {"solver": plms},
    "plms_cfg": {"solver": plms, "guidance": 3.0},
}


class Toy:
    """The formula that the recorded trajectories were made with; the condition is an image, flattened."""

    def __init__(self, toy: dict[str, float], uncond: Tensor, last: int) -> None:
        self.toy, self.uncond, self.last = toy, uncond, last

    def __call__(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Prediction:
        value = self.toy["a"] * x_t + self.toy["b"] * torch.sin(self.toy["w"] * (t - 1).float())[:, None, None, None]
        if condition is not None:
            value = value + self.toy["d"] * condition.reshape(x_t.shape)
        return Prediction(value=value, features=x_t)

    def null_condition(self, b: int, l: int) -> Tensor:  # noqa: E741
        return self.uncond.flatten(2)


@pytest.mark.parity
@pytest.mark.parametrize("name", TRAJECTORIES)
def test_official_trajectories(name: str, golden: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks: DDIM Eq. 12, Eq. 16
    Checks: PNDM linear multi-step
    Checks: Classifier-free Guidance Eq. 6
    """
    case = golden("ldm_ddim_plms")
    io, arguments = case.io, case.config["process"]
    entry = next(one for one in case.config["trajectories"] if one["name"] == name)
    schedule = Schedule.sqrt_linear(arguments["timesteps"], arguments["linear_start"], arguments["linear_end"])
    draws = iter(io.get(f"{name}.step_noise", ()))
    monkeypatch.setattr(continuous_diffusion.sampler, "gaussian", lambda *_, **__: next(draws))
    states = list(
        trajectory(
            Toy(case.config["toy_model"], io["uncond"], arguments["timesteps"]),
            io["x_T"].shape,
            io["cond"].flatten(2) if "cond" in entry else None,
            process=ForwardProcess(schedule),
            steps=entry["S"],
            until=1,
            start=io["x_T"],
            **({"spacing": strided} | TRAJECTORIES[name]),
        )
    )
    visited = io[f"{name}.timesteps_visited"].tolist()
    assert [state.t for state in states] == [t + 1 for t in visited[1:]] + [1]
    torch.testing.assert_close(torch.stack([s.x for s in states]), io[f"{name}.x"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.stack([s.estimate for s in states]), io[f"{name}.pred_x0"], atol=1e-5, rtol=1e-5)


@pytest.mark.parity
def test_official_ancestral_sampling(golden: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks: DDPM Algorithm 2"""
    case = golden("ldm_ddim_plms")
    draws = iter(case.io["ancestral.noise"])
    monkeypatch.setattr(continuous_diffusion.sampler, "gaussian", lambda *_, **__: next(draws))
    states = trajectory(
        Toy(case.config["toy_model"], case.io["uncond"], 20),
        case.io["x_T"].shape,
        process=ForwardProcess(Schedule.sqrt_linear(20, 1e-3, 0.2)),
        eta=1.0,
        clip=1.0,
        start=case.io["x_T"],
    )
    xs = torch.stack([state.x for state in states])
    torch.testing.assert_close(xs, case.io["ancestral.x"], atol=1e-5, rtol=1e-5)
