from functools import partial

import pytest
import torch
from scipy.stats import chisquare

from discrete_diffusion import State
from discrete_diffusion.imagebart import (
    DecoderOnly,
    EncoderDecoder,
    Filter,
    Multinomial,
    draw_scale,
    explicit,
    geometric,
    sample,
    trajectory,
)
from discrete_diffusion.imagebart.sampler import inverse_cumulative

NETWORK = partial(EncoderDecoder, codes=7, grid=(3, 4), width=16, encoder_depth=1, decoder_depth=1, heads=2)
GPT = partial(DecoderOnly, codes=7, grid=(3, 4), width=16, depth=1, heads=2)


def chain(**options) -> tuple[list[EncoderDecoder | DecoderOnly], Multinomial]:
    torch.manual_seed(0)
    networks = [NETWORK(head_width=8, **options), NETWORK(head_width=8, **options), GPT(**options)]
    for network in networks:
        torch.nn.init.normal_(network.logits.weight, std=0.5)
    return networks, Multinomial(geometric(3, 7))


@pytest.mark.parametrize("scales", [1, 2, 3])
def test_exact_denoisers_reproduce_a_known_law(toy, scales: int) -> None:
    """Oracle: the law of all 27 words, by chi-square, with the tabulated reversal of every scale.

    Checks: ImageBART sampling
    """
    draws = 20_000
    x = sample(
        toy.denoisers(scales),
        (draws, 3),
        process=toy.process(scales),
        generator=torch.Generator().manual_seed(scales),
    )
    found = torch.bincount(x @ torch.tensor([9, 3, 1]), minlength=27)
    assert chisquare(found, draws * toy.law.flatten()).pvalue > 1e-3


def test_every_scale_has_its_own_law(toy) -> None:
    """Oracle: the law of the clean words, noised to each scale.

    Checks: ImageBART sampling
    """
    draws, process = 20_000, toy.process(3)
    generator = torch.Generator().manual_seed(4)
    states = list(trajectory(toy.denoisers(3), (draws, 3), process=process, generator=generator))
    assert [state.t for state in states] == [2, 1, 0]
    for state in states:
        keep = process.schedule.keep[state.t]
        one = keep * torch.eye(3, dtype=torch.float64) + (1 - keep) / 3
        law = torch.einsum("abc,ad,be,cf->def", toy.law, one, one, one)
        found = torch.bincount(state.x @ torch.tensor([9, 3, 1]), minlength=27)
        assert chisquare(found, draws * law.flatten()).pvalue > 1e-3


def test_image_i_depends_on_seed_i_alone() -> None:
    """Oracle: an invariance; the same tokens alone, in a batch, and in another order."""
    networks, process = chain(prefix=1)
    labels = torch.tensor([1, 3, 5, 6])

    def drawn(order: list[int]) -> torch.Tensor:
        seeds = [torch.Generator().manual_seed(i) for i in order]
        return sample(networks, (len(order), 12), labels[order], process=process, generator=seeds)

    batch = drawn([0, 1, 2, 3])
    assert torch.equal(drawn([2, 0]), batch[[2, 0]])
    assert torch.equal(drawn([3]), batch[[3]])


def test_the_encoder_runs_once_a_scale_and_the_decoder_once_a_token() -> None:
    """Oracle: counting calls, and the positions that each of them sees."""
    networks, process = chain()
    calls: dict[str, list[int]] = {}
    for name, module in [
        *((f"encoder {i}", network.encoder) for i, network in enumerate(networks[:2])),
        *((f"decoder {i}", network.decoder) for i, network in enumerate(networks)),
    ]:
        module.register_forward_pre_hook(lambda _, args, name=name: calls.setdefault(name, []).append(args[0].shape[1]))
    sample(networks, (2, 12), process=process, generator=torch.Generator().manual_seed(0))
    assert calls == {f"encoder {i}": [13] for i in range(2)} | {f"decoder {i}": [1] * 12 for i in range(3)}


