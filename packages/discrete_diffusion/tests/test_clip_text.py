import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from discrete_diffusion import ClipText

transformers = pytest.importorskip("transformers", reason="the extra clip is not installed")


def _words(captions: list[str]) -> Sequence[Sequence[int]]:
    """One token a letter, between a start (28) and an end (29)."""
    return [[28, *(ord(letter) - 96 for letter in caption if letter.isalpha()), 29] for caption in captions]


@pytest.fixture
def clip() -> ClipText:
    torch.manual_seed(0)
    config = transformers.CLIPTextConfig(
        vocab_size=30,
        hidden_size=8,
        intermediate_size=32,
        projection_dim=6,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=7,
        bos_token_id=28,
        eos_token_id=29,
        pad_token_id=0,
    )
    return ClipText(transformers.CLIPTextModelWithProjection(config), _words)


@pytest.mark.parity
@pytest.mark.parametrize("prefix", ["transformer.condition_emb.", "condition_emb.", ""])
def test_the_official_encoder_gives_the_official_states(golden, prefix: str) -> None:
    """Oracle: recorded states and pooled vectors; from the whole file, its moving average, and CLIP's own keys.

    Checks: VQ-Diffusion text encoder
    """
    case = golden("vqdiffusion_clip_text")
    weights = {prefix + key.partition("condition_emb.")[2]: value for key, value in case.weights("weights").items()}
    if prefix:
        weights["transformer.transformer.to_logits.1.bias"] = torch.zeros(3)
    tokens, config = case.io["tokens"], case.config["constructor"]
    encoder = ClipText.from_vq_diffusion(weights, config)
    torch.testing.assert_close(encoder(tokens), case.io["states_normalized"], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(encoder.pooled(tokens), case.io["pooled_normalized"], atol=1e-5, rtol=1e-4)
    plain = ClipText.from_vq_diffusion(weights, {**config, "normalize": False})
    torch.testing.assert_close(plain(tokens), case.io["states_unnormalized"], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(plain.pooled(tokens)[:, 0], case.io["clip_encode_text"], atol=1e-5, rtol=1e-4)


@pytest.mark.parity
def test_keys_that_are_missing_or_unknown_are_named(golden) -> None:
    case = golden("vqdiffusion_clip_text")
    weights, config = case.weights("weights"), case.config["constructor"]
    with pytest.raises(ValueError, match="nothing for .*'text_projection'"):
        ClipText.from_vq_diffusion({"condition_emb.x": torch.zeros(1)}, config)
    with pytest.raises(ValueError, match="of this config: surprise"):
        ClipText.from_vq_diffusion({**weights, "transformer.condition_emb.surprise": torch.zeros(1)}, config)
    with pytest.raises(ValueError, match=r"of this config: .*layers.1.mlp.fc1.bias"):
        ClipText.from_vq_diffusion({k: v for k, v in weights.items() if "1.mlp.c_fc.bias" not in k}, config)


def test_captions_are_padded_with_zeros_and_lower_case(clip: ClipText) -> None:
    """Oracle: by hand."""
    assert clip.tokens(["Ab", "abc"]).tolist() == [[28, 1, 2, 29, 0, 0, 0], [28, 1, 2, 3, 29, 0, 0]]
    assert clip(clip.tokens(["ab"])).shape == (1, 7, 8)


def test_states_have_length_one_and_look_backwards_only(clip: ClipText) -> None:
    """Invariance: what follows a token does not change its state; and nothing of the encoder is trained."""
    states = clip(clip.tokens(["abc", "abd"]))
    torch.testing.assert_close(states.norm(dim=-1), torch.ones(2, 7))
    torch.testing.assert_close(states[0, :3], states[1, :3])
    assert not any(p.requires_grad for p in clip.parameters())


def test_a_caption_that_is_too_long_is_cut_before_its_end_token_and_named(clip: ClipText) -> None:
    with pytest.warns(UserWarning, match="caption of 10 tokens is cut to 7, the end is lost: 'abcdefgh'"):
        assert clip.tokens(["abcdefgh"]).tolist() == [[28, 1, 2, 3, 4, 5, 29]]


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (torch.zeros(1, 8, dtype=torch.int64), "8 tokens do not fit the context of 7"),
        (torch.full((1, 3), 30), "tokens must be below 30, got 30"),
    ],
)
def test_bad_tokens_are_named(clip: ClipText, tokens: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        clip(tokens)


def test_a_missing_tokenizer_or_library_is_named(clip: ClipText, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="tokenizer: this encoder has none"):
        ClipText(clip.model).tokens(["a"])
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"needs transformers; .*'discrete-diffusion\[clip\]'"):
        ClipText.from_pretrained("anything")


def test_weights_and_tokenizer_are_read_from_a_folder(clip: ClipText, tmp_path: Path) -> None:
    """Invariance: the states before and after; the tokenizer is CLIP's byte-level BPE without merges."""
    alphabet = [chr(code) for code in range(97, 110)]
    words = {token: i for i, token in enumerate(["!", *alphabet, *(f"{letter}</w>" for letter in alphabet)])}
    words |= {"<|startoftext|>": 28, "<|endoftext|>": 29}
    clip.model.save_pretrained(tmp_path)
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "vocab.json").write_text(__import__("json").dumps(words))
    (tmp_path / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    again = ClipText.from_pretrained(tmp_path, tokenizer=tmp_path / "tokenizer")
    assert again.tokens(["AB c"]).tolist() == [[28, 1, words["b</w>"], words["c</w>"], 29, 0, 0]]
    tokens = clip.tokens(["ab"])
    assert torch.equal(again(tokens), clip(tokens))
