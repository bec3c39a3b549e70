"""Captions to tokens and states through the `transformers` library, which is imported when it is needed."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Int64
from torch import Tensor, nn

from continuous_diffusion._types import States


class WordPieces:
    """Captions to tokens (b, length), cut or filled up: what `TokenEncoder` reads.

    `source` is a folder or the name of a hub repository with a tokenizer, for LDM's text models that of BERT without
    capitals.
    """

    def __init__(self, source: str | Path, *, length: int = 77) -> None:
        self.tokenizer = _library().AutoTokenizer.from_pretrained(source)
        self.length = length

    def __call__(self, captions: Sequence[str]) -> Int64[Tensor, "b l"]:
        """Captions to tokens."""
        return self.with_mask(captions)[0]

    def with_mask(self, captions: Sequence[str]) -> tuple[Int64[Tensor, "b l"], Bool[Tensor, "b l"]]:
        """Captions to tokens, and which of them are words.

        Raises TypeError for one caption that is not in a list.
        """
        if isinstance(captions, str):
            raise TypeError("captions: a str; give a list of captions")
        read = self.tokenizer(
            list(captions), truncation=True, max_length=self.length, padding="max_length", return_tensors="pt"
        )
        return read["input_ids"], read["attention_mask"].bool()


class FrozenText(nn.Module):
    """A text encoder that was trained elsewhere and is not trained here: captions to states (b, length, width).

    Made by `clip` or `t5`. The empty caption stands for no condition: `encoder([""])`, to be given to `Guided` as
    `null`.

    Source: LDM conditioning mechanisms
    """

    def __init__(self, words: WordPieces, encoder: nn.Module, *, words_alone: bool) -> None:
        super().__init__()
        self.words = words
        self.encoder = encoder.eval().requires_grad_(False)
        self.words_alone = words_alone

    @classmethod
    def clip(cls, source: str | Path, *, length: int = 77) -> "FrozenText":
        """CLIP's text transformer from a folder or hub repository; the states of padding are read too."""
        encoder = _library().CLIPTextModel.from_pretrained(source, use_safetensors=True)
        return cls(WordPieces(source, length=length), encoder, words_alone=False)

    @classmethod
    def t5(cls, source: str | Path, *, length: int = 128) -> "FrozenText":
        """T5's encoder from a folder or hub repository; padding is not attended to, and its states are 0.

        Unstated: what stands for padding; zeros [fixed].
        """
        encoder = _library().T5EncoderModel.from_pretrained(source, use_safetensors=True)
        return cls(WordPieces(source, length=length), encoder, words_alone=True)

    def train(self, mode: bool = True) -> "FrozenText":
        """Stays in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, captions: Sequence[str]) -> States:
        """Captions to states (b, length, width), on the encoder's device."""
        device = next(self.encoder.parameters()).device
        tokens, kept = (part.to(device) for part in self.words.with_mask(captions))
        given: dict[str, Any] = {"attention_mask": kept.long()} if self.words_alone else {}
        states: Tensor = self.encoder(tokens, **given).last_hidden_state
        return states * kept[..., None].to(states.dtype) if self.words_alone else states


def _library() -> Any:  # noqa: ANN401
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise ImportError("text encoders need transformers: pip install continuous-diffusion[text]") from error
