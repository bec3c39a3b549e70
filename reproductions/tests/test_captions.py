"""The tokenizer against the text, the encoder against torch's own transformer layer."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from reproductions.captions import PAD, CaptionEncoder, Tokenizer, attention
from reproductions.shapes import SETS, SHAPES
from reproductions.vocabulary import as_attributes

CAPTIONS = [SHAPES.vocabulary.caption(as_attributes(row)) for row in SHAPES.vocabulary.two_shape]
CAPTIONS += [SHAPES.vocabulary.caption(as_attributes(row)) for row in SHAPES.vocabulary.one_shape]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(CAPTIONS, vocabulary=1024, length=12)


@pytest.mark.parametrize("name", SETS)
def test_every_word_of_drawn_captions_is_one_token(name):
    words = SETS[name].vocabulary
    rows = [*words.one_shape, *words.two_shape[::7]]
    captions = [words.caption(as_attributes(row)) for row in rows]
    tokens = Tokenizer.train(captions, vocabulary=1024, length=16)(captions)
    assert [int(count) for count in (tokens != PAD).sum(1)] == [len(caption.split()) for caption in captions]


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=10))
@settings(deadline=None, max_examples=30)
def test_any_text_survives_the_round_trip(tokenizer, text):
    tokenizer = Tokenizer(tokenizer.bpe, 400)
    normal = tokenizer.bpe.normalizer.normalize_str(text)
    assert tokenizer.decode(tokenizer([text])) == [normal.strip()]
    assert tokenizer.cut == 0


def test_case_does_not_matter_and_order_does(tokenizer):
    same = tokenizer(["A Red circle above a BLUE square", "a red circle above a blue square"])
    assert torch.equal(same[0], same[1])
    assert not torch.equal(same[0], tokenizer(["a blue circle above a red square"])[0])


def test_long_captions_are_cut_and_counted(tokenizer):
    tokenizer = Tokenizer(tokenizer.bpe, 4)
    tokens = tokenizer(["a red circle above a blue square", "a red circle", "a red circle above"])
    assert tokens.shape == (3, 4) and tokenizer.cut == 1
    assert tokenizer.decode(tokens) == ["a red circle above", "a red circle", "a red circle above"]
    assert tokens[1, 3] == PAD


def test_saving_and_loading_changes_nothing(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.length == tokenizer.length and loaded.size == tokenizer.size
    assert torch.equal(loaded(CAPTIONS), tokenizer(CAPTIONS))
    loaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()


def test_training_is_deterministic(tokenizer):
    again = Tokenizer.train(CAPTIONS, vocabulary=1024, length=12)
    assert again.bpe.to_str() == tokenizer.bpe.to_str()


@pytest.mark.parametrize(("vocabulary", "length", "match"), [(100, 8, "vocabulary"), (300, 0, "length")])
def test_impossible_sizes_are_refused(vocabulary, length, match):
    with pytest.raises(ValueError, match=match):
        Tokenizer.train(CAPTIONS[:3], vocabulary=vocabulary, length=length)


def test_a_layer_is_the_one_of_torch():
    torch.manual_seed(0)
    encoder = CaptionEncoder(300, length=9, width=32, depth=1, heads=4)
    mine = encoder.layers[0]
    reference = nn.TransformerEncoderLayer(32, 4, 128, 0.0, nn.functional.gelu, batch_first=True, norm_first=True)
    reference.load_state_dict(
        {
            "self_attn.in_proj_weight": mine.qkv.weight,
            "self_attn.in_proj_bias": mine.qkv.bias,
            "self_attn.out_proj.weight": mine.out.weight,
            "self_attn.out_proj.bias": mine.out.bias,
            "linear1.weight": mine.mlp[0].weight,
            "linear1.bias": mine.mlp[0].bias,
            "linear2.weight": mine.mlp[2].weight,
            "linear2.bias": mine.mlp[2].bias,
            "norm1.weight": mine.norm_1.weight,
            "norm1.bias": mine.norm_1.bias,
            "norm2.weight": mine.norm_2.weight,
            "norm2.bias": mine.norm_2.bias,
        }
    )
    x, padded = torch.randn(3, 9, 32), torch.arange(9) >= torch.tensor([[9], [5], [1]])
    hidden = torch.zeros(3, 9).masked_fill(padded, -1e4)[:, None, None]
    expected = reference.train()(x, src_key_padding_mask=padded)
    torch.testing.assert_close(mine(x, hidden), expected, rtol=1e-4, atol=1e-5)


def test_attention_written_out_is_the_fused_one():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 7, 16)
    hidden = torch.zeros(2, 1, 1, 7)
    hidden[1, ..., 4:] = -1e4
    written = attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), hidden)
    assert written.dtype == torch.bfloat16
    torch.testing.assert_close(written.float(), attention(q, k, v, hidden), rtol=0.05, atol=0.05)


def test_states_of_words_do_not_depend_on_padding(tokenizer):
    torch.manual_seed(0)
    encoder = CaptionEncoder(tokenizer.size, length=12)
    tokens = tokenizer(["a small red circle"])
    states = encoder(tokens)
    assert states.shape == (1, 12, 128)
    torch.testing.assert_close(encoder(tokens[:, :4]), states[:, :4], rtol=1e-5, atol=1e-5)


def test_an_empty_caption_has_finite_states_and_gradients():
    encoder = CaptionEncoder(300, length=5, width=32)
    states = encoder(torch.zeros(2, 5, dtype=torch.int64))
    states.sum().backward()
    assert states.isfinite().all() and all(p.grad.isfinite().all() for p in encoder.parameters() if p.grad is not None)


def test_training_under_autocast_stays_near_full_precision(tokenizer):
    torch.manual_seed(0)
    encoder = CaptionEncoder(tokenizer.size, length=12)
    tokens = tokenizer(CAPTIONS[:8])
    with torch.autocast("cpu", torch.bfloat16):
        states = encoder(tokens)
    states.float().square().mean().backward()
    assert encoder.layers[0].qkv.weight.grad.abs().sum() > 0
    torch.testing.assert_close(states.float(), encoder(tokens), rtol=0.1, atol=0.1)


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="multiple of heads"):
        CaptionEncoder(300, length=5, width=30, heads=4)
    with pytest.raises(ValueError, match="5 positions"):
        CaptionEncoder(300, length=5, width=32)(torch.zeros(1, 6, dtype=torch.int64))
