from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from discrete_diffusion import (
    Exact,
    FewerTokens,
    ForwardProcess,
    Kept,
    Prediction,
    Prepared,
    ReleasedStride,
    Schedule,
    State,
    TokenTransformer,
    by_gumbel_noise,
    from_vq_diffusion,
    sample,
    trajectory,
    truncate,
)
from discrete_diffusion.routes import Route, times

K, T = 4, 10
LAW = torch.tensor([[0.6, 0.25, 0.1, 0.05], [0.1, 0.1, 0.1, 0.7]], dtype=torch.float64)


class Bayes:
    """The perfect denoiser of two independent tokens with the laws LAW."""

    def __init__(self, process: ForwardProcess) -> None:
        self.process, self.calls = process, 0

    def __call__(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Prediction:
        self.calls += 1
        marginal = self.process.log_marginal(torch.arange(K)[None], t[:1])[0]
        logits = LAW.log() + marginal.T[x_t]
        return Prediction(logits, torch.zeros(len(x_t), 1, 1, 2))

    def null_condition(self, b: int, l: int) -> Tensor:  # noqa: E741
        return torch.zeros(b, l, 1)


def _statistic(tokens: Tensor) -> float:
    """Chi-square of the tokens against LAW, less its mean, in standard deviations."""
    b = len(tokens)
    counts = torch.stack([torch.bincount(column, minlength=K) for column in tokens.T])
    degrees = 2 * (K - 1)
    return float((((counts - b * LAW) ** 2 / (b * LAW)).sum() - degrees) / (2 * degrees) ** 0.5)


@pytest.mark.parametrize("steps", [T, 4, 1])
def test_samples_reproduce_a_known_law_at_any_stride(make_schedule: Callable[..., Schedule], steps: int) -> None:
    """Chi-square of 20,000 samples from the perfect denoiser.

    Checks: VQ-Diffusion reverse process, stride inference
    """
    process = ForwardProcess(make_schedule(T, K))
    denoiser = Bayes(process)
    tokens = sample(denoiser, (20_000, 2), process=process, steps=steps, generator=torch.Generator().manual_seed(steps))
    assert _statistic(tokens) < 5
    assert denoiser.calls == steps


def test_the_sample_is_the_last_state_of_the_trajectory() -> None:
    process = ForwardProcess(Schedule.mask_only(T, K))
    states = list(
        trajectory(Bayes(process), (50, 2), process=process, steps=5, generator=torch.Generator().manual_seed(0))
    )
    tokens = sample(Bayes(process), (50, 2), process=process, steps=5, generator=torch.Generator().manual_seed(0))
    assert [state.t for state in states] == [8, 6, 4, 2, 0]
    assert torch.equal(states[-1].x, tokens) and bool((tokens < K).all())
    masked = [int((state.x == K).sum()) for state in states]
    assert masked == sorted(masked, reverse=True)


def test_an_image_depends_on_its_own_seed_alone() -> None:
    """Invariance: alone, in a batch, and in another order; with a network, guidance and truncation."""
    torch.manual_seed(0)
    model = TokenTransformer(codes=9, grid=(2, 3), steps=T, width=16, depth=1, heads=2, condition_width=4)
    process, states = ForwardProcess(Schedule.paper(T, 9)), torch.randn(3, 2, 4)

    def draw(*which: int) -> Tensor:
        generators = [torch.Generator().manual_seed(i) for i in which]
        return sample(
            model,
            (len(which), 6),
            states[list(which)],
            process=process,
            steps=5,
            guidance=2.0,
            truncation=0.9,
            generator=generators,
        )

    together = draw(0, 1, 2)
    assert torch.equal(torch.cat([draw(0), draw(1), draw(2)]), together)
    assert torch.equal(draw(2, 0), together[[2, 0]])


@pytest.mark.parametrize("route", [Exact(), Exact(by_gumbel_noise), ReleasedStride(1), FewerTokens()])
def test_an_image_is_the_same_alone_and_among_eight_on_every_route(route: Route) -> None:
    """Invariance of every state on the way; with a network, guidance, truncation and some tokens kept."""
    torch.manual_seed(0)
    model = Prepared(TokenTransformer(codes=9, grid=(2, 3), steps=T, width=16, depth=1, heads=2, condition_width=4))
    process, condition = ForwardProcess(Schedule.released(T, 9)), torch.randn(8, 2, 4)
    tokens, fill = torch.randint(9, (8, 6)), torch.rand(8, 6) < 0.7

    def draw(images: list[int]) -> list[State]:
        return list(
            trajectory(
                model,
                (len(images), 6),
                condition[images],
                process=process,
                guidance=2.0,
                truncation=0.9,
                route=route,
                kept=Kept(tokens[images], fill[images]),
                generator=[torch.Generator().manual_seed(i) for i in images],
            )
        )

    together = draw(list(range(8)))
    for i in range(8):
        for ours, theirs in zip(draw([i]), together, strict=True):
            assert ours.t == theirs.t and torch.equal(ours.x[0], theirs.x[i])


def test_a_cold_or_truncated_sampler_takes_the_likeliest_code() -> None:
    """Oracle: the argmax of the law, in the limits of both options.

    Checks: VQ-Diffusion truncation sampling
    """
    process = ForwardProcess(Schedule.mask_only(T, K))
    for options in ({"temperature": 1e-3}, {"truncation": 1e-3}):
        tokens = sample(Bayes(process), (100, 2), process=process, **options)
        assert torch.equal(tokens, torch.tensor([[0, 3]]).expand(100, 2))


@settings(deadline=None, max_examples=30)
@given(r=st.floats(0.01, 1), seed=st.integers(0, 1000), codes=st.integers(2, 30))
def test_truncation_keeps_the_fewest_codes_that_reach_r(r: float, seed: int, codes: int) -> None:
    """Oracle: the definition, code by code.

    Checks: VQ-Diffusion truncation sampling
    """
    p = (2 * torch.randn(1, 1, codes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))).softmax(-1)
    kept = truncate(p.log(), r)[0, 0].exp()
    for j, value in enumerate(p[0, 0]):
        before = p[0, 0][p[0, 0] > value].sum()
        assert (kept[j] > 0) == bool(before < r)
    assert kept.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("r", [0.3, 0.86, 0.999, 1.0])
