from itertools import product

import pytest
import torch

from discrete_diffusion.imagebart import (
    DecoderOnly,
    EncoderDecoder,
    Multinomial,
    Pair,
    ScaleObjective,
    bound,
    explicit,
    from_imagebart,
    geometric,
)

SIZE = {"codes": 7, "grid": (2, 3), "width": 16, "heads": 2}


class Recorded(Multinomial):
    """A process that noises as was recorded, and has the posterior of a recorded one where that is given."""

    def __init__(self, scales: int, pair: Pair, posterior: torch.Tensor | None = None) -> None:
        super().__init__(geometric(scales, 24))
        self.recorded, self.given = pair, posterior

    def pair(self, x_0, t, *, generator=None):
        return self.recorded

    def posterior(self, x_0, x_t, t):
        return super().posterior(x_0, x_t, t) if self.given is None else self.given.double()


@pytest.mark.parity
@pytest.mark.parametrize(
    ("name", "weights", "scales"), [("x", "weights", "single"), ("residual", "weights_residual", "random")]
)
def test_the_loss_is_that_of_the_official_code(golden, name: str, weights: str, scales: str) -> None:
    """Oracle: recorded losses on recorded tokens, hard, soft and mixed.

    Checks: ImageBART analytic divergence, sampled cross-entropy
    """
    case = golden("imagebart_scale")
    network = from_imagebart(case.weights(weights), case.config["constructor"][name], averaged=False)
    src, target = case.io[f"{name}.src"], case.io[f"{name}.target"]
    process = Recorded(4, Pair(target, src[:, 1:]))
    with torch.no_grad():
        for sampled in (0.0, 0.5, 1.0):
            objective = ScaleObjective(network, process, sampled=sampled)
            found = objective(case.io["x0_indices"].flatten(1), t=src[:, 0])
            torch.testing.assert_close(found.loss.mean(), case.io[f"{name}.loss_alpha{1 - sampled}"], rtol=2e-5, atol=0)
            assert set(found.terms) == {0.0: {"divergence"}, 1.0: {"cross_entropy"}}.get(
                sampled, {"divergence", "cross_entropy"}
            )


@pytest.mark.parity
def test_the_last_scales_loss_is_that_of_the_official_code(golden) -> None:
    """Oracle: recorded losses of the decoder-only scale on a recorded posterior.

    Checks: ImageBART analytic divergence, sampled cross-entropy
    """
    case = golden("imagebart_gpt")
    network = from_imagebart(case.weights("weights"), case.config["constructor"], averaged=False)
    z = case.io["z"]
    process = Recorded(4, Pair(z, z), case.io["posterior_given"].transpose(1, 2))
    with torch.no_grad():
        for sampled in (0.0, 1.0):
            found = ScaleObjective(network, process, scale=4, sampled=sampled)(z)
            torch.testing.assert_close(found.loss.mean(), case.io[f"loss_alpha{1 - sampled}"], rtol=2e-5, atol=0)


@pytest.mark.parametrize("scales", [1, 2, 3])
def test_the_bound_of_exact_denoisers_is_the_entropy(toy, words, scales: int) -> None:
    """Oracle: the entropy of the known law; all words, at all scales, weighed by their exact probabilities.

    Checks: ImageBART variational bound, analytic divergence
    """
    process, total = toy.process(scales), 0.0
    keep = process.schedule.keep
    for t, denoiser in enumerate(toy.denoisers(scales), 1):
        one, two = (p * torch.eye(3, dtype=torch.float64) + (1 - p) / 3 for p in (keep[t - 1], keep[t] / keep[t - 1]))
        x_0, before, after = (torch.stack(column) for column in zip(*product(words, words, words), strict=True))
        weight = toy.law[tuple(x_0.T)] * one[x_0, before].prod(-1) * two[before, after].prod(-1)
        happens = weight > 0
        x_0, before, after, weight = x_0[happens], before[happens], after[happens], weight[happens]
        times = torch.full((len(x_0),), t)
        log_p = denoiser(after, times, target=before).value
        total += float((weight * process.divergence(log_p, x_0, after, times).sum(-1)).sum())
    entropy = float(-torch.xlogy(toy.law, toy.law).sum())
    assert total == pytest.approx(entropy, abs=1e-10)


