"""Texts before the tokens: a chain learns what they say, draws it, and edits by it."""

import pytest
import torch
from torch import Tensor

from discrete_diffusion import BytePairs
from discrete_diffusion.imagebart import DecoderOnly, EncoderDecoder, ImageBART, ScaleObjective, edit, sample

pytest.importorskip("tokenizers", reason="the extra bpe is not installed")
CAPTIONS = ["the right column is the first code", "the right is the fourth one"]
SAID, K, H, W = torch.tensor([0, 3]), 5, 2, 2


@pytest.fixture(scope="module")
def words() -> BytePairs:
    """A tokenizer under which the captions have 8 tokens at most."""
    return BytePairs.train(CAPTIONS, vocabulary=300, length=8)


def drawn_for(which: Tensor, generator: torch.Generator) -> Tensor:
    """Tokens of a known law: the right column is what the caption says, the left one is any."""
    tokens = torch.randint(K, (len(which), H, W), generator=generator)
    tokens[..., 1] = SAID[which, None]
    return tokens.flatten(1)


@pytest.fixture(scope="module")
def trained(words: BytePairs) -> ImageBART:
    """Two scales, trained in one step on words of that law."""
    torch.manual_seed(0)
    size = {"codes": K, "grid": (H, W), "width": 32, "heads": 2, "prefix": words.length, "prefix_offset": K}
    size["vocabulary"] = K + words.size
    finer = {**size, "encoder_depth": 1, "decoder_depth": 1, "head_width": 16}
    model = ImageBART(keep=(1.0, 0.5, 0.0), encoder_decoders=[finer], decoder_only={**size, "depth": 2})
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    generator, tokens = torch.Generator().manual_seed(1), words(CAPTIONS)
    for _ in range(120):
        which = torch.randint(2, (32,), generator=generator)
        clean = drawn_for(which, generator)
        objectives = [ScaleObjective(each, model.process, scale=t) for t, each in enumerate(model.denoisers, 1)]
        loss = torch.stack([each(clean, tokens[which], generator=generator).loss.mean() for each in objectives])
        optimiser.zero_grad()
        loss.sum().backward()
        optimiser.step()
    return model.eval()


def test_what_is_drawn_is_what_the_text_says(trained: ImageBART, words: BytePairs) -> None:
    """Oracle: the law that it learned; a right column of the text's code alone, a left one of all codes.

    Checks: ImageBART sampling
    """
    which = torch.arange(200) % 2
    generator = torch.Generator().manual_seed(2)
    drawn = sample(trained.denoisers, (200, 4), words(CAPTIONS)[which], process=trained.process, generator=generator)
    columns = drawn.view(200, H, W)
    assert float((columns[..., 1] == SAID[which, None]).float().mean()) > 0.95
    shares = torch.bincount(columns[..., 0].flatten(), minlength=K) / (200 * H)
    assert float(shares.min()) > 0.1


def test_an_edit_is_what_the_text_says_inside_the_mask_alone(trained: ImageBART, words: BytePairs) -> None:
    """Oracle: the other text's code inside the mask, equality outside.

    Checks: ImageBART local editing
    """
    generator, which = torch.Generator().manual_seed(3), torch.arange(100) % 2
    clean = drawn_for(which, generator)
    mask = torch.zeros(100, H, W, dtype=torch.bool)
    mask[..., 1] = True
    other = words(CAPTIONS)[1 - which]
    edited = edit(
        trained.denoisers, clean, mask.flatten(1), other, process=trained.process, chains=2, generator=generator
    )
    assert torch.equal(edited.view(-1, H, W)[..., 0], clean.view(-1, H, W)[..., 0])
    assert float((edited.view(-1, H, W)[..., 1] == SAID[1 - which, None]).float().mean()) > 0.95


@pytest.mark.parametrize("kind", [EncoderDecoder, DecoderOnly])
def test_a_text_that_is_missing_or_not_asked_for_is_refused(kind: type[torch.nn.Module]) -> None:
    size = {"codes": K, "grid": (H, W), "width": 8, "heads": 2, "vocabulary": 20}
    size |= {"depth": 1} if kind is DecoderOnly else {"encoder_depth": 1, "decoder_depth": 1}
    plain, told = kind(**size), kind(**size, prefix=3, prefix_offset=K)
    x, t, text = torch.zeros(2, 4, dtype=torch.long), torch.ones(2, dtype=torch.long), torch.ones(2, 3).long()
    with pytest.raises(ValueError, match="expected none: the model is unconditional; got \\(2, 3\\)"):
        plain.decode(x, t, text)
    with pytest.raises(ValueError, match="expected none: the model is unconditional; got \\(2,\\)"):
        plain(x, t, text[:, 0], target=x)
    for wrong in (None, text[:, :2], text[:, 0]):
        with pytest.raises(ValueError, match=r"condition: expected tokens \(2, 3\)"):
            told(x, t, wrong, target=x)
    with pytest.raises(ValueError, match="the model embeds tokens 0 to 19, these reach from 0 to 20"):
        told(x, t - 1, text + 14, target=x)
