"""Every solver's step: its order on Gaussian data, whose flow is known; diffusers' schedulers on the same model."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from continuous_diffusion import (
    Betas,
    Clean,
    Displacement,
    DynamicThreshold,
    Epsilon,
    ForwardProcess,
    Prediction,
    PredictionWithVariance,
    Schedule,
    Target,
    Velocity,
    ancestral,
    ddim,
    dpm_solver,
    evenly_in_log_snr,
    heun,
    leading,
    plms,
    sample,
    trailing,
    trajectory,
)
from continuous_diffusion.solvers import Solver

MEAN, SPREAD = 1.5, 0.6


def denoiser_of(process: ForwardProcess, target: Target) -> Callable[..., Prediction]:
    """The closed form for data N(MEAN, SPREAD^2)."""

    def denoiser(x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Prediction:
        at = process.coefficients(t, x_t)
        gain = at.alpha * SPREAD**2 / (at.alpha**2 * SPREAD**2 + at.sigma**2)
        x_0 = MEAN + gain * (x_t - at.alpha * MEAN)
        return Prediction(value=target.of(x_0, Clean().noise(x_t, x_0, at), at), features=x_t)

    return denoiser


def along_the_flow(process: ForwardProcess, x: Tensor, t: int, s: int) -> Tensor:
    """The exact flow of that data: the place in the Gaussian, in standard deviations, is kept."""
    now, then = (process.coefficients(torch.tensor([one]), x) for one in (t, s))
    spreads = [(at.alpha**2 * SPREAD**2 + at.sigma**2).sqrt() for at in (now, then)]
    return then.alpha * MEAN + spreads[1] / spreads[0] * (x - now.alpha * MEAN)


PATHS = {"cosine": Schedule.cosine(200_000), "straight": Schedule.rectified_flow(200_000)}


def measured_order(process: ForwardProcess, solver: Solver, rule: Callable[[int, int], Any], ends: list[int]) -> float:
    """From halving the steps between two levels: 2 to the order is what the error is divided by."""
    start = torch.linspace(-2, 2, 16, dtype=torch.float64).reshape(1, 1, 4, 4)
    exact = along_the_flow(process, start, ends[1], ends[0])
    errors = []
    for steps in (64, 128):
        arrived = sample(
            denoiser_of(process, Velocity()),
            start.shape,
            process=process,
            target=Velocity(),
            solver=solver,
            steps=steps,
            spacing=lambda T, n: rule(T, n + 1)[1:],
            until=ends[0],
            start=start,
        )
        errors.append((arrived - exact).abs().max().item())
    return math.log2(errors[0] / errors[1])


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize(("solver", "order"), [(ddim, 1), (heun, 2), (dpm_solver, 2), (plms, 2)])
def test_order_of_convergence(name: str, solver: Solver, order: int) -> None:
    """Along steps of equal log SNR, away from both ends.

    Checks: DDIM Eq. 12
    Checks: EDM Algorithm 1
    Checks: DPM-Solver++ Algorithm 2
    Checks: PNDM linear multi-step
    """
    process = ForwardProcess(PATHS[name])
    ends = process.schedule.at_log_snr(torch.tensor([4.0, -4.0], dtype=torch.float64)).round().int().tolist()
    rule = evenly_in_log_snr(process.schedule, first=ends[0], last=ends[1])
    assert measured_order(process, solver, rule, ends) == pytest.approx(order, abs=0.25)


@pytest.mark.parametrize(("solver", "order"), [(ddim, 1), (heun, 2), (plms, 3)])
def test_order_along_equal_steps_of_noise_over_signal(solver: Solver, order: int) -> None:
    """Where the weights of Adams and Bashforth belong, their order shows; that of the first steps bounds it below.

    Checks: PNDM linear multi-step
    """
    process = ForwardProcess(PATHS["straight"])
    ends = process.schedule.at_log_snr(torch.tensor([2.0, -2.0], dtype=torch.float64)).round().int().tolist()
    ratio = torch.exp(-process.schedule.log_snr[ends] / 2)

    def rule(T: int, n: int) -> Any:
        noise = torch.linspace(float(ratio[0]), float(ratio[1]), n, dtype=torch.float64)
        return tuple((T * noise / (1 + noise)).round().int().tolist())

    assert measured_order(process, solver, rule, ends) > order - 0.25


@pytest.mark.parametrize("solver", [ddim, heun, dpm_solver, plms])
@pytest.mark.parametrize("target", [Velocity(), Clean(), Displacement()], ids=lambda target: type(target).__name__)
def test_paths_from_pure_noise_end_in_the_data(solver: Solver, target: Target) -> None:
    """Checks: Rectified Flow straight path
    Checks: Zero Terminal SNR Algorithm 1
    """
    for schedule in (Schedule.rectified_flow(100), Schedule.cosine(100).to_zero_snr()):
        process = ForwardProcess(schedule)
        arguments: dict[str, Any] = {"process": process, "target": target, "solver": solver}
        samples = sample(denoiser_of(process, target), (2000, 1, 2, 2), **arguments)
        assert samples.mean().item() == pytest.approx(MEAN, abs=0.03)
        assert samples.std().item() == pytest.approx(SPREAD, rel=0.06)


@pytest.mark.parametrize("steps", [10, 25])
@pytest.mark.parametrize("solver", [heun, dpm_solver, plms])
@pytest.mark.parametrize(
    "schedule",
    [Schedule.cosine(), Schedule.cosine().to_zero_snr(), Schedule.rectified_flow()],
    ids=["almost pure", "pure", "straight"],
)
def test_higher_orders_pay_from_noise_to_data(schedule: Schedule, solver: Solver, steps: int) -> None:
    """The whole way in few even steps, the first of them out of noise: under a third of DDIM's distance to the end.

    Checks: EDM Algorithm 1
    Checks: DPM-Solver++ Algorithm 2
    Checks: PNDM linear multi-step
    """
    process = ForwardProcess(schedule)
    start = torch.linspace(-2, 2, 16, dtype=torch.float64).reshape(1, 1, 4, 4)
    exact = along_the_flow(process, start, process.T, 0)
    given: dict[str, Any] = {"process": process, "target": Velocity(), "start": start, "steps": steps}
    ends = [sample(denoiser_of(process, Velocity()), start.shape, solver=each, **given) for each in (solver, ddim)]
    error, baseline = ((end - exact).abs().max().item() for end in ends)
    assert error < baseline / 3.5


def test_ancestral_sampling_is_ddim_with_all_fresh_noise() -> None:
    """Checks: DDPM Algorithm 2
    Checks: DDIM Eq. 16
    """
    process = ForwardProcess(Schedule.cosine(50))
    start = torch.randn(3, 1, 4, 4)
    ours, theirs = (
        sample(
            denoiser_of(process, Epsilon()),
            start.shape,
            process=process,
            start=start,
            generator=torch.Generator().manual_seed(1),
            **options,
        )
        for options in ({"solver": ancestral}, {"eta": 1.0})
    )
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_dynamic_threshold_bounds_each_image_by_itself() -> None:
    """Checks: Imagen dynamic thresholding"""
    images = torch.linspace(-3, 3, 3 * 1001).reshape(1, 3, 7, 143)
    images = torch.cat([images, 0.2 * images])
    bounded = DynamicThreshold(0.9)(images)
    torch.testing.assert_close(bounded[0], (images[0] / 2.7).clamp(-1, 1), atol=1e-3, rtol=0)
    assert torch.equal(bounded[1], images[1])
    assert torch.equal(DynamicThreshold(0.9)(images[:1]), bounded[:1])
    process = ForwardProcess(Schedule.cosine(10))
    last = sample(denoiser_of(process, Epsilon()), (1, 1, 2, 2), process=process, clip=DynamicThreshold(1.0))
    assert last.abs().max() <= 1
    for arguments in ({"quantile": 1.1}, {"floor": 0.0}):
        with pytest.raises(ValueError, match="expected a quantile in"):
            DynamicThreshold(**arguments)


# Parity: the same formula as a model, the same noise, the scheduler of diffusers.

SHARED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}
latent = ForwardProcess(Schedule.sqrt_linear(1000, *Betas.TEXT.value))


def value(x: Tensor, t: Tensor) -> Tensor:
    return 0.2 * torch.sin(x + 0.01 * t.float())


def toy(x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Prediction:
    return Prediction(value=value(x_t, t[:, None, None, None] - 1), features=x_t)


def theirs(peer: Any, x: Tensor, **arguments: Any) -> list[Tensor]:
    states = []
    for t in peer.timesteps:
        x = peer.step(value(peer.scale_model_input(x, t), t), t, x, **arguments).prev_sample
        states.append(x)
    return states


@pytest.fixture
def diffusers() -> Any:
    return pytest.importorskip("diffusers", reason="diffusers is not installed: pip install diffusers")


@pytest.mark.parity
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("spacing", "name"), [(leading, "leading"), (trailing, "trailing")])
@pytest.mark.parametrize(("target", "asked"), [(Epsilon(), "epsilon"), (Velocity(), "v_prediction")])
def test_ddim_of_diffusers(eta: float, spacing: Any, name: str, target: Target, asked: str, diffusers: Any) -> None:
    """Checks: DDIM Eq. 12, Eq. 16"""
    peer = diffusers.DDIMScheduler(**SHARED, clip_sample=False, timestep_spacing=name, prediction_type=asked)
    peer.set_timesteps(20)
    start, seeds = torch.randn(2, 3, 4, 4), [torch.Generator().manual_seed(4) for _ in range(2)]
    expected = theirs(peer, start, eta=eta, generator=seeds[0])
    arguments: dict[str, Any] = {"process": latent, "target": target, "steps": 20, "eta": eta, "spacing": spacing}
    ours = trajectory(toy, start.shape, start=start, generator=seeds[1], **arguments)
    for state, reference in zip(list(ours)[:-1], expected[:-1], strict=True):
        torch.testing.assert_close(state.x, reference, atol=1e-4, rtol=1e-4)
    if eta == 0:
        torch.testing.assert_close(sample(toy, start.shape, start=start, **arguments), expected[-1], atol=1e-4, rtol=0)


@pytest.mark.parity
@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_ddpm_of_diffusers(learned: bool, clip: float | None, diffusers: Any) -> None:
    """Checks: DDPM Algorithm 2
    Checks: Improved DDPM Eq. 15
    """
    peer = diffusers.DDPMScheduler(
        **SHARED,
        clip_sample=clip is not None,
        variance_type="learned_range" if learned else "fixed_small",
        timestep_spacing="leading",
    )
    peer.set_timesteps(25)
    start, seeds = torch.randn(2, 3, 4, 4), [torch.Generator().manual_seed(4) for _ in range(2)]

    def with_variance(x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Prediction:
        told = toy(x_t, t)
        return PredictionWithVariance(told.value, told.features, variance=torch.cos(x_t))

    x, expected = start, []
    for t in peer.timesteps:
        model = torch.cat([value(x, t), torch.cos(x)], 1) if learned else value(x, t)
        x = peer.step(model, t, x, generator=seeds[0]).prev_sample
        expected.append(x)
    arguments: dict[str, Any] = {"process": latent, "solver": ancestral, "steps": 25, "spacing": leading, "clip": clip}
    denoiser = with_variance if learned else toy
    states = trajectory(denoiser, start.shape, start=start, generator=seeds[1], **arguments)
    for state, reference in zip(states, expected, strict=True):
        torch.testing.assert_close(state.x, reference, atol=1e-4, rtol=1e-4)


@pytest.mark.parity
def test_plms_of_diffusers(diffusers: Any) -> None:
    """Checks: PNDM linear multi-step"""
    peer = diffusers.PNDMScheduler(**SHARED, skip_prk_steps=True, set_alpha_to_one=True, timestep_spacing="leading")
    peer.set_timesteps(20)
    start = torch.randn(2, 3, 4, 4)
    ours = sample(toy, start.shape, process=latent, solver=plms, steps=20, spacing=leading, start=start)
    torch.testing.assert_close(ours, theirs(peer, start)[-1], atol=1e-4, rtol=1e-4)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("steps", [8, 20])
def test_dpm_solver_of_diffusers(steps: int, diffusers: Any) -> None:
    """Checks: DPM-Solver++ Algorithm 2"""
    peer = diffusers.DPMSolverMultistepScheduler(**SHARED, timestep_spacing="trailing")
    peer.set_timesteps(steps)
    start = torch.randn(2, 3, 4, 4)
    states = trajectory(toy, start.shape, process=latent, solver=dpm_solver, steps=steps, spacing=trailing, start=start)
    for state, reference in zip(states, theirs(peer, start), strict=True):
        torch.testing.assert_close(state.x, reference, atol=1e-4, rtol=1e-4)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_heun_of_diffusers(diffusers: Any) -> None:
    """The peer's state is ours divided by alpha.

    Checks: EDM Algorithm 1
    """
    peer = diffusers.HeunDiscreteScheduler(**SHARED, timestep_spacing="trailing")
    peer.set_timesteps(20)
    start = torch.randn(2, 3, 4, 4)
    first = latent.coefficients(torch.tensor([1000, 1000]), start).alpha
    ours = sample(toy, start.shape, process=latent, solver=heun, steps=20, spacing=trailing, start=start)
    torch.testing.assert_close(ours, theirs(peer, start / first)[-1], atol=1e-4, rtol=1e-4)


@pytest.mark.parity
def test_straight_path_of_diffusers(diffusers: Any) -> None:
    """Checks: Rectified Flow straight path"""
    peer = diffusers.FlowMatchEulerDiscreteScheduler(shift=1.0)
    flow = ForwardProcess(Schedule.rectified_flow(1000))
    peer.set_timesteps(sigmas=[i / 20 for i in range(20, 0, -1)])
    start = torch.randn(2, 3, 4, 4)

    def velocity(x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Prediction:
        return Prediction(value=value(x_t, t[:, None, None, None]), features=x_t)

    x, expected = start, []
    for t in peer.timesteps:
        x = peer.step(value(x, t), t, x).prev_sample
        expected.append(x)
    states = trajectory(velocity, start.shape, process=flow, target=Displacement(), steps=20, start=start)
    for state, reference in zip(states, expected, strict=True):
        torch.testing.assert_close(state.x, reference, atol=1e-4, rtol=1e-4)
