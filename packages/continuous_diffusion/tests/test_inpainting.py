"""Filling in, against the published chain and schedules, and laws that hold for any model."""

from typing import Any

import pytest
import torch
from torch import Tensor

import continuous_diffusion.inpainting
import continuous_diffusion.sampler
from continuous_diffusion import (
    Betas,
    Clean,
    Condition,
    ForwardProcess,
    Jump,
    Objective,
    Prediction,
    PredictionWithVariance,
    Resampling,
    Schedule,
    UNet,
    ancestral,
    beside_hole,
    dpm_solver,
    heun,
    inpaint,
    inpainting_trajectory,
    latent_mask,
    plms,
    sample,
    spanning,
    strided,
)
from continuous_diffusion.solvers import Solver, ddim

process = ForwardProcess(Schedule.cosine(50))
RHO = 0.9


def pair(x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Prediction:
    """E[x_0 | x_t] for images of two pixels, each N(0, 1), with correlation RHO."""
    signal = process.signal(t)[:1, None, None, None].to(x_t.dtype)
    covariance = torch.tensor([[1.0, RHO], [RHO, 1.0]], dtype=x_t.dtype)
    noisy = signal * covariance + (1 - signal) * torch.eye(2, dtype=x_t.dtype)
    gain = signal.sqrt() * covariance @ torch.linalg.inv(noisy)
    return Prediction(value=x_t @ gain.mT, features=x_t)


known = torch.tensor([1.5, -7.0]).expand(4, 1, 1, 2)
right = torch.tensor([0.0, 1.0]).expand(4, 1, 1, 2)
plain: dict[str, Any] = {"process": process, "target": Clean()}


@pytest.mark.parametrize(
    ("steps", "length", "passes", "entries", "calls", "rises"),
    [
        (250, 10, 10, 4571, 2410, 2160),
        (100, 10, 10, 1721, 910, 810),
        (50, 10, 10, 771, 410, 360),
        (250, 1, 10, 4733, 2491, 2241),
        (250, 10, 1, 251, 250, 0),
        (20, 5, 2, 51, 35, 15),
    ],
)
def test_jump_schedule_has_the_tabulated_size(
    steps: int, length: int, passes: int, entries: int, calls: int, rises: int
) -> None:
    """Checks: RePaint jump schedule"""
    path = Resampling((Jump(length, passes),)).path(steps)
    moves = torch.tensor(path).diff()
    assert (len(path), int((moves == -1).sum()), int((moves == 1).sum())) == (entries, calls, rises)
    assert path[0] == steps
    assert path[-1] == 0


def test_jump_schedule_written_out() -> None:
    """Checks: RePaint jump schedule"""
    written = [*range(20, 10, -1), *range(11, 16 + 1), *range(15, 5, -1), *range(6, 11 + 1), *range(10, 0, -1)]
    written += [*range(1, 6 + 1), *range(5, -1, -1)]
    merged = [level for i, level in enumerate(written) if i == 0 or level != written[i - 1]]
    assert Resampling((Jump(5, 2),)).path(20) == tuple(merged)


@pytest.mark.parametrize("solver", [ddim, ancestral, plms, heun, dpm_solver])
def test_a_mask_of_ones_is_plain_sampling(solver: Solver) -> None:
    """Checks: RePaint Algorithm 1"""
    options: dict[str, Any] = {**plain, "solver": solver, "steps": 10}
    generators = [torch.Generator().manual_seed(3) for _ in range(3)]
    sampled = sample(pair, (4, 1, 1, 2), generator=generators[0], **options)
    mixed = inpaint(pair, known, torch.ones(4, 1, 1, 2), generator=generators[1], **options)
    once = Resampling((Jump(2, 1),))
    repainted = inpaint(pair, known, torch.ones(4, 1, 1, 2), generator=generators[2], resampling=once, **options)
    assert torch.equal(mixed, sampled)
    assert torch.equal(repainted, sampled)


@pytest.mark.parametrize("resampling", [None, Resampling((Jump(5, 3),))])
def test_a_mask_of_zeros_returns_the_image(resampling: Resampling | None) -> None:
    """Checks: RePaint Algorithm 1"""
    empty = torch.zeros(4, 1, 1, 2)
    assert torch.equal(inpaint(pair, known, empty, resampling=resampling, **plain), known)
    repainted = inpaint(pair, known, empty, resampling=resampling, paste=False, **plain)
    assert (repainted - known).abs().max() > 0.01


def test_what_is_kept_is_kept_and_what_is_hidden_is_not_read() -> None:
    """Checks: RePaint Algorithm 1"""
    other = torch.where(right == 1, torch.full_like(known, 99.0), known)
    one, two = (
        inpaint(pair, image, right, generator=torch.Generator().manual_seed(0), **plain) for image in (known, other)
    )
    assert torch.equal(one, two)
    assert torch.equal(one[..., 0], known[..., 0])


def test_resampling_draws_from_the_conditional_law() -> None:
    """The hidden pixel is N(RHO x, 1 - RHO^2) given the other; one pass of mixing falls short of that mean.

    Checks: RePaint Algorithm 1, Eq. 8
    Checks: LDM inpainting by mixing
    """
    image, mask = known[:1].expand(1000, 1, 1, 2), right[:1].expand(1000, 1, 1, 2)
    exact = RHO * 1.5
    jumps = Resampling((Jump(5, 5),))
    repainted = inpaint(pair, image, mask, solver=ancestral, resampling=jumps, **plain)[..., 1]
    mixed = inpaint(pair, image, mask, solver=ancestral, **plain)[..., 1]
    assert repainted.mean().item() == pytest.approx(exact, abs=0.15)
    assert repainted.std().item() == pytest.approx((1 - RHO**2) ** 0.5, rel=0.15)
    assert (repainted.mean() - exact).abs() < 0.4 * (mixed.mean() - exact).abs()


def test_image_depends_on_its_own_mask_and_generator_alone() -> None:
    masks = torch.stack([right[0], torch.ones(1, 1, 2), torch.zeros(1, 1, 2), 1 - right[0]])
    options: dict[str, Any] = {**plain, "solver": ancestral, "resampling": Resampling((Jump(5, 2),)), "steps": 20}
    together = inpaint(pair, known, masks, generator=[torch.Generator().manual_seed(i) for i in range(4)], **options)
    for i in range(4):
        own = [torch.Generator().manual_seed(i)]
        assert torch.equal(inpaint(pair, known[i : i + 1], masks[i : i + 1], generator=own, **options)[0], together[i])


def test_trajectory_follows_the_path_of_the_jumps() -> None:
    jumps = Resampling((Jump(2, 2),))
    states = list(inpainting_trajectory(pair, known, right, resampling=jumps, steps=10, **plain))
    assert [state.t for state in states] == [5 * level for level in jumps.path(10)[1:]]


def test_a_model_told_of_the_hole_is_trained_and_sampled_with_the_same_condition() -> None:
    """LDM's inpainting model, which reads the mask beside the state, and under which mixing can go on as well.

    Checks: LDM inpainting
    """
    unet = UNet(in_channels=7, out_channels=3, channels=8, multipliers=(1,), residual_blocks=1, heads=1, groups=2)
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    latents, mask = torch.randn(2, 3, 4, 4), (torch.rand(2, 1, 16, 16) > 0.9).float()
    hole = latent_mask(mask, (4, 4))
    told = Condition(concat=beside_hole(latents * (1 - hole), mask))
    Objective(unet, process)(latents, told).loss.mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in unet.parameters())
    filled = inpaint(unet, latents, hole, told, process=process, steps=3)
    assert torch.equal(torch.where(hole == 0, filled, 0), torch.where(hole == 0, latents, 0))
    assert sample(unet, (2, 3, 4, 4), told, process=process, steps=3).isfinite().all()


