from pathlib import Path

import pytest
import torch
from torch import Tensor

from discrete_diffusion import BytePairs, CaptionEncoder

pytest.importorskip("tokenizers", reason="the extra bpe is not installed")

CAPTIONS = ["a red circle above a blue square", "a green cross", "two words", ""]


@pytest.fixture
def pairs() -> BytePairs:
    return BytePairs.train(CAPTIONS, vocabulary=300, length=16)


def test_any_text_comes_back_and_known_words_are_short(pairs: BytePairs) -> None:
    """Oracle: the round trip, for text and bytes never seen."""
    spoken = ["A RED circle", "žluťoučký kůň", "猫", "a\tb", ""]
    tokens = BytePairs(pairs.bpe, 64)(spoken)
    assert tokens.shape == (5, 64) and tokens.max() < pairs.size <= 300
    assert BytePairs(pairs.bpe, 64).decode(tokens) == [text.lower() for text in spoken]
    assert int((pairs(["a red circle"]) > 0).sum()) < int((pairs(["q zxw vkpjq"]) > 0).sum())


def test_a_caption_that_is_too_long_is_cut_and_named(pairs: BytePairs) -> None:
    long = "xyzzy " * 9
    with pytest.warns(UserWarning, match=r"caption of \d+ tokens is cut to 16, the end is lost: 'xyzzy xyzzy"):
        tokens = pairs([long, "a red"])
    assert bool((tokens[0] > 0).all())
    assert torch.equal(tokens[0], BytePairs(pairs.bpe, 99)([long])[0, :16])


def test_case_does_not_matter_and_order_does(pairs: BytePairs) -> None:
    one, same, other = pairs(["A Red circle above a BLUE square", CAPTIONS[0], "a blue circle above a red square"])
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_learning_is_deterministic(pairs: BytePairs) -> None:
    assert BytePairs.train(CAPTIONS, vocabulary=300, length=16).bpe.to_str() == pairs.bpe.to_str()


def test_a_tokenizer_is_one_file(pairs: BytePairs, tmp_path: Path) -> None:
    pairs.save(tmp_path / "tokenizer.json")
    again = BytePairs.load(tmp_path / "tokenizer.json")
    assert again.size == pairs.size and torch.equal(again(CAPTIONS), pairs(CAPTIONS))
    (tmp_path / "other.json").write_text('{"model": 1}')
    with pytest.raises(ValueError, match="other.json holds no tokenizer of this kind"):
        BytePairs.load(tmp_path / "other.json")


def test_padding_changes_no_state_and_an_empty_caption_has_some(pairs: BytePairs) -> None:
    """Invariance: the states of a caption are those it has without padding."""
    torch.manual_seed(0)
    encoder = CaptionEncoder(vocabulary=pairs.size, length=16, width=8, depth=2, heads=2)
    tokens = pairs(CAPTIONS)
    states = encoder(tokens)
    assert bool(states.isfinite().all())
    used = int((tokens[1] > 0).sum())
    torch.testing.assert_close(encoder(tokens[1:2, :used])[0], states[1, :used])


def test_a_layer_is_that_of_torch() -> None:
    """Oracle: `torch.nn.TransformerEncoderLayer`, pre-norm, with the same weights."""
    torch.manual_seed(0)
    encoder = CaptionEncoder(vocabulary=9, length=5, width=8, depth=1, heads=2).eval()
    ours = encoder.layers[0].state_dict()
    theirs = torch.nn.TransformerEncoderLayer(8, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True).eval()
    names = {"norm_1": "norm1", "norm_2": "norm2", "out": "self_attn.out_proj", "mlp.0": "linear1", "mlp.2": "linear2"}
    weights = {"self_attn.in_proj_weight": ours["qkv.weight"], "self_attn.in_proj_bias": ours["qkv.bias"]}
    for name, renamed in names.items():
        weights |= {f"{renamed}.{part}": ours[f"{name}.{part}"] for part in ("weight", "bias")}
    theirs.load_state_dict(weights)
    tokens = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 0, 0]])
    expected = theirs(encoder.embedding(tokens) + encoder.position, src_key_padding_mask=tokens == 0)
    torch.testing.assert_close(encoder(tokens)[tokens > 0], encoder.norm(expected)[tokens > 0], atol=1e-5, rtol=1e-5)


def test_autocast_stays_near_full_precision_and_an_empty_caption_has_finite_gradients(pairs: BytePairs) -> None:
    """The attention that is written out for bfloat16 against the fused one."""
    torch.manual_seed(0)
    encoder, tokens = CaptionEncoder(vocabulary=pairs.size, length=16, width=32), pairs(CAPTIONS)
    with torch.autocast("cpu", torch.bfloat16):
        states = encoder(tokens)
    states.float().square().mean().backward()
    torch.testing.assert_close(states.float(), encoder(tokens), rtol=0.1, atol=0.1)
    assert all(bool(p.grad.isfinite().all()) for p in encoder.parameters() if p.grad is not None)
    assert encoder.layers[0].qkv.weight.grad.abs().sum() > 0


def test_the_encoder_is_saved_and_read(tmp_path: Path) -> None:
    encoder = CaptionEncoder(vocabulary=9, length=5, width=8)
    encoder.save_pretrained(tmp_path)
    again = CaptionEncoder.from_pretrained(tmp_path)
    tokens = torch.tensor([[1, 2, 3]])
    assert torch.equal(again(tokens), encoder(tokens))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (torch.ones(1, 6, dtype=torch.int64), "tokens has length 6, but this encoder has 5 positions"),
        (torch.full((1, 3), 9), r"tokens must be in 0..8, got 9..9"),
    ],
)
def test_bad_tokens_are_named(tokens: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CaptionEncoder(vocabulary=9, length=5, width=8)(tokens)


def test_bad_sizes_are_named() -> None:
    with pytest.raises(ValueError, match="vocabulary must be at least 257"):
        BytePairs.train([], vocabulary=256, length=4)
    with pytest.raises(ValueError, match="length must be at least 1"):
        BytePairs.train([], vocabulary=257, length=0)
    with pytest.raises(ValueError, match="multiple of heads"):
        CaptionEncoder(vocabulary=9, length=5, width=9)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"byte-level BPE needs tokenizers; .*'discrete-diffusion\[bpe\]'"):
        BytePairs.train(CAPTIONS, vocabulary=300, length=4)
