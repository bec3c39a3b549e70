import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from discrete_diffusion import ForwardProcess, Schedule
from discrete_diffusion.imagebart import Multinomial, explicit, geometric

SCHEDULES = [geometric(3, 5), explicit([1.0, 0.8483, 0.6526, 0.0], 5), explicit([1.0, 0.9, 0.2], 5)]


def every_case(process: Multinomial, t: int) -> tuple[Tensor, Tensor, Tensor]:
    """All pairs of a clean and a noised code, as one example of k * k tokens."""
    k = process.codes
    x_0, x_t = torch.cartesian_prod(torch.arange(k), torch.arange(k)).T
    return x_0[None], x_t[None], torch.tensor([t])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_posterior_is_bayes_rule(schedule: Schedule) -> None:
    """Oracle: products of dense transition matrices; and the closed form of their normaliser.

    Checks: ImageBART multinomial forward process, posterior
    """
    process, k = Multinomial(schedule), schedule.codes
    cumulative = torch.eye(k, dtype=torch.float64)
    for t in range(1, process.scales + 1):
        alpha = 1 - process.beta(torch.tensor([t]))
        step = alpha * torch.eye(k, dtype=torch.float64) + (1 - alpha) / k
        before, cumulative = cumulative, cumulative @ step
        x_0, x_t, times = every_case(process, t)
        expected = before[x_0] * step[:, x_t].permute(1, 2, 0)
        normaliser = cumulative[x_0, x_t]
        torch.testing.assert_close(process.normaliser(x_0, x_t, times), normaliser, atol=1e-14, rtol=0)
        possible = normaliser > 0
        posterior = process.posterior(x_0, x_t, times)
        torch.testing.assert_close(
            posterior[possible], (expected / normaliser[..., None])[possible], atol=1e-14, rtol=0
        )
        torch.testing.assert_close(posterior.sum(-1)[possible], torch.ones(possible.sum()).double(), atol=1e-14, rtol=0)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_posterior_is_that_of_mask_and_replace_without_a_mask(schedule: Schedule) -> None:
    """Oracle: another implementation, for the process with a mask.

    Checks: ImageBART posterior
    """
    process = Multinomial(schedule)
    for t in range(1, process.scales + 1):
        x_0, x_t, times = every_case(process, t)
        expected = ForwardProcess(schedule).log_true_posterior(x_0, x_t, times).exp()[..., :-1]
        torch.testing.assert_close(process.posterior(x_0, x_t, times), expected, atol=1e-12, rtol=0)


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 9), st.integers(1, 6), st.integers(0, 10**6))
def test_the_last_posterior_does_not_see_the_noise(k: int, scales: int, seed: int) -> None:
    """Oracle: an invariance; pure noise says nothing, so what is known of x_{n-1} is its marginal.

    Checks: ImageBART posterior
    """
    process, generator = Multinomial(geometric(scales, k)), torch.Generator().manual_seed(seed)
    x_0, noise, other = torch.randint(k, (3, 1, 7), generator=generator)
    t = torch.tensor([scales])
    torch.testing.assert_close(process.posterior(x_0, noise, t), process.posterior(x_0, other, t), atol=1e-15, rtol=0)
    marginal = process.schedule.keep[-2] * torch.nn.functional.one_hot(x_0, k) + (1 - process.schedule.keep[-2]) / k
    torch.testing.assert_close(process.posterior(x_0, noise, t), marginal, atol=1e-15, rtol=0)


