import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from discrete_diffusion import (
    Exact,
    ForwardProcess,
    Prediction,
    ReleasedStride,
    Schedule,
    State,
    by_gumbel_noise,
    from_vq_diffusion,
    sample,
    trajectory,
)

K, N = 2, 3
JOINT = torch.tensor([0.3, 0.05, 0.05, 0.1, 0.1, 0.05, 0.05, 0.3], dtype=torch.float64)
"""Law of three tokens that depend on one another: that of (0, 0, 0), (0, 0, 1) ... (1, 1, 1)."""


class Known:
    """The perfect denoiser of three tokens with the law JOINT: the posterior of each, all noised ones given."""

    def __init__(self, process: ForwardProcess) -> None:
        self.process = process
        self.clean = torch.tensor(list(itertools.product(range(K), repeat=N)))

    def __call__(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Prediction:
        likelihood = self.process.log_marginal(torch.arange(K).expand(len(t), K), t)  # (b, x_0, x_t)
        each = likelihood.transpose(1, 2).gather(1, x_t[..., None].expand(-1, -1, K))  # (b, n, x_0)
        whole = sum(each[:, i, self.clean[:, i]] for i in range(N)) + JOINT.log()  # (b, 8)
        p = whole.softmax(-1)
        marginal = torch.stack([(p @ (self.clean == code).double()) for code in range(K)], -1)
        return Prediction(marginal.log(), torch.zeros(len(x_t), 1, 1, N))

    def null_condition(self, b: int, l: int) -> Tensor:  # noqa: E741
        return torch.zeros(b, l, 1)


def statistic(tokens: Tensor, law: Tensor) -> float:
    """Chi-square of the tokens of 8 kinds against a law, less its mean, in standard deviations."""
    b, degrees = len(tokens), len(law) - 1
    counts = torch.bincount(tokens @ torch.tensor([4, 2, 1]), minlength=len(law))
    return float((((counts - b * law) ** 2 / (b * law)).sum() - degrees) / (2 * degrees) ** 0.5)


def chain_law(process: ForwardProcess, denoiser: Known, times: list[int]) -> Tensor:
    """The law at 0 of the chain that draws each token for itself: all 27 states, one dense product per step."""
    states = torch.tensor(list(itertools.product(range(K + 1), repeat=N)))
    prior = torch.tensor([*[(1 - process.schedule.mask[-1]) / K] * K, process.schedule.mask[-1]])
    law = prior[states].prod(1)
    for now, then in itertools.pairwise(times):
        t, s = torch.full((len(states),), now), torch.full((len(states),), then)
        log_x0 = denoiser(states, t).value.log_softmax(-1)
        step = process.log_posterior(log_x0, states, t, s).exp()  # (27, n, 3)
        law = law @ step[:, torch.arange(N), states].prod(-1)
    return law[(states < K).all(1)]


@pytest.mark.parametrize("route", [Exact(), Exact(by_gumbel_noise)])
@pytest.mark.parametrize("steps", [20, 5, 1])
def test_three_dependent_tokens_have_the_law_of_the_chain(
    make_schedule: Callable[..., Schedule], route: Exact, steps: int
) -> None:
    """Chi-square of 20,000 samples against the chain's law from dense matrices over all 27 states.

    Checks: VQ-Diffusion reverse process, stride inference
    """
    process = ForwardProcess(make_schedule(20, K))
    denoiser = Known(process)
    times = [state.t for state in trajectory(denoiser, (1, N), process=process, steps=steps, route=route)]
    law = chain_law(process, denoiser, [20, *times])
    assert law.sum().item() == pytest.approx(1)
    tokens = sample(
        denoiser, (20_000, N), process=process, steps=steps, route=route, generator=torch.Generator().manual_seed(steps)
    )
    assert statistic(tokens, law / law.sum()) < 5


def test_more_steps_bring_the_chain_to_the_law_of_the_data() -> None:
    """The distance from the known law falls with the step, as one over their number: ancestral sampling is consistent.

    Checks: VQ-Diffusion reverse process
    """
    away = []
    for T in (4, 16, 64):
        process = ForwardProcess(Schedule.mask_only(T, K))
        law = chain_law(process, Known(process), list(range(T, -1, -1)))
        away.append((law - JOINT).abs().sum().item() / 2)
    assert away[0] > 0.01 and away[2] < 0.02
    assert 3 < away[0] / away[1] < 5 and 3 < away[1] / away[2] < 5


@pytest.mark.parametrize("T", [1, 7])
def test_the_denoiser_is_asked_at_every_time_from_T_to_one(T: int) -> None:
    process = ForwardProcess(Schedule.released(T, K))
    asked: list[int] = []

    class Asked(Known):
        def __call__(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Prediction:
            asked.append(int(t[0]))
            return super().__call__(x_t, t, condition)

    sample(Asked(process), (2, N), process=process)
    assert asked == list(range(T, 0, -1))


@pytest.mark.parametrize(
    ("skip", "calls", "late", "last"), [(0, 100, 0.01, 0.0), (1, 51, 0.08, 0.0), (3, 26, 0.367, 0.245)]
)
def test_the_released_stride_leaves_too_much_to_the_end(skip: int, calls: int, late: float, last: float) -> None:
    """Oracle: calls, and the shares of tokens still masked before the last two of them, in the released schedule.

    Checks: VQ-Diffusion stride inference
    """
    process = ForwardProcess(Schedule.released(100, K))
    generator = torch.Generator().manual_seed(0)
    states = list(
        trajectory(Known(process), (3000, N), process=process, route=ReleasedStride(skip), generator=generator)
    )
    assert len(states) == calls and states[-1].t == 0 and bool((states[-1].x < K).all())
    masked = [(state.x == K).double().mean().item() for state in states]
    assert masked[-3:] == [pytest.approx(late, abs=0.02), pytest.approx(last, abs=0.02), 0]


@pytest.mark.parametrize("start", [None, State(5, torch.full((8, N), K))])
def test_the_released_stride_of_skip_none_is_ancestral(start: State | None) -> None:
    """Invariance: from the same masks and seeds, token by token."""
    process = ForwardProcess(Schedule.released(10, K))
    begun = State(10, torch.full((8, N), K)) if start is None else start
    ours, theirs = (
        sample(
            Known(process),
            (8, N),
            process=process,
            start=first,
            route=route,
            generator=torch.Generator().manual_seed(3),
        )
        for first, route in ((begun, Exact(by_gumbel_noise)), (start, ReleasedStride(0)))
    )
    assert torch.equal(ours, theirs)


def test_the_released_stride_sets_its_own_steps() -> None:
    process = ForwardProcess(Schedule.released(10, K))
    with pytest.raises(ValueError, match="skip = 2 settles how many steps"):
        sample(Known(process), (1, N), process=process, steps=5, route=ReleasedStride(2))
    with pytest.raises(ValueError, match="skip must be at least 0, got -1"):
        ReleasedStride(-1)


@pytest.mark.parity
def test_the_released_stride_is_the_official_one_step_by_step(golden, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: recorded tokens of `sample_fast` ("time3") after every step, from recorded uniform numbers.

    Checks: VQ-Diffusion stride inference
    """
    case = golden("vqdiffusion_process")
    model = from_vq_diffusion(case.weights("weights_sampling"), case.config["constructor"]["sampling_model"])
    uniforms = list(case.io["sample_fast.uniform"].transpose(2, 3).double())
    monkeypatch.setattr("discrete_diffusion.drawing.uniform", lambda *_, **__: uniforms.pop(0))
    process = ForwardProcess(Schedule.released(10, 20))
    states = trajectory(
        model,
        (2, 16),
        case.io["cfg.cond"],
        process=process,
        guidance=5.0,
        truncation=0.86,
        route=ReleasedStride(2),
    )
    for state, tokens in zip(states, case.io["sample_fast.tokens_after_step"], strict=True):
        assert torch.equal(state.x, tokens), state.t
