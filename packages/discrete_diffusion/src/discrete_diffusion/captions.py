"""Captions to tokens to states: byte-level BPE learnt from captions, and a small encoder to train with the denoiser."""

import json
import math
import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from discrete_diffusion._types import CaptionTokens, Hidden, Visible
from discrete_diffusion.optional import optional

PAD = 0
SMALLEST = 257
"""256 bytes and the padding."""


def cut_and_pad(rows: Sequence[Sequence[int]], captions: Sequence[str], length: int, *, last: int = 0) -> CaptionTokens:
    """Tokens (b, length), padded with 0; longer captions lose their end but for `last` tokens, and are named."""
    tokens = torch.full((len(rows), length), PAD, dtype=torch.int64)
    for out, row, caption in zip(tokens, rows, captions, strict=True):
        if len(row) > length:
            warnings.warn(
                f"caption of {len(row)} tokens is cut to {length}, the end is lost: {caption!r}", stacklevel=3
            )
            row = [*row[: length - last], *row[len(row) - last :]]
        out[: len(row)] = torch.tensor(row, dtype=torch.int64)
    return tokens


class BytePairs:
    """Byte-level BPE over lower-case captions: any text has tokens, and a frequent word is a single one.

    Token 0 pads. Needs the extra `bpe`.

    Args:
        bpe: a `tokenizers.Tokenizer`; see `train` and `load`.
        length: l, to which captions are padded, or cut with a warning.

    Raises:
        ValueError: if length is below 1.

    Unstated: the tokenizer of the small encoder, which is not the paper's; its models are conditioned on CLIP
        [ClipText].
    """

    def __init__(self, bpe: Any, length: int) -> None:  # noqa: ANN401
        if length < 1:
            raise ValueError(f"length must be at least 1 token, got {length}")
        self.bpe, self.length = bpe, length

    @classmethod
    def train(cls, captions: Iterable[str], *, vocabulary: int, length: int) -> "BytePairs":
        """Learn at most `vocabulary` tokens (padding, 256 bytes, then merges) from captions.

        Raises:
            ValueError: if the vocabulary has no room for the bytes.
        """
        if vocabulary < SMALLEST:
            raise ValueError(f"vocabulary must be at least {SMALLEST} (256 bytes and the padding), got {vocabulary}")
        library = optional("tokenizers", "bpe", "byte-level BPE")
        bpe, pre, normal = library.Tokenizer(library.models.BPE()), library.pre_tokenizers, library.normalizers
        bpe.normalizer = normal.Sequence([normal.NFC(), normal.Lowercase(), normal.Strip()])
        bpe.pre_tokenizer = pre.ByteLevel(add_prefix_space=True)
        bpe.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=["<pad>"],
            initial_alphabet=sorted(pre.ByteLevel.alphabet()),
            show_progress=False,
        )
        bpe.train_from_iterator(captions, trainer)
        return cls(bpe, length)

    @property
    def size(self) -> int:
        """Number of tokens, padding included."""
        return int(self.bpe.get_vocab_size())

    def __call__(self, captions: Sequence[str]) -> CaptionTokens:
        """Tokens (b, length), padded with 0; a caption that is longer is cut with a warning that names it."""
        rows = [encoding.ids for encoding in self.bpe.encode_batch(list(captions))]
        return cut_and_pad(rows, captions, self.length)

    def decode(self, tokens: CaptionTokens) -> list[str]:
        """Captions of tokens, in lower case."""
        rows = [[token for token in row if token != PAD] for row in tokens.tolist()]
        return [self.bpe.decode(row).strip() for row in rows]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one JSON file."""
        content = {"length": self.length, "bpe": json.loads(self.bpe.to_str())}
        Path(path).write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "BytePairs":
        """Read what `save` wrote.

        Raises:
            ValueError: if the file holds something else.
        """
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not content.keys() >= {"length", "bpe"}:
            raise ValueError(f"{path} holds no tokenizer of this kind; give a file that BytePairs.save wrote")
        library = optional("tokenizers", "bpe", "byte-level BPE")
        return cls(library.Tokenizer.from_str(json.dumps(content["bpe"])), content["length"])


class CaptionEncoder(nn.Module, PyTorchModelHubMixin):
    """Token embedding plus learned positions, transformer layers and a layer norm: tokens (b, l) to states (b, l, d).

    No token attends to padding, except in an empty caption.

    Args:
        vocabulary: number of tokens, padding (0) included.
        length: most tokens of a caption.
        width: d, a multiple of `heads`.
        depth: number of layers.
        heads: attention heads.

    Unstated: the paper's encoder is CLIP, frozen; this one is for data that CLIP does not know, or is too large for
        [ClipText].
    """

    def __init__(self, *, vocabulary: int, length: int, width: int = 128, depth: int = 1, heads: int = 4) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width must be a multiple of heads, got width {width} and {heads} heads")
        self.embedding = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.empty(length, width))
        self.layers = nn.ModuleList(_Layer(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.embedding.weight, std=0.5)
        nn.init.normal_(self.position, std=0.5)

    def forward(self, tokens: CaptionTokens) -> Hidden:
        """States of tokens (b, l); l may be shorter than `length`.

        Raises:
            ValueError: if l is longer; on a CPU, if tokens are out of range.
        """
        length, vocabulary = tokens.shape[1], self.embedding.num_embeddings
        if length > len(self.position):
            raise ValueError(f"tokens has length {length}, but this encoder has {len(self.position)} positions; cut it")
        if tokens.device.type == "cpu" and bool(((tokens < 0) | (tokens >= vocabulary)).any()):
            raise ValueError(f"tokens must be in 0..{vocabulary - 1}, got {tokens.min()}..{tokens.max()}")
        x = self.embedding(tokens) + self.position[:length]
        hidden = torch.zeros(tokens.shape, device=x.device).masked_fill(tokens == PAD, -1e4)
        hidden = hidden.masked_fill((tokens == PAD).all(dim=1, keepdim=True), 0.0)[:, None, None]
        for layer in self.layers:
            x = layer(x, hidden)
        states: Tensor = self.norm(x)
        return states


class _Layer(nn.Module):
    """A pre-norm transformer layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Hidden, hidden: Visible) -> Hidden:
        b, l, d = x.shape  # noqa: E741
        q, k, v = self.qkv(self.norm_1(x)).view(b, l, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        x = x + self.out(_attention(q, k, v, hidden.to(q.dtype)).transpose(1, 2).flatten(2))
        out: Tensor = x + self.mlp(self.norm_2(x))
        return out


def _attention(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(e) + hidden) v; written out in bf16 on the CPU, whose fused backward is slow."""
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]) + hidden
        return scores.softmax(dim=-1, dtype=q.dtype) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=hidden)