@pytest.mark.parity
@pytest.mark.parametrize("name", ["scales_single", "scales_random"])
def test_the_posterior_is_that_of_the_official_code(golden, name: str) -> None:
    """Oracle: recorded posteriors of a recorded chain, one scale for all and one for each example.

    Checks: ImageBART posterior
    """
    case = golden("imagebart_scale")
    io = {key.removeprefix(f"{name}."): value for key, value in case.io.items() if key.startswith(f"{name}.")}
    x_0, x = case.io["x0_indices"].flatten(1), case.io["x0_indices"].flatten(1)
    chain = [x]
    for tokens, redrawn in zip(io["redraw_tokens"], io["redraw_mask"], strict=True):
        x = torch.where(redrawn.flatten(1).bool(), tokens.flatten(1), x)
        chain.append(x)
    t = io["scale"].flatten()
    before, after = (torch.stack([chain[u - back][i] for i, u in enumerate(t.tolist())]) for back in (1, 0))
    assert torch.equal(before, io["x"])
    assert torch.equal(after, io["c"])
    posterior = Multinomial(geometric(4, 24)).posterior(x_0, after, t)
    torch.testing.assert_close(posterior, io["posterior"].flatten(2).transpose(1, 2).double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("t", [1, 2, 3])
def test_pairs_have_the_law_of_two_steps(t: int) -> None:
    """Oracle: the dense joint law of (x_{t-1}, x_t) given x_0, by chi-square.

    Checks: ImageBART multinomial forward process
    """
    process, draws = Multinomial(explicit([1.0, 0.8, 0.3, 0.0], 3)), 30_000
    x_0 = torch.full((1, draws), 2)
    pair = process.pair(x_0, torch.tensor([t]), generator=torch.Generator().manual_seed(t))
    alone = process.sample(x_0, torch.tensor([t]), generator=torch.Generator().manual_seed(9))
    keep = process.schedule.keep
    matrix = [
        p * torch.eye(3, dtype=torch.float64) + (1 - p) / 3 for p in (keep[t - 1], keep[t] / keep[t - 1], keep[t])
    ]
    joint = matrix[0][2][:, None] * matrix[1]
    for found, law in (
        (torch.bincount((3 * pair.before + pair.after)[0], minlength=9), joint.flatten()),
        (torch.bincount(alone[0], minlength=3), matrix[2][2]),
    ):
        assert torch.equal(found[law == 0], torch.zeros_like(found[law == 0]))
        assert chisquare(found[law > 0], draws * law[law > 0]).pvalue > 1e-3


def test_the_divergence_is_the_sum_over_the_codes() -> None:
    """Oracle: torch's own divergence, in the other order of its arguments; at t = 1 minus a log-probability.

    Checks: ImageBART analytic divergence, sampled cross-entropy
    """
    process, generator = Multinomial(geometric(3, 5)), torch.Generator().manual_seed(0)
    log_p = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64).log_softmax(-1)
    x_0, x_t = torch.randint(5, (2, 3, 4), generator=generator)
    t = torch.tensor([1, 2, 3])
    x_t[0] = x_0[0]
    found = process.divergence(log_p, x_0, x_t, t)
    expected = torch.nn.functional.kl_div(log_p, process.posterior(x_0, x_t, t), reduction="none").sum(-1)
    torch.testing.assert_close(found, expected, atol=1e-13, rtol=0)
    torch.testing.assert_close(found[0], -log_p[0].gather(-1, x_0[0][:, None])[:, 0], atol=1e-13, rtol=0)
    assert bool((found >= 0).all())


def test_images_are_noised_from_their_own_seeds() -> None:
    """Oracle: an invariance; a batch is its examples apart."""
    process, x_0 = Multinomial(geometric(3, 5)), torch.randint(5, (4, 6))
    t = torch.tensor([1, 2, 3, 2])

    def seeds() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(i) for i in range(4)]

    together = process.pair(x_0, t, generator=seeds()).after
    apart = [process.pair(x_0[i : i + 1], t[i : i + 1], generator=[seeds()[i]]).after for i in range(4)]
    assert torch.equal(together, torch.cat(apart))
    assert process.prior((2, 6), generator=seeds()[:2]).max() < 5


def test_other_processes_are_refused() -> None:
    with pytest.raises(ValueError, match="has no mask"):
        Multinomial(Schedule.mask_only(4, 5))
    keep = torch.tensor([1.0, 0.5, 0.5, 0.0], dtype=torch.float64)
    with pytest.raises(ValueError, match="must fall at every scale"):
        Multinomial(Schedule(keep, torch.zeros(4, dtype=torch.float64), 5))
    assert not Multinomial(geometric(3, 5)).state_dict()