def test_any_filled_pixel_fills_its_latent() -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[0, 0, 3, 5] = 1
    expected = torch.zeros(1, 1, 2, 4)
    expected[0, 0, 0, 2] = 1
    assert torch.equal(latent_mask(mask, (2, 4)), expected)
    assert torch.equal(latent_mask(mask, (8, 8)), mask)
    with pytest.raises(ValueError, match="8 x 8 pixels are no multiple of 3 x 4"):
        latent_mask(mask, (3, 4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": torch.zeros(4, 1, 2, 2)}, r"mask: shape \(4, 1, 2, 2\) beside an image"),
        ({"mask": torch.zeros(1, 1, 1, 2)}, "mask: shape"),
        ({"mask": torch.full((4, 1, 1, 2), 0.5)}, "other than 0"),
        ({"mask": torch.full((4, 1, 1, 2), -1)}, "other than 0"),
        ({"steps": 51}, "51 asked for"),
        ({"solver": plms, "eta": 1.0}, "share of fresh noise"),
        ({"start": torch.zeros(1, 1, 1, 2)}, "expected that of known"),
        ({"start": torch.zeros(4, 1, 1, 2), "generator": [torch.Generator()]}, "pass one per image"),
    ],
)
def test_wrong_inputs_are_named_before_any_work(changes: dict[str, Any], message: str) -> None:
    def never(x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Prediction:
        raise AssertionError("the denoiser was called")

    with pytest.raises(ValueError, match=message):
        inpainting_trajectory(never, known, **({"mask": right, **plain} | changes))


def test_impossible_jumps_are_refused() -> None:
    for jump in ({"length": 0}, {"passes": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            Jump(**jump)


OPTIONS = {"jump_length": "jump_n_sample", "jump2_length": "jump2_n_sample", "jump3_length": "jump3_n_sample"}


@pytest.mark.parity
def test_official_jump_schedules(golden: Any) -> None:
    """Checks: RePaint jump schedule"""
    case = golden("repaint")
    for entry in case.config["jump_schedules"]:
        jumps = tuple(Jump(entry[length], entry[passes]) for length, passes in OPTIONS.items() if length in entry)
        below = entry["start_resampling"] + 1 if "start_resampling" in entry else None
        path = Resampling(jumps, shakes=entry["n_sample"] - 1, below=below).path(entry["t_T"])
        assert [level - 1 for level in path] == case.io[f"jump{entry['index']}"].tolist()


@pytest.mark.parity
def test_jump_schedule_of_diffusers() -> None:
    """Checks: RePaint jump schedule"""
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install diffusers")
    peer = diffusers.RePaintScheduler()
    peer.set_timesteps(250, jump_length=10, jump_n_sample=10)
    scale = 1000 // 250
    ours = [(level - 1) * scale for level in Resampling().path(250)[:-1]]
    assert len(ours) == 4570
    assert ours == peer.timesteps.tolist()


@pytest.mark.parity
def test_official_repaint_chain(golden: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks: RePaint Algorithm 1, Eq. 8
    Checks: Improved DDPM Eq. 15
    """
    case = golden("repaint")
    io, toy, jumps = case.io, case.config["toy_model"], case.config["process"]["schedule_jump_params"]
    columns = [io[f"chain.{name}"].tolist() for name in ("is_denoise", "t_arg", "noise_offset", "noise_count")]
    noise, added, mixed = io["chain.noise"], [], []
    for down, t, offset, count in zip(*columns, strict=True):
        if not down or t > 0:
            added.append(noise[offset])
        if down and count == 2:
            mixed.append(noise[offset + 1])
    draws = {"sampler": iter(added), "inpainting": iter(mixed)}
    monkeypatch.setattr(continuous_diffusion.sampler, "gaussian", lambda *_, **__: next(draws["sampler"]))
    monkeypatch.setattr(continuous_diffusion.inpainting, "gaussian", lambda *_, **__: next(draws["inpainting"]))
    asked = []

    def model(x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Prediction:
        asked.append(int(t[0]) - 1)
        old = (t - 1).float()[:, None, None, None]
        value = toy["a"] * x_t + toy["b"] * torch.sin(toy["w"] * old)
        variance = (toy["v"] * torch.cos(toy["wv"] * old)).expand_as(x_t)
        return PredictionWithVariance(value=value, features=x_t, variance=variance)

    states = list(
        inpainting_trajectory(
            model,
            io["chain.gt"],
            1 - io["chain.gt_keep_mask"],
            process=ForwardProcess(Schedule.linear(1000)),
            solver=ancestral,
            steps=20,
            spacing=spanning,
            resampling=Resampling((Jump(jumps["jump_length"], jumps["jump_n_sample"]),)),
            paste=False,
            clip=1.0,
            start=io["chain.x_T"],
        )
    )
    assert asked == io["chain.t_seen_by_model"].tolist()
    torch.testing.assert_close(torch.stack([s.x for s in states]), io["chain.x_after"], atol=1e-5, rtol=1e-5)
    down = [s.estimate for s, fell in zip(states, io["chain.is_denoise"].tolist(), strict=True) if fell]
    torch.testing.assert_close(torch.stack(down), io["chain.pred_xstart"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(states[-1].x, io["chain.final"], atol=1e-5, rtol=1e-5)


@pytest.mark.parity
def test_official_mixing(golden: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks: LDM inpainting by mixing"""
    case = golden("ldm_ddim_plms")
    io, toy = case.io, case.config["toy_model"]
    draws = iter(io["ddim_inpaint.q_noise"])
    monkeypatch.setattr(continuous_diffusion.inpainting, "gaussian", lambda *_, **__: next(draws))

    def model(x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Prediction:
        wave = torch.sin(toy["w"] * (t - 1).float())[:, None, None, None]
        return Prediction(value=toy["a"] * x_t + toy["b"] * wave, features=x_t)

    states = list(
        inpainting_trajectory(
            model,
            io["x0"],
            1 - io["mask"],
            process=ForwardProcess(Schedule.sqrt_linear(1000, *Betas.TEXT.value)),
            steps=10,
            spacing=strided,
            until=1,
            start=io["x_T"],
        )
    )
    torch.testing.assert_close(torch.stack([s.x for s in states]), io["ddim_inpaint.x"], atol=1e-5, rtol=1e-5)
    expected = io["ddim_inpaint.pred_x0"]
    torch.testing.assert_close(torch.stack([s.estimate for s in states]), expected, atol=1e-5, rtol=1e-5)