@pytest.mark.parametrize("scale", [0.0, 1.0, 8.0])
def test_truncation_of_many_codes_drops_what_the_definition_drops(r: float, scale: float) -> None:
    """Oracle: the definition in float64, one row at a time; flat laws with ties, and peaked ones."""
    logits = scale * torch.randn(1, 8, 3000, generator=torch.Generator().manual_seed(0))
    log_x0 = (logits + 1e-3 * torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))).log_softmax(-1)
    kept = truncate(log_x0, r)[0] > -torch.inf
    for row, found in zip(log_x0[0].double().exp(), kept, strict=True):
        before = (row * (row > row[:, None])).sum(1)
        certain = (before - r).abs() > 1e-5
        assert torch.equal(found[certain], (before < r)[certain])


@settings(deadline=None, max_examples=30)
@given(T=st.integers(1, 300), data=st.data())
def test_times_fall_strictly_from_T_to_zero(T: int, data: st.DataObject) -> None:
    steps = data.draw(st.integers(1, T))
    grid = times(T, steps)
    assert grid[0] == T and grid[-1] == 0 and len(grid) == steps + 1
    assert all(later < earlier for earlier, later in zip(grid, grid[1:], strict=False))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be in 1..10"),
        ({"steps": 11}, "steps must be in 1..10"),
        ({"truncation": 0.0}, "truncation"),
        ({"temperature": 0.0}, "temperature"),
        ({"generator": [torch.Generator()]}, "1 generators for a batch of 3"),
        ({"start": State(5, torch.zeros(2, 2, dtype=torch.int64))}, "do not fit shape"),
        ({"start": State(5, torch.full((3, 2), K + 1))}, f"start: tokens must be in 0..{K}"),
    ],
)
def test_options_out_of_range_are_named(options: dict[str, object], message: str) -> None:
    process = ForwardProcess(Schedule.mask_only(T, K))
    with pytest.raises(ValueError, match=message):
        sample(Bayes(process), (3, 2), process=process, **options)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("name", "options"),
    [("sample_plain", {}), ("sample_trunc", {"guidance": 5.0, "truncation": 0.86}), ("partial", {})],
)
def test_samples_are_the_official_ones_step_by_step(
    golden, monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, float]
) -> None:
    """Oracle: recorded tokens after every step, from recorded uniform numbers.

    Checks: VQ-Diffusion reverse process, truncation sampling
    Checks: Improved VQ-Diffusion discrete classifier-free guidance
    """
    case = golden("vqdiffusion_process")
    model = from_vq_diffusion(case.weights("weights_sampling"), case.config["constructor"]["sampling_model"])
    process = ForwardProcess(Schedule.released(10, 20))
    uniforms = list(case.io[f"{name}.uniform"].transpose(2, 3).double().clone())
    expected = list(case.io[f"{name}.tokens_after_" + ("draw" if name == "partial" else "step")])
    start = State(10, torch.full((2, 16), 20))
    if name == "partial":
        noisy, _ = expected.pop(0), uniforms.pop(0)
        start = State(5, noisy)
    monkeypatch.setattr("discrete_diffusion.drawing.uniform", lambda *_, **__: uniforms.pop(0))
    route = Exact(by_gumbel_noise)
    states = trajectory(model, (2, 16), case.io["cfg.cond"], process=process, start=start, route=route, **options)
    for state, tokens in zip(states, expected, strict=True):
        assert torch.equal(state.x, tokens), state.t


@pytest.mark.parity
def test_truncation_keeps_what_the_official_code_keeps(golden) -> None:
    """Checks: VQ-Diffusion truncation sampling"""
    io = golden("vqdiffusion_process").io
    log_p = io["trunc.log_p"][:, :-1].transpose(1, 2)
    for r in (0.5, 0.86, 0.999):
        official, ours = io[f"trunc.top{r}r"][:, :-1].transpose(1, 2), truncate(log_p, r)
        assert torch.equal(official > -70, ours > -torch.inf)
        torch.testing.assert_close(ours.exp(), official.softmax(-1), atol=1e-6, rtol=1e-5)