def test_a_filter_keeps_the_most_probable_codes() -> None:
    """Oracle: probabilities by hand.

    Checks: ImageBART sampling
    """
    logits = torch.tensor([[0.4, 0.1, 0.3, 0.2], [0.1, 0.4, 0.4, 0.1]]).log()
    plain = Filter()(logits).exp()
    torch.testing.assert_close(plain, logits.exp())
    top_2 = Filter(top_k=2)(logits).exp()
    torch.testing.assert_close(top_2, torch.tensor([[4 / 7, 0, 3 / 7, 0], [0, 0.5, 0.5, 0.0]]))
    torch.testing.assert_close(Filter(top_k=9)(logits), Filter()(logits))
    nucleus = Filter(top_p=0.8)(logits).exp()
    torch.testing.assert_close(nucleus[0], torch.tensor([4 / 9, 0, 3 / 9, 2 / 9]))
    both = Filter(top_k=2, top_p=0.5)(logits[:1]).exp()
    torch.testing.assert_close(both, torch.tensor([[1.0, 0, 0, 0]]))
    cold = Filter(temperature=0.5)(logits).exp()
    torch.testing.assert_close(cold, logits.exp() ** 2 / (logits.exp() ** 2).sum(-1, keepdim=True))


def test_each_scale_takes_its_own_filter(toy) -> None:
    """Oracle: at temperature 1e-6 a scale takes the most probable tokens, which the table has.

    Checks: ImageBART sampling
    """
    process, denoisers = toy.process(2), toy.denoisers(2)
    states = list(
        trajectory(
            denoisers,
            (50, 3),
            process=process,
            filters=[Filter(top_k=1), Filter()],
            generator=torch.Generator().manual_seed(0),
        )
    )
    assert len(states[0].x.unique(dim=0)) > 5
    for x_1, x_0 in zip(states[0].x, states[1].x, strict=True):
        before = x_0[None, :0]
        for i in range(3):
            assert denoisers[0].conditional(x_1[None], before).argmax() == x_0[i]
            before = x_0[None, : i + 1]


def test_codes_of_probability_zero_are_not_drawn() -> None:
    """Oracle: the inverse of a staircase, at and around its steps."""
    log_p = torch.tensor([[0, 0.25, 0, 0.75, 0.0]]).log().expand(6, 5)
    u = torch.tensor([0, 0.1, 0.25, 0.5, 1 - 2**-53, 1.0], dtype=torch.float64)
    assert inverse_cumulative(log_p, u).tolist() == [1, 1, 3, 3, 3, 3]


def test_a_trajectory_goes_on_from_a_state(toy) -> None:
    """Oracle: one scale of the chain, drawn alone from the same numbers."""
    process, denoisers = toy.process(3), toy.denoisers(3)
    x = torch.randint(3, (20, 3))
    found = sample(denoisers, (20, 3), process=process, start=State(1, x), generator=torch.Generator().manual_seed(1))
    times = torch.ones(20, dtype=torch.long)
    assert torch.equal(found, draw_scale(denoisers[0], x, times, generator=torch.Generator().manual_seed(1)))


def test_scales_that_do_not_fit_are_refused(toy) -> None:
    process, denoisers = toy.process(3), toy.denoisers(3)
    with pytest.raises(ValueError, match="2 for a process of 3 scales"):
        sample(denoisers[:2], (1, 3), process=process)
    with pytest.raises(ValueError, match="filters: 2 for 3 scales"):
        sample(denoisers, (1, 3), process=process, filters=[Filter(), Filter()])
    with pytest.raises(ValueError, match="keeps a share of 0.1 of the tokens"):
        sample(denoisers[:1], (1, 3), process=Multinomial(explicit([1.0, 0.1], 3)))
    with pytest.raises(ValueError, match="start: expected tokens"):
        sample(denoisers, (1, 3), process=process, start=State(4, torch.zeros(1, 3, dtype=torch.long)))
    with pytest.raises(ValueError, match="start: expected tokens"):
        sample(denoisers, (1, 3), process=process, start=State(2, torch.zeros(2, 3, dtype=torch.long)))
    t = torch.ones(1, dtype=torch.long)
    x = torch.zeros(1, 3, dtype=torch.long)
    with pytest.raises(ValueError, match="guide: expected"):
        draw_scale(denoisers[0], x, t, guide=torch.zeros(1, 2, 3))
    with pytest.raises(ValueError, match="forbids every code"):
        draw_scale(denoisers[0], x, t, guide=torch.full((1, 3, 3), -torch.inf))
    for options, message in (
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"top_p": 1.5}, "top_p must be in"),
        ({"top_p": 0.0}, "top_p must be in"),
    ):
        with pytest.raises(ValueError, match=message):
            Filter(**options)
