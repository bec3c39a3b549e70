"""Captions through small models of transformers, saved and read from a folder."""

import builtins
import importlib
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from continuous_diffusion import TokenEncoder
from continuous_diffusion.text import FrozenText, WordPieces

WORDS = ["[PAD]", "[UNK]", "a", "red", "blue", "circle", "above"]


@pytest.fixture(scope="module")
def transformers() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("transformers", reason="transformers is not installed")


@pytest.fixture(scope="module")
def folder(transformers: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of seven words, a CLIP in `clip`, a T5 in `t5`."""
    tokenizers = importlib.import_module("tokenizers")
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    root = tmp_path_factory.mktemp("text")
    torch.manual_seed(0)
    clip = transformers.CLIPTextConfig(
        vocab_size=7,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=6,
        bos_token_id=0,
        eos_token_id=6,
    )
    t5 = transformers.T5Config(vocab_size=7, d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    for name, model in (("clip", transformers.CLIPTextModel(clip)), ("t5", transformers.T5EncoderModel(t5))):
        model.save_pretrained(root / name)
        transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]").save_pretrained(root / name)
    return root


CAPTIONS = ["a red circle", "a circle above a blue circle square"]
TOKENS = [[2, 3, 5, 0, 0, 0], [2, 5, 6, 2, 4, 5]]


def test_captions_are_cut_and_filled_up(folder: Path) -> None:
    tokens, kept = WordPieces(folder / "clip", length=6).with_mask(CAPTIONS)
    assert tokens.tolist() == TOKENS
    assert kept.tolist() == [[True] * 3 + [False] * 3, [True] * 6]
    encoder = TokenEncoder(vocabulary=7, length=6, width=8, depth=1)
    words = WordPieces(folder / "clip", length=6)
    assert torch.equal(encoder(words(CAPTIONS)), encoder(torch.tensor(TOKENS)))


def test_clip_gives_its_last_states(folder: Path, transformers: ModuleType) -> None:
    """Checks: LDM conditioning mechanisms"""
    peer = transformers.CLIPTextModel.from_pretrained(folder / "clip").eval()
    states = FrozenText.clip(folder / "clip", length=6)(CAPTIONS)
    with torch.no_grad():
        torch.testing.assert_close(states, peer(torch.tensor(TOKENS)).last_hidden_state)


def test_t5_does_not_see_padding(folder: Path, transformers: ModuleType) -> None:
    """Checks: LDM conditioning mechanisms"""
    peer = transformers.T5EncoderModel.from_pretrained(folder / "t5").eval()
    states = FrozenText.t5(folder / "t5", length=6)(CAPTIONS)
    with torch.no_grad():
        for i, length in enumerate((3, 6)):
            alone = peer(torch.tensor([TOKENS[i][:length]])).last_hidden_state
            torch.testing.assert_close(states[i : i + 1, :length], alone, atol=1e-6, rtol=1e-5)
    assert states[0, 3:].abs().max() == 0


def test_a_frozen_encoder_stays_so(folder: Path) -> None:
    encoder = FrozenText.clip(folder / "clip", length=6).train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert encoder([""]).shape == (1, 6, 8)


def test_one_caption_is_not_a_list(folder: Path) -> None:
    with pytest.raises(TypeError, match="give a list of captions"):
        FrozenText.clip(folder / "clip", length=6)("a red circle")


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("transformers"):
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(ImportError, match=r"pip install continuous-diffusion\[text\]"):
        WordPieces("anywhere")
