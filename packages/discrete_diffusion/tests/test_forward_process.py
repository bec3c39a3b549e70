from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from discrete_diffusion import ForwardProcess, Schedule
from discrete_diffusion.drawing import gumbel_max
from discrete_diffusion.reversal import Reversal

K, T = 5, 8
EVERY_STATE = torch.arange(K + 1)[None]


def _prediction(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    noise = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (scale * noise).log_softmax(-1)


def test_the_marginal_is_a_column_of_the_dense_product(make_schedule, dense: Callable[..., Tensor]) -> None:
    """Checks: VQ-Diffusion cumulative transition"""
    schedule = make_schedule(T, K)
    for t in range(T + 1):
        ours = ForwardProcess(schedule).log_marginal(torch.arange(K)[None], torch.tensor([t])).exp()[0]
        torch.testing.assert_close(ours.T, dense(schedule, t, 0)[:, :K], atol=1e-14, rtol=0)


def test_the_posteriors_are_dense_bayes_for_every_pair_of_times(make_schedule, bayes: Callable[..., Tensor]) -> None:
    """Oracle: Bayes' rule with K x K matrices and a sum over x_0.

    Checks: VQ-Diffusion posterior, reverse process, stride inference
    """
    schedule = make_schedule(T, K)
    process = ForwardProcess(schedule)
    log_x0 = _prediction(1, K + 1, K)
    for t in range(1, T + 1):
        for s in range(t):
            of_x0, times = bayes(schedule, t, s), (torch.tensor([t]), torch.tensor([s]))
            mixture = (of_x0 * log_x0[0].exp()[:, None]).sum(-1)
            ours = process.log_posterior(log_x0, EVERY_STATE, *times).exp()[0]
            possible = mixture.isfinite().all(-1)
            torch.testing.assert_close(ours[possible], mixture[possible], atol=1e-9, rtol=0)
            for x_0 in range(K):
                truth = process.log_true_posterior(torch.full_like(EVERY_STATE, x_0), EVERY_STATE, *times).exp()[0]
                possible = of_x0[:, :, x_0].isfinite().all(-1)
                torch.testing.assert_close(truth[possible], of_x0[possible, :, x_0], atol=1e-9, rtol=0)


def test_the_divergence_is_the_sum_over_states(make_schedule) -> None:
    """Oracle: the two posteriors written out, and the definition of the divergence.

    Checks: VQ-Diffusion variational bound
    """
    process = ForwardProcess(make_schedule(T, K))
    log_x0 = _prediction(1, K + 1, K)
    for t in range(1, T + 1):
        for s in range(t):
            times = (torch.tensor([t]), torch.tensor([s]))
            log_p = process.log_posterior(log_x0, EVERY_STATE, *times)
            for x_0 in range(K):
                clean = torch.full_like(EVERY_STATE, x_0)
                log_q = process.log_true_posterior(clean, EVERY_STATE, *times)
                expected = (log_q.exp() * (log_q - log_p)).sum(-1)
                ours = process.divergence(log_x0, clean, EVERY_STATE, *times)
                torch.testing.assert_close(ours, expected, atol=1e-12, rtol=1e-9)


@settings(deadline=None, max_examples=30)
@given(
    K=st.integers(2, 40),
    T=st.integers(2, 30),
    scale=st.floats(0, 30),
    name=st.sampled_from(["paper", "released", "mask_only", "uniform_only"]),
    data=st.data(),
)
def test_laws_of_the_posterior(K: int, T: int, scale: float, name: str, data: st.DataObject) -> None:
    """Rows sum to one in float32; divergences are nonnegative, and zero for the perfect prediction.

    Checks: VQ-Diffusion posterior, variational bound
    """
    t = data.draw(st.integers(1, T))
    s = data.draw(st.integers(0, t - 1))
    process = ForwardProcess(getattr(Schedule, name)(T, K))
    times = torch.tensor([t]), torch.tensor([s])
    x_0 = torch.arange(K)[None]
    x_t = process.sample(x_0, times[0], generator=torch.Generator().manual_seed(t))
    log_x0 = _prediction(1, K, K, seed=s, scale=scale).float()
    total = process.log_posterior(log_x0, x_t, *times).exp().sum(-1)
    torch.testing.assert_close(total, torch.ones_like(total), atol=2e-5, rtol=0)
    assert process.divergence(log_x0, x_0, x_t, *times).min() > -1e-4
    perfect = torch.where(torch.eye(K, dtype=torch.bool), 0.0, -torch.inf)[None]
    assert process.divergence(perfect, x_0, x_t, *times).abs().max() < 1e-5


@settings(deadline=None, max_examples=20)
@given(name=st.sampled_from(["paper", "released", "uniform_only", "mask_only"]), data=st.data())
def test_two_strides_are_one(name: str, data: st.DataObject) -> None:
    """Chapman-Kolmogorov: going t to s to r with x_0 known is going t to r; and t = 0 changes nothing.

    Checks: VQ-Diffusion stride inference, cumulative transition
    """
    t = data.draw(st.integers(2, T))
    s = data.draw(st.integers(1, t - 1))
    r = data.draw(st.integers(0, s - 1))
    x_0, x_t = (torch.tensor([[data.draw(st.integers(0, top))]]) for top in (K - 1, K))
    process = ForwardProcess(getattr(Schedule, name)(T, K))
    if process.log_marginal(x_0, torch.tensor([t])).exp()[0, 0, x_t[0, 0]] < 1e-12:
        x_t = x_0.new_full((1, 1), K) if process.schedule.mask[t] > 0 else x_0
    at = {name: torch.tensor([time]) for name, time in (("t", t), ("s", s), ("r", r))}
    one = process.log_true_posterior(x_0, x_t, at["t"], at["r"]).exp()[0, 0]
    first = process.log_true_posterior(x_0, x_t, at["t"], at["s"]).exp()[0, 0]
    second = process.log_true_posterior(x_0.expand(1, K + 1), EVERY_STATE, at["s"], at["r"]).exp()[0]
    reachable = process.log_marginal(x_0, at["s"]).exp()[0, 0] > 1e-25
    torch.testing.assert_close((first[:, None] * second)[reachable].sum(0), one, atol=1e-9, rtol=0)
    clean = process.sample(x_0, torch.tensor([0]))
    assert torch.equal(clean, x_0)


@pytest.mark.parametrize("t", [1, 4, T])
def test_draws_follow_the_marginal(make_schedule, t: int) -> None:
    """Chi-square of 40,000 draws against the closed form, and of the prior against the marginal at T.

    Checks: VQ-Diffusion cumulative transition, reverse process
    """
    process, generator = ForwardProcess(make_schedule(T, K)), torch.Generator().manual_seed(t)
    x_0 = torch.full((400, 100), 2)
    law = process.log_marginal(x_0[:1, :1], torch.tensor([t])).exp()[0, 0]
    draws = [process.sample(x_0, torch.full((400,), t), generator=generator)]
    if t == T:
        draws.append(process.prior((400, 100), generator=generator))
    for tokens in draws:
        counts = torch.bincount(tokens.flatten(), minlength=K + 1)
        possible = law > 1e-4
        assert counts[law < 1e-12].sum() == 0
        statistic = ((counts - 40_000 * law) ** 2 / (40_000 * law))[possible].sum()
        assert statistic < possible.sum() + 5 * (2 * possible.sum()) ** 0.5


@pytest.mark.parametrize("t", [1, 2, T])
@pytest.mark.parametrize("scale", [1.0, 200.0])
def test_gradients_are_finite_at_both_ends_of_time(make_schedule, t: int, scale: float) -> None:
    """Also where the prediction is certain, and wrong: probabilities that vanish in float32."""
    process = ForwardProcess(make_schedule(T, K))
    logits = (scale * torch.randn(1, K + 1, K, generator=torch.Generator().manual_seed(1))).requires_grad_()
    x_0 = torch.zeros(1, K + 1, dtype=torch.int64)
    log_x0 = logits.log_softmax(-1)
    divergence = process.divergence(log_x0, x_0, EVERY_STATE, torch.tensor([t]))
    (divergence.sum() + process.log_posterior(log_x0, EVERY_STATE, torch.tensor([t])).sum()).backward()
    assert divergence.isfinite().all()
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_the_largest_numbers_make_the_last_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rounding takes the quotient of a number and its share to K, which stands for the mask."""
    process = ForwardProcess(Schedule.uniform_only(4, 3))
    u = torch.nextafter(3 * process.schedule.replace[1], torch.tensor(0.0, dtype=torch.float64))
    assert u / process.schedule.replace[1] == 3
    monkeypatch.setattr("discrete_diffusion.forward_process.uniform", lambda *_, **__: u.view(1, 1))
    assert process.sample(torch.tensor([[0]]), torch.tensor([1])).item() == 2
    rare = torch.tensor([0.0, 1.5 * 2**-53], dtype=torch.float64)
    process = ForwardProcess(Schedule(torch.tensor([1.0, 0.0], dtype=torch.float64), rare, 3))
    u = torch.tensor(1 - 2**-53, dtype=torch.float64)
    assert (u - rare[1]) / (1 - rare[1]) == 1
    assert process.prior((1, 1)).item() == 2


def test_laws_have_the_dtype_of_the_prediction() -> None:
    process, t = ForwardProcess(Schedule.paper(T, K)), torch.tensor([T])
    for dtype in (torch.float32, torch.float64):
        log_x0 = _prediction(1, K + 1, K).to(dtype)
        assert process.log_posterior(log_x0, EVERY_STATE, t).dtype == dtype
        assert process.divergence(log_x0, torch.zeros_like(EVERY_STATE), EVERY_STATE, t).dtype == dtype


def test_a_probability_that_rounding_takes_above_one_leaves_nothing_to_others() -> None:
    schedule = Schedule.paper(T, K)
    reversal = Reversal.of(schedule, torch.tensor([5]), torch.tensor([4]), dtype=torch.float64)
    above = torch.tensor([[1e-3]], dtype=torch.float64)
    weights = reversal.at(torch.tensor([[0]]), above, mask=K)
    torch.testing.assert_close(weights.offset, above.exp() * reversal.offset_same, rtol=1e-12, atol=0)
    torch.testing.assert_close(weights.stay, above.exp() * reversal.stay_same, rtol=1e-12, atol=0)


def test_draws_are_those_of_their_generators() -> None:
    """Alone and among three, and again; another seed gives others."""
    process = ForwardProcess(Schedule.uniform_only(T, K))
    x_0, t = torch.zeros(3, 20, dtype=torch.int64), torch.full((3,), T)

    def draw(seeds: list[int]) -> tuple[Tensor, Tensor]:
        prior = process.prior((len(seeds), 20), generator=[torch.Generator().manual_seed(i) for i in seeds])
        generators = [torch.Generator().manual_seed(i) for i in seeds]
        return prior, process.sample(x_0[: len(seeds)], t[: len(seeds)], generator=generators)

    for together, alone, other in zip(draw([4, 5, 6]), draw([5]), draw([7]), strict=True):
        assert torch.equal(together[1:2], alone)
        assert not torch.equal(alone, other)


def test_the_schedule_stays_exact_when_the_module_is_cast() -> None:
    process = ForwardProcess(Schedule.released(10, K)).to(torch.bfloat16)
    assert process.schedule.keep.dtype == torch.float64
    assert process.state_dict() == {}


def test_bad_predictions_are_named() -> None:
    process, x_t, t = ForwardProcess(Schedule.paper(T, K)), torch.zeros(2, 3, dtype=torch.int64), torch.tensor([1, 2])
    with pytest.raises(ValueError, match=r"log_x0: expected .*\(2, 3, 5\)"):
        process.log_posterior(torch.zeros(2, 3, K + 1), x_t, t)
    with pytest.raises(TypeError, match="float32"):
        process.log_posterior(torch.zeros(2, 3, K, dtype=torch.bfloat16), x_t, t)


@pytest.mark.parity
def test_marginals_and_posteriors_are_the_official_ones(golden, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: `q_pred`, `q_posterior`, `multinomial_kl` and `q_sample` of the official code, K = 16, T = 100.

    Checks: VQ-Diffusion cumulative transition, posterior, reverse process
    """
    io = golden("vqdiffusion_process").io
    process, t = ForwardProcess(Schedule.released(100, 16)), io["q.t"] + 1
    x_0, x_t, log_x0 = io["q.x0"], io["q.xt"], io["q.log_x0_soft"][:, :16].transpose(1, 2)
    pairs = {
        "q.pred_onehot": process.log_marginal(x_0, t).float(),
        "q.posterior_onehot": process.log_true_posterior(x_0, x_t, t).float(),
        "q.posterior_soft": process.log_posterior(log_x0, x_t, t),
    }
    for name, ours in pairs.items():
        official = io[name].transpose(1, 2)
        torch.testing.assert_close(
            ours.exp(), official.exp(), atol=3e-6, rtol=0, msg=lambda m, name=name: f"{name}: {m}"
        )
        seen = official > -40  # the official one-hot has 1e-30 where ours has nothing
        torch.testing.assert_close(
            ours[seen], official[seen], atol=5e-5, rtol=0, msg=lambda m, name=name: f"{name}: {m}"
        )
    kl = process.divergence(log_x0, x_0, x_t, t)
    later = io["q.t"] > 0
    torch.testing.assert_close(kl[later], io["q.kl_onehot_soft"][later], atol=2e-5, rtol=2e-5)
    uniform = io["q.sample_uniform"].transpose(1, 2).double()
    monkeypatch.setattr("discrete_diffusion.drawing.uniform", lambda *_, **__: uniform)
    assert torch.equal(gumbel_max(process.log_marginal(x_0, t)), io["q.sample"])


@pytest.mark.parametrize(("t", "s"), [(8, 7), (8, 0), (4, 3), (3, 1), (1, 0)])
def test_direct_draws_follow_the_posterior(make_schedule, t: int, s: int) -> None:
    """Chi-square of 20,000 draws of each token against `log_posterior`, masked, plain and uncertain alike.

    Checks: VQ-Diffusion reverse process
    """
    process = ForwardProcess(make_schedule(8, 4))
    p = torch.tensor([[0.4, 0.3, 0.2, 0.1], [0.97, 0.01, 0.01, 0.01], [0.4, 0.1, 0.3, 0.2], [0.0, 0.0, 0.5, 0.5]])
    x_t = torch.tensor([[4, 0, 3, 4]])
    times = torch.tensor([t]), torch.tensor([s])
    law = process.log_posterior(p.log()[None], x_t, *times)[0].exp().double()
    b = 20_000
    drawn = process.sample_posterior(
        p.log().expand(b, 4, 4),
        x_t.expand(b, 4),
        *(time.expand(b) for time in times),
        generator=torch.Generator().manual_seed(0),
    )
    counts = torch.stack([torch.bincount(column, minlength=5) for column in drawn.T])
    possible = law > 1e-6
    assert not bool(counts[law < 1e-20].any())
    degrees = int(possible.sum()) - 4
    statistic = ((counts - b * law) ** 2 / (b * law.clamp_min(1e-6)))[possible].sum().item()
    assert (statistic - degrees) / (2 * max(degrees, 1)) ** 0.5 < 5


def test_a_direct_draw_depends_on_its_own_generator_alone() -> None:
    """Invariance: alone and among eight, the same tokens."""
    process = ForwardProcess(Schedule.paper(6, 7))
    generator = torch.Generator().manual_seed(0)
    x_t, t = process.prior((8, 12), generator=generator), torch.full((8,), 6)
    log_x0 = torch.randn(8, 12, 7, generator=generator).log_softmax(-1)

    def draw(images: list[int]) -> Tensor:
        seeds = [torch.Generator().manual_seed(i) for i in images]
        return process.sample_posterior(log_x0[images], x_t[images], t[images], generator=seeds)

    assert torch.equal(draw(list(range(8))), torch.cat([draw([i]) for i in range(8)]))
