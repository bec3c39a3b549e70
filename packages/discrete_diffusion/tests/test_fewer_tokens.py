import itertools

import pytest
import torch
from torch import Tensor

from discrete_diffusion import (
    FewerTokens,
    ForwardProcess,
    Prediction,
    Round,
    Schedule,
    State,
    evenly,
    from_vq_diffusion,
    purity,
    released_rounds,
    sample,
    trajectory,
)
from discrete_diffusion.fewer_tokens import choose

K, N = 2, 3
JOINT = torch.tensor([0.3, 0.05, 0.05, 0.1, 0.1, 0.05, 0.05, 0.3], dtype=torch.float64)
CLEAN = torch.tensor(list(itertools.product(range(K), repeat=N)))


class Conditional:
    """The perfect denoiser of three tokens with the law JOINT under noise that only masks."""

    def __call__(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Prediction:
        fits = ((x_t[:, None] == CLEAN) | (x_t[:, None] == K)).all(-1)  # (b, 8)
        p = fits * JOINT
        marginal = torch.stack([p @ (code == CLEAN).double() for code in range(K)], -1)
        return Prediction(marginal.log(), torch.zeros(len(x_t), 1, 1, N))

    def null_condition(self, b: int, l: int) -> Tensor:  # noqa: E741
        return torch.zeros(b, l, 1)


class Peaked:
    """Logits of n tokens over k codes that depend on the position alone; notes the times it is told."""

    def __init__(self, n: int, k: int) -> None:
        self.asked: list[list[int]] = []
        self.logits = 2 * torch.randn(n, k, generator=torch.Generator().manual_seed(0))

    def __call__(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Prediction:
        self.asked.append(t.tolist())
        return Prediction(self.logits.expand(len(x_t), -1, -1), torch.zeros(len(x_t), 1, 1, x_t.shape[1]))

    def null_condition(self, b: int, l: int) -> Tensor:  # noqa: E741
        return torch.zeros(b, l, 1)


@pytest.mark.parametrize("choice", [purity, evenly])
@pytest.mark.parametrize("rounds", [None, [Round(6, 1), Round(4, 1), Round(1, None)]])
def test_one_token_per_step_reproduces_a_joint_law_in_whatever_order(choice, rounds: list[Round] | None) -> None:
    """Oracle: the chain rule. Chi-square of 20,000 samples of three dependent tokens, unsharpened.

    Checks: Improved VQ-Diffusion fewer tokens per step
    """
    route = FewerTokens(choice, sharpness=0.0, rounds=rounds)
    process = ForwardProcess(Schedule.mask_only(6, K))
    tokens = sample(
        Conditional(),
        (20_000, N),
        process=process,
        steps=3 if rounds is None else None,
        route=route,
        generator=torch.Generator().manual_seed(1),
    )
    counts = torch.bincount(tokens @ torch.tensor([4, 2, 1]), minlength=8)
    statistic = ((counts - 20_000 * JOINT) ** 2 / (20_000 * JOINT)).sum().item()
    assert (statistic - 7) / 14**0.5 < 5


def test_positions_are_chosen_in_proportion_to_their_weight_without_replacement() -> None:
    """Oracle: the law of two draws without replacement, w_i w_j / (1 - w_i) + w_j w_i / (1 - w_j); chi-square.

    Checks: Improved VQ-Diffusion purity prior
    """
    weight = torch.tensor([0.5, 0.3, 0.15, 0.05, 9.0])
    available = torch.tensor([True, True, True, True, False])
    chosen = choose(
        weight.expand(20_000, 5),
        available.expand(20_000, 5),
        torch.full((20_000,), 2),
        generator=torch.Generator().manual_seed(0),
    )
    assert bool((chosen.sum(1) == 2).all()) and not bool(chosen[:, 4].any())
    w = weight[:4].double()
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    law = torch.stack([w[i] * w[j] / (1 - w[i]) + w[j] * w[i] / (1 - w[j]) for i, j in pairs])
    counts = torch.tensor([int((chosen[:, i] & chosen[:, j]).sum()) for i, j in pairs])
    statistic = ((counts - 20_000 * law) ** 2 / (20_000 * law)).sum().item()
    assert law.sum().item() == pytest.approx(1) and (statistic - 5) / 10**0.5 < 5


def test_purity_is_the_peak_over_the_largest_peak_and_sharpens_by_a_power() -> None:
    """Oracle: the formulas in probabilities.

    Checks: Improved VQ-Diffusion purity prior
    """
    p = torch.randn(2, 4, 5, dtype=torch.float64).softmax(-1)
    peaks = p.max(-1).values
    expected = peaks / peaks.max(1, keepdim=True).values
    torch.testing.assert_close(purity(p.log()), expected)
    powered = p ** (1 + 0.7 * expected)[..., None]
    sharpened = FewerTokens(sharpness=0.7).sharpen(p.log()).exp()
    torch.testing.assert_close(sharpened, powered / powered.sum(-1, keepdim=True))


@pytest.mark.parametrize("steps", [1, 4, 7, 12])
def test_masks_fall_evenly_in_any_number_of_steps_and_the_time_follows_them(steps: int) -> None:
    """Oracle: arithmetic; each time is that whose rate of masks is nearest, for tokens known before as well.

    Checks: Improved VQ-Diffusion fewer tokens per step
    """
    process = ForwardProcess(Schedule.mask_only(24, 5))
    x = torch.full((2, 12), 5)
    x[1, :6] = 0
    denoiser = Peaked(12, 5)
    states = list(trajectory(denoiser, (2, 12), process=process, steps=steps, route=FewerTokens(), start=State(24, x)))
    left = [[12, 6], *[(state.x == 5).sum(1).tolist() for state in states]]
    assert len(states) == steps and left[-1] == [0, 0] and states[-1].t == 0
    for i, before in enumerate(left):
        assert before == [12 - 12 * i // steps, 6 - 6 * i // steps]
    for before, told in zip(left, denoiser.asked, strict=False):
        assert told == [max(1, 24 * masks // 12) for masks in before]
    for earlier, later in itertools.pairwise(states):
        drawn = earlier.x < 5
        assert torch.equal(earlier.x[drawn], later.x[drawn])


@pytest.mark.parametrize(("T", "per_call"), [(100, 1024), (100, 10), (50, 1024), (25, 1024), (10, 1024)])
def test_released_rounds_are_the_published_tables(T: int, per_call: int) -> None:
    """Oracle: 1024 tokens over t = 2..T (T = 100), or less what the last step draws (10, 21 and 69 elsewhere).

    Checks: Improved VQ-Diffusion fewer tokens per step
    """
    rounds = released_rounds(T, per_call=per_call)
    assert rounds[-1] == Round(1, None) and [given.t for given in rounds] == sorted((g.t for g in rounds), reverse=True)
    drawn = {t: sum(given.tokens or 0 for given in rounds if given.t == t) for t in range(2, T + 1)}
    assert sum(drawn.values()) == 1024 - {100: 0, 50: 10, 25: 21, 10: 69}[T]
    assert {given.t for given in rounds} == set(range(1, T + 1))


@pytest.mark.parity
@pytest.mark.parametrize(
    ("T", "name"), [(100, "T100"), (100, "T100_prior_ps_le_10"), (50, "T50"), (25, "T25"), (10, "T10")]
)
def test_released_rounds_are_the_official_tables(golden, T: int, name: str) -> None:
    """Checks: Improved VQ-Diffusion fewer tokens per step"""
    official = golden("vqdiffusion_process").config["n_sample_lists"][name]
    rounds = released_rounds(T, per_call=10 if name.endswith("10") else 1024)
    assert [sum(given.tokens or 0 for given in rounds if given.t == t) for t in range(2, T + 1)] == official[1:]


def test_calls_are_capped_and_a_single_token_left_over_goes_with_those_before() -> None:
    """Oracle: 102 tokens by 50, 139 by 46, and 102 by 101, counted by hand."""
    assert [g.tokens for g in released_rounds(10, per_call=50) if g.t == 9] == [50, 50, 2]
    assert [g.tokens for g in released_rounds(10, per_call=46) if g.t == 10] == [46, 46, 47]
    assert [g.tokens for g in released_rounds(10, per_call=101) if g.t == 9] == [102]


def test_the_released_rounds_draw_all_tokens() -> None:
    process = ForwardProcess(Schedule.released(10, 5))
    states = list(
        trajectory(Peaked(1024, 5), (1, 1024), process=process, route=FewerTokens(rounds=released_rounds(10)))
    )
    left = [int((state.x == 5).sum()) for state in states]
    assert left == [1024 - 139 - 102 * i for i in range(9)] + [0]
    assert [state.t for state in states] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("rounds", [None, [Round(6, 5), Round(3, 4), Round(1, None)]])
def test_an_image_depends_on_its_own_seed_alone(rounds: list[Round] | None) -> None:
    """Invariance: alone and among eight, with different numbers of tokens known."""
    process, denoiser = ForwardProcess(Schedule.released(6, 5)), Peaked(12, 5)
    x = torch.full((8, 12), 5)
    for i in range(8):
        x[i, :i] = 0

    def draw(images: list[int]) -> Tensor:
        return sample(
            denoiser,
            (len(images), 12),
            process=process,
            route=FewerTokens(rounds=rounds),
            start=State(6, x[images]),
            generator=[torch.Generator().manual_seed(i) for i in images],
        )

    together = draw(list(range(8)))
    assert torch.equal(torch.cat([draw([i]) for i in range(8)]), together)


@pytest.mark.parametrize(
    ("route", "options", "message"),
    [
        (FewerTokens(), {"steps": 0}, "steps must be in 1..12, the number of tokens, got 0"),
        (FewerTokens(), {"steps": 13}, "steps must be in 1..12, the number of tokens, got 13"),
        (FewerTokens(rounds=[Round(1, None)]), {"steps": 3}, "the 1 rounds settle it"),
    ],
)
def test_options_out_of_range_are_named(route: FewerTokens, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample(Peaked(12, 5), (1, 12), process=ForwardProcess(Schedule.released(6, 5)), route=route, **options)


def test_noise_that_replaces_is_refused_and_so_are_bad_settings() -> None:
    with pytest.raises(ValueError, match="this replaces 10%"):
        sample(Peaked(12, 5), (1, 12), process=ForwardProcess(Schedule.paper(6, 5)), route=FewerTokens())
    with pytest.raises(ValueError, match="sharpness must be at least 0"):
        FewerTokens(sharpness=-1.0)
    with pytest.raises(ValueError, match=r"tables for T in \[10, 25, 50, 100\], got 30"):
        released_rounds(30)
    with pytest.raises(ValueError, match="per_call must be at least 1, got 0"):
        released_rounds(10, per_call=0)
    with pytest.raises(ValueError, match=r"last round .* None"):
        FewerTokens(rounds=[Round(3, 4)])


@pytest.mark.parity
@pytest.mark.parametrize("name", ["prior_rule1_w0", "prior_rule2_w0", "prior_rule2_w1"])
def test_rounds_are_the_official_ones(golden, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Oracle: recorded weights of the positions, sharpened laws, and tokens after each of two rounds at one time.

    The positions that the official code chose and the noise it drew with are taken from the record.

    Checks: Improved VQ-Diffusion fewer tokens per step, purity prior
    """
    case = golden("vqdiffusion_process")
    facts = next(one for one in case.config["prior"] if one["name"] == name)
    io = {key.removeprefix(f"{name}."): value for key, value in case.io.items() if key.startswith(f"{name}.")}
    model = from_vq_diffusion(case.weights("weights_sampling"), case.config["constructor"]["sampling_model"])
    route = FewerTokens(evenly if facts["prior_rule"] == 1 else purity, sharpness=float(facts["prior_weight"]))
    x = io["x_in"]
    calls = {tuple(call): i for i, call in enumerate(facts["selection_calls"])}
    for i, out in enumerate(io["x_out"]):
        with torch.no_grad():
            log_x0 = model(x, io["t"] + 1, case.io["cfg.cond"]).value.log_softmax(-1)
        official = io["log_prob_used_for_tokens"][i][:, :-1].transpose(1, 2)
        torch.testing.assert_close(route.sharpen(log_x0), official, atol=5e-5, rtol=0)
        torch.testing.assert_close(route.sharpen(log_x0).exp(), official.exp(), atol=1e-6, rtol=0)
        for b in range(2):
            weight = (route.choice(log_x0) * (x == 20))[b]
            torch.testing.assert_close(weight, io["selection_weight"][calls[i, b]], atol=1e-5, rtol=0)
        chosen = torch.zeros_like(x, dtype=torch.bool)
        for b in range(2):
            chosen[b, io[f"selected{calls[i, b]}"]] = True
        noise = -(-io["uniform"][i].transpose(1, 2)[..., :20].double().log()).log()
        monkeypatch.setattr("discrete_diffusion.fewer_tokens.choose", lambda *_, chosen=chosen, **__: chosen)
        monkeypatch.setattr(
            "discrete_diffusion.fewer_tokens.categorical",
            lambda law, _, chosen=chosen, noise=noise: (law.log() + noise[chosen]).argmax(-1),
        )
        x = route.reveal(log_x0, x, codes=20, number=chosen.sum(1))
        assert torch.equal(x, out)
