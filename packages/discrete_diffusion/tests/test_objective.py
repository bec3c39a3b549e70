import pytest
import torch
from torch import Tensor, nn

from discrete_diffusion import (
    ForwardProcess,
    ImportanceTimes,
    Objective,
    Prediction,
    Schedule,
    TokenTransformer,
    from_vq_diffusion,
)

K, N, T = 6, 4, 5
CLEAN = torch.arange(3 * N).reshape(3, N) % K


class Table(nn.Module):
    """The same logits whatever the tokens; remembers the conditions it was given."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.logits = nn.Parameter(scale * torch.randn(N, K, generator=torch.Generator().manual_seed(0)))
        self.seen: list[Tensor | None] = []

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Prediction:
        self.seen.append(condition)
        return Prediction(self.logits.expand(len(x_t), N, K), torch.zeros(len(x_t), 2, 2, 2))

    def null_condition(self, b: int, l: int) -> Tensor:  # noqa: E741
        return torch.full((b, l, 3), 7.0)


def _process() -> ForwardProcess:
    return ForwardProcess(Schedule.paper(T, K))


def test_cross_entropy_is_what_is_left_without_the_bound() -> None:
    """Oracle: torch's cross-entropy.

    Checks: VQ-Diffusion auxiliary loss
    """
    model = Table()
    plain = Objective(model, _process(), vlb_weight=0.0, auxiliary_weight=1.0, adaptive=False, mean_over_steps=True)
    found = plain(CLEAN, t=torch.tensor([1, 3, 5]))
    expected = nn.functional.cross_entropy(model.logits.expand(3, N, K).transpose(1, 2), CLEAN, reduction="none").mean(
        1
    )
    torch.testing.assert_close(found.loss, expected)
    assert set(found.terms) == {"auxiliary"}
    torch.testing.assert_close(found.estimate.exp().sum(-1), torch.ones(3, N))


def test_the_loss_is_the_weighted_sum_of_its_terms() -> None:
    """Oracle: the formula of the docstring, for uniform times, and the bound at t = 1 as a negative log-likelihood.

    Checks: VQ-Diffusion variational bound, auxiliary loss
    """
    t = torch.tensor([1, 3, 5])
    found = Objective(Table(), _process(), auxiliary_weight=0.3)(CLEAN, t=t)
    expected = T * (found.terms["vlb"] + 0.3 * (2 - (t - 1) / T) * found.terms["auxiliary"])
    torch.testing.assert_close(found.loss, expected)
    torch.testing.assert_close(found.terms["vlb"][0], found.terms["auxiliary"][0])


def test_the_bound_is_above_the_negative_log_likelihood() -> None:
    """Oracle: the entropy of the data, reached by a denoiser that knows its law, up to the noise of drawing x_t;
    one that knows nothing stays above the logarithm of the number of codes.

    Checks: VQ-Diffusion variational bound
    """
    law = torch.tensor([0.5, 0.2, 0.1, 0.1, 0.05, 0.05], dtype=torch.float64)
    process = _process()
    clean = torch.multinomial(
        law.float(), 4000 * N, replacement=True, generator=torch.Generator().manual_seed(1)
    ).reshape(-1, N)

    class Bayes(Table):
        def forward(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Prediction:
            likelihood = process.log_marginal(torch.arange(K).expand(len(t), K), t)
            logits = law.log() + likelihood.transpose(1, 2).gather(1, x_t[..., None].expand(-1, -1, K))
            return Prediction(logits.float(), torch.zeros(len(x_t), 2, 2, 2))

    def bound(model: Table) -> float:
        objective, generator = Objective(model, process, auxiliary_weight=0.0), torch.Generator().manual_seed(2)
        each = [
            objective(clean, t=torch.full((len(clean),), t), generator=generator).terms["vlb"] for t in range(1, T + 1)
        ]
        return torch.stack(each).sum(0).mean().item()

    entropy = -(law * law.log()).sum().item()
    assert bound(Bayes()) == pytest.approx(entropy, abs=0.03)
    uniform = Table(scale=0.0)
    assert bound(uniform) > torch.tensor(K).log().item() - 0.03


def test_conditions_are_dropped_as_often_as_asked() -> None:
    """Whole rows become the null condition; none at 0, all at 1.

    Checks: Improved VQ-Diffusion learnable null condition
    """
    clean, condition = CLEAN[:1].expand(4000, N), torch.zeros(4000, 2, 3)
    for probability in (0.0, 0.3, 1.0):
        model = Table()
        Objective(model, _process(), condition_dropout=probability)(
            clean, condition, generator=torch.Generator().manual_seed(0)
        )
        seen = model.seen[0]
        assert seen is not None
        rows = seen.flatten(1)
        assert bool(((rows == 0).all(1) | (rows == 7).all(1)).all())
        assert abs((rows[:, 0] == 7).float().mean().item() - probability) < 0.03


def test_masked_and_plain_tokens_can_weigh_differently() -> None:
    """Oracle: with mask-only noise at T all tokens are masked, and the loss is proportional to their weight."""
    process = ForwardProcess(Schedule.mask_only(T, K))
    t = torch.full((3,), T)
    full, half = (Objective(Table(), process, masked_weight=weight)(CLEAN, t=t).loss for weight in (1.0, 0.5))
    torch.testing.assert_close(half, full / 2)


def test_a_seed_determines_everything_and_training_alone_keeps_history() -> None:
    objective = Objective(Table(), _process(), times=ImportanceTimes(T))
    first, second = (objective.eval()(CLEAN, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first.loss, second.loss) and torch.equal(first.t, second.t)
    assert objective.state_dict()["times.count"].sum() == 0
    objective.train()(CLEAN)
    assert objective.state_dict()["times.count"].sum() == 3


def test_a_small_transformer_learns_in_bfloat16() -> None:
    """The loss of a batch that is repeated falls by half, gradients reach every parameter but the null state's."""
    torch.manual_seed(0)
    model = TokenTransformer(
        codes=K, grid=(2, 2), steps=T, width=16, depth=1, heads=2, condition_width=3, convolution=True
    )
    objective = Objective(model, ForwardProcess(Schedule.paper(T, K)), condition_dropout=0.0, mean_over_steps=True)
    states = torch.randn(3, 2, 3)
    optimiser = torch.optim.Adam(model.parameters(), 3e-2)
    losses = []
    for _ in range(40):
        with torch.autocast("cpu", torch.bfloat16):
            loss = objective(CLEAN, states, t=torch.tensor([2, 3, 4])).loss.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    assert [name for name, p in model.named_parameters() if p.grad is None] == ["null"]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"condition_dropout": 1.1}, "condition_dropout"), ({"vlb_weight": 0.0, "auxiliary_weight": 0.0}, "not both 0")],
)
def test_options_out_of_range_are_named(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Objective(Table(), _process(), **options)


@pytest.mark.parity
def test_the_loss_and_its_gradients_are_the_official_ones(golden, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: `_train_loss` of the official code at recorded t, p_t, x_t; its sums over tokens are our means times n.

    Single divergences differ by up to 2e-6, which is the official rounding (ours is 1e-7 from float64).

    Checks: VQ-Diffusion variational bound, auxiliary loss, importance sampling of t
    """
    case = golden("vqdiffusion_process")
    io = {key.removeprefix("loss."): value for key, value in case.io.items() if key.startswith("loss.")}
    model = from_vq_diffusion(case.weights("weights"), case.config["constructor"]["loss_model"])
    times = ImportanceTimes(100)
    times.history.copy_(io["Lt_history_before"])
    times.count.copy_(io["Lt_count_before"])
    monkeypatch.setattr(times, "probability", lambda _: io["pt"])
    monkeypatch.setattr(ForwardProcess, "sample", lambda *_, **__: io["xt"])
    objective = Objective(model, ForwardProcess(Schedule.released(100, 16)), condition_dropout=0.0, times=times)
    found = objective(io["x0"], io["cond"], t=io["t"] + 1)
    torch.testing.assert_close(12 * found.loss, io["vb_loss_per_sample"], rtol=1e-4, atol=0)
    torch.testing.assert_close(12 * found.terms["vlb"] / io["pt"], io["vlb_only_per_sample"], rtol=1e-4, atol=0)
    found.loss.mean().backward()
    torch.testing.assert_close(found.loss.mean(), io["loss"], rtol=2e-5, atol=0)
    for ours, name in (
        (model.logits.weight.grad, "grad_to_logits_weight"),
        (model.tokens.weight.grad, "grad_content_emb"),
    ):
        assert ours is not None
        torch.testing.assert_close(ours, io[name], rtol=1e-3, atol=2e-5 * io[name].abs().max().item())
    torch.testing.assert_close(times.history, io["Lt_history_after"], rtol=1e-4, atol=0)
    assert torch.equal(times.count, io["Lt_count_after"])


@pytest.mark.parametrize("t", [1, 3])
def test_tokens_can_weigh_differently(t: int) -> None:
    """Oracle: with one token weighed at a time, the terms add up to those with all; weights of one change nothing."""
    objective, times = Objective(Table(), _process()), torch.full((3,), t)

    def terms(weights: Tensor | None) -> dict[str, Tensor]:
        return objective(CLEAN, t=times, weights=weights, generator=torch.Generator().manual_seed(0)).terms

    whole, ones = terms(None), terms(torch.ones(3, N))
    each = [terms(torch.eye(N)[i].expand(3, N)) for i in range(N)]
    for name in ("vlb", "auxiliary"):
        assert torch.equal(whole[name], ones[name])
        torch.testing.assert_close(torch.stack([one[name] for one in each]).sum(0), whole[name])


@pytest.mark.parametrize("t", [1, T])
def test_gradients_are_finite_at_both_ends_of_time(t: int) -> None:
    """For a confident model, right and wrong, under every schedule of the package."""
    for make in (Schedule.paper, Schedule.released, Schedule.mask_only, Schedule.uniform_only):
        model = Table(scale=80.0)
        loss = Objective(model, ForwardProcess(make(T, K)))(CLEAN, t=torch.full((3,), t)).loss
        loss.sum().backward()
        assert bool(loss.isfinite().all()) and model.logits.grad is not None
        assert bool(model.logits.grad.isfinite().all())


def test_tokens_and_weights_out_of_range_are_named() -> None:
    objective = Objective(Table(), _process())
    with pytest.raises(ValueError, match=r"clean: tokens must be in 0..5, got 0..6"):
        objective(torch.tensor([[0, 1, 2, 6]]))
    with pytest.raises(ValueError, match=r"weights: expected \(3, 4\) values of at least 0, .*got \(3, 5\)"):
        objective(CLEAN, weights=torch.ones(3, 5))
    with pytest.raises(ValueError, match=r"weights: expected .* from -1"):
        objective(CLEAN, weights=-torch.ones(3, 4))
