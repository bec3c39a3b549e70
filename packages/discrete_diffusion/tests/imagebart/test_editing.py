from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from discrete_diffusion.imagebart import (
    DecoderOnly,
    EncoderDecoder,
    Filter,
    Multinomial,
    draw_scale,
    edit,
    from_imagebart,
    geometric,
)
from discrete_diffusion.imagebart.editing import keeping

H, W, K = 4, 4, 5


def chain(prefix: int = 0) -> tuple[list[EncoderDecoder | DecoderOnly], Multinomial]:
    torch.manual_seed(1)
    size = {"codes": K, "grid": (H, W), "width": 16, "heads": 2, "prefix": prefix}
    networks = [
        EncoderDecoder(**size, encoder_depth=1, decoder_depth=1, head_width=8, keep=(1.0, 0.5, 0.0)),
        DecoderOnly(**size, depth=1),
    ]
    return networks, Multinomial(geometric(2, K))


def shapes() -> dict[str, torch.Tensor]:
    """Masks of every kind that the paper shows, True inside what is drawn again."""
    half, window = torch.zeros(H, W, dtype=torch.bool), torch.zeros(H, W, dtype=torch.bool)
    half[: H // 2] = True
    window[1:3, 1:3] = True
    free = torch.rand(H, W, generator=torch.Generator().manual_seed(0)) < 0.4
    return {"upper half": half, "lower half": ~half, "window": window, "outpainting": ~window, "free-form": free}


@pytest.mark.parametrize("shape", shapes())
@pytest.mark.parametrize("filters", [Filter(), Filter(top_k=1), Filter(top_p=0.1, temperature=3.0)])
def test_kept_tokens_are_kept(shape: str, filters: Filter) -> None:
    """Oracle: equality outside the mask, however the codes are filtered; inside, something changes.

    Checks: ImageBART local editing
    """
    networks, process = chain()
    mask, generator = shapes()[shape].flatten().expand(3, -1), torch.Generator().manual_seed(0)
    clean = torch.randint(K, (3, H * W), generator=generator)
    edited = edit(networks, clean, mask, process=process, chains=2, filters=filters, generator=generator)
    assert torch.equal(edited[~mask], clean[~mask])
    assert not torch.equal(edited, clean)


@settings(deadline=None, max_examples=10)
@given(st.lists(st.booleans(), min_size=H * W, max_size=H * W).filter(lambda m: 0 < sum(m) < H * W), st.integers(0, 99))
def test_kept_tokens_are_kept_whatever_the_mask(mask: list[bool], seed: int) -> None:
    """Oracle: equality outside the mask.

    Checks: ImageBART local editing
    """
    networks, process = chain(prefix=1)
    generator = torch.Generator().manual_seed(seed)
    clean, inside = torch.randint(K, (1, H * W), generator=generator), torch.tensor([mask])
    edited = edit(networks, clean, inside, torch.tensor([3]), process=process, chains=[2, 1], generator=generator)
    assert torch.equal(edited[~inside], clean[~inside])


def test_a_code_that_the_model_thinks_impossible_is_kept_too(toy) -> None:
    """Oracle: equality outside the mask, where the table gives the kept code probability 0."""
    law = toy.law.clone()
    law[:, :, 1] = 0
    impossible = type(toy)(law / law.sum())
    clean = torch.tensor([[2, 0, 1]])
    mask = torch.tensor([[False, True, False]])
    edited = edit(impossible.denoisers(1), clean, mask, process=toy.process(1))
    assert edited[0, [0, 2]].tolist() == [2, 1]


def test_completing_words_from_their_start_has_the_conditional_law(toy) -> None:
    """Oracle: the law of the last two tokens given the first, which one scale draws exactly, by chi-square.

    Checks: ImageBART local editing
    """
    draws = 10_000
    clean, mask = torch.tensor([[1, 0, 0]]).expand(draws, 3), torch.tensor([[False, True, True]]).expand(draws, 3)
    edited = edit(toy.denoisers(1), clean, mask, process=toy.process(1), generator=torch.Generator().manual_seed(0))
    law = (toy.law[1] / toy.law[1].sum()).flatten()
    assert chisquare(torch.bincount(edited @ torch.tensor([0, 3, 1]), minlength=9), draws * law).pvalue > 1e-3


@pytest.mark.parametrize("chains", [1, 3, [5, 1]])
def test_each_scale_runs_as_often_as_its_chains_say(chains: int | list[int]) -> None:
    """Oracle: counting the encoder's and the last scale's runs."""
    networks, process = chain()
    calls: Counter[str] = Counter()
    networks[0].encoder.register_forward_pre_hook(lambda *_: calls.update(["encoder"]))
    networks[1].decoder.register_forward_pre_hook(lambda *_: calls.update(["token"]))
    mask = shapes()["window"].flatten()[None]
    edit(networks, torch.zeros(1, H * W, dtype=torch.long), mask, process=process, chains=chains)
    first, last = (chains, chains) if isinstance(chains, int) else chains
    assert calls == {"encoder": first, "token": last * H * W}


def test_noise_between_the_runs_fades(monkeypatch) -> None:
    """Oracle: the published probabilities, `(1 - k / m) beta_t` before run k of m.

    Checks: ImageBART local editing
    """
    networks, process = chain()
    seen: list[float] = []
    redraw = Multinomial.redraw

    def recorded(self, x, probability, **options):
        seen.append(probability.item())
        return redraw(self, x, probability, **options)

    monkeypatch.setattr(Multinomial, "redraw", recorded)
    mask = shapes()["window"].flatten()[None]
    edit(networks, torch.zeros(1, H * W, dtype=torch.long), mask, process=process, chains=4)
    assert seen == pytest.approx([0.75, 0.5, 0.25, 0.375, 0.25, 0.125], abs=1e-12)


def test_an_edit_depends_on_its_seed_alone() -> None:
    """Oracle: an invariance; the same tokens alone and in a batch."""
    networks, process = chain()
    clean = torch.randint(K, (3, H * W), generator=torch.Generator().manual_seed(2))
    mask = torch.stack([shapes()[name].flatten() for name in ("lower half", "window", "free-form")])

    def drawn(rows: list[int]) -> torch.Tensor:
        seeds = [torch.Generator().manual_seed(i) for i in rows]
        return edit(networks, clean[rows], mask[rows], process=process, chains=2, generator=seeds)

    assert torch.equal(drawn([1]), drawn([0, 1, 2])[[1]])


@pytest.mark.parity
def test_a_guide_is_that_of_the_official_code(golden) -> None:
    """Oracle: recorded greedy tokens with a recorded guide.

    Checks: ImageBART local editing
    """
    case = golden("imagebart_gpt")
    network = from_imagebart(case.weights("weights"), case.config["constructor"], averaged=False)
    t = case.io["scale"].flatten()
    drawn = draw_scale(network, case.io["z"], t, filter=Filter(top_k=1), guide=case.io["guide"])
    assert torch.equal(drawn, case.io["greedy_with_guide"])


def test_the_guide_is_the_log_of_the_kept_codes() -> None:
    """Oracle: the formula, by hand.

    Checks: ImageBART local editing
    """
    guide = keeping(torch.tensor([[1, 0]]), torch.tensor([[False, True]]), 2)
    assert guide.tolist() == [[[-torch.inf, 0.0], [0.0, 0.0]]]


def test_masks_that_say_nothing_are_refused() -> None:
    networks, process = chain()
    clean = torch.zeros(2, H * W, dtype=torch.long)
    mask = shapes()["window"].flatten().expand(2, -1).clone()
    mask[1] = True
    with pytest.raises(ValueError, match=r"keeps nothing in examples \[1\]; call `sample`"):
        edit(networks, clean, mask, process=process)
    mask[1] = False
    with pytest.raises(ValueError, match=r"keeps everything in examples \[1\]"):
        edit(networks, clean, mask, process=process)
    with pytest.raises(ValueError, match="mask: expected"):
        edit(networks, clean, mask[:1], process=process)
    mask = shapes()["window"].flatten().expand(2, -1)
    for chains in (0, [1], [1, 0]):
        with pytest.raises(ValueError, match="chains: expected"):
            edit(networks, clean, mask, process=process, chains=chains)
    with pytest.raises(ValueError, match="1 for a process of 2 scales"):
        edit(networks[:1], clean, mask, process=process)