def test_the_estimate_of_the_bound_meets_the_entropy(toy, words) -> None:
    """Oracle: the same entropy, to five standard errors of the draws.

    Checks: ImageBART variational bound
    """
    generator = torch.Generator().manual_seed(0)
    clean = words[torch.multinomial(toy.law.flatten(), 20_000, replacement=True, generator=generator)]
    found = bound(toy.denoisers(3), toy.process(3), clean, generator=generator)
    entropy = float(-torch.xlogy(toy.law, toy.law).sum()) / 3
    error = float(found.total.std()) / len(clean) ** 0.5
    assert abs(float(found.total.mean()) - entropy) < 5 * error
    assert error < 0.01 * entropy
    assert found.prior == 0
    torch.testing.assert_close(found.scales.sum(0), found.total)


def test_a_coarsest_scale_that_is_not_noise_costs_its_divergence(toy) -> None:
    """Oracle: `KL(q(x_n | x_0) || uniform)` by hand."""
    process = Multinomial(explicit([1.0, 0.2], 3))
    found = bound(toy.denoisers(1), process, torch.zeros(1, 3, dtype=torch.long))
    law = torch.tensor([0.2 + 0.8 / 3, 0.8 / 3, 0.8 / 3], dtype=torch.float64)
    assert found.prior == pytest.approx(float((law * (3 * law).log()).sum()), abs=1e-12)


@pytest.mark.parametrize("scale", [1, 2, 3, None])
def test_scales_are_trained_one_at_a_time_or_jointly(scale: int | None) -> None:
    """Oracle: the scales named or all of them; and a loss that is finite and falls along its gradient."""
    torch.manual_seed(0)
    network = EncoderDecoder(**SIZE, encoder_depth=1, decoder_depth=1, head_width=8, vocabulary=8, prefix=1)
    objective = ScaleObjective(network, Multinomial(geometric(3, 7)), scale=scale, sampled=0.5)
    clean, labels = torch.randint(7, (40, 6)), torch.randint(7, (40,))

    def loss() -> torch.Tensor:
        found = objective(clean, labels, generator=torch.Generator().manual_seed(1))
        assert set(found.t.tolist()) == ({1, 2, 3} if scale is None else {scale})
        assert found.features.shape == (40, 16, 2, 3)
        assert found.estimate.shape == (40, 6, 7)
        return found.loss.mean()

    first = loss()
    first.backward()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter -= 0.05 * parameter.grad
    assert loss() < first


def test_all_scales_may_be_trained_in_one_step() -> None:
    """Oracle: each objective gives gradients to its own network, and to no other."""
    torch.manual_seed(0)
    networks = [
        EncoderDecoder(**SIZE, encoder_depth=1, decoder_depth=1, head_width=8),
        DecoderOnly(**SIZE, depth=1),
    ]
    process = Multinomial(geometric(2, 7))
    objectives = [ScaleObjective(network, process, scale=t) for t, network in enumerate(networks, 1)]
    clean = torch.randint(7, (4, 6))
    sum(objective(clean).loss.mean() for objective in objectives).backward()
    together = [[p.grad.clone() for p in network.parameters()] for network in networks]
    assert all(grad.isfinite().all() for grads in together for grad in grads)
    networks[1].zero_grad()
    objectives[0](clean).loss.mean().backward()
    assert all(p.grad is None or not p.grad.any() for p in networks[1].parameters())


def test_options_out_of_range_are_refused(toy) -> None:
    process, denoiser = toy.process(2), toy.denoisers(2)[0]
    for scale in (0, 3):
        with pytest.raises(ValueError, match="scale must be in 1 .. 2"):
            ScaleObjective(denoiser, process, scale=scale)
    with pytest.raises(ValueError, match="sampled must be in"):
        ScaleObjective(denoiser, process, sampled=1.5)
    with pytest.raises(ValueError, match="1 for a process of 2 scales"):
        bound([denoiser], process, torch.zeros(1, 3, dtype=torch.long))
