"""Captions to tokens to states: a byte-level BPE tokenizer and a small transformer, trained with the denoiser."""

import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

import tokenizers
import torch
from jaxtyping import Float, Int64
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional as F

PAD = 0


class Tokenizer:
    """Byte-level BPE over lower-case captions: any text has tokens, and a frequent word is a single one.

    `cut` counts the captions that were longer than `length` tokens since this tokenizer was made.
    """

    def __init__(self, bpe: tokenizers.Tokenizer, length: int) -> None:
        if length < 1:
            raise ValueError(f"length must be at least 1 token, got {length}")
        self.bpe = bpe
        self.length = length
        self.cut = 0

    @classmethod
    def train(cls, captions: Iterable[str], *, vocabulary: int, length: int) -> "Tokenizer":
        """Learn at most `vocabulary` tokens (padding, 256 bytes, then merges) from `captions`.

        Captions are padded and cut to `length` tokens.
        """
        if vocabulary < 257:
            raise ValueError(f"vocabulary must be at least 257 (256 bytes and the padding), got {vocabulary}")
        bpe = tokenizers.Tokenizer(models.BPE())
        bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase(), normalizers.Strip()])
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        bpe.decoder = decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary, special_tokens=["<pad>"], initial_alphabet=alphabet, show_progress=False
        )
        bpe.train_from_iterator(captions, trainer)
        return cls(bpe, length)

    @property
    def size(self) -> int:
        """Number of tokens, padding included."""
        return int(self.bpe.get_vocab_size())

    def __call__(self, captions: Sequence[str]) -> Int64[Tensor, "b {self.length}"]:
        """Tokens `(b, length)`, padded with 0; longer captions lose their end and are counted in `cut`."""
        tokens = torch.full((len(captions), self.length), PAD, dtype=torch.int64)
        for row, encoding in zip(tokens, self.bpe.encode_batch(list(captions)), strict=True):
            kept = encoding.ids[: self.length]
            row[: len(kept)] = torch.tensor(kept, dtype=torch.int64)
            self.cut += len(encoding.ids) > self.length
        return tokens

    def decode(self, tokens: Int64[Tensor, "b l"]) -> list[str]:
        """Captions of `tokens`, in lower case."""
        rows = [[token for token in row if token != PAD] for row in tokens.tolist()]
        return [self.bpe.decode(row).strip() for row in rows]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one JSON file."""
        content = {"length": self.length, "bpe": json.loads(self.bpe.to_str())}
        Path(path).write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Tokenizer":
        """Read what `save` wrote."""
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return cls(tokenizers.Tokenizer.from_str(json.dumps(content["bpe"])), content["length"])


def attention(
    q: Float[Tensor, "b h l e"],
    k: Float[Tensor, "b h l e"],
    v: Float[Tensor, "b h l e"],
    hidden: Float[Tensor, "b 1 1 l"],
) -> Float[Tensor, "b h l e"]:
    """softmax(q k^T / sqrt(e) + hidden) v; written out on CPU in bfloat16, where the fused backward pass is slow."""
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]) + hidden.to(q.dtype)
        return scores.softmax(dim=-1, dtype=q.dtype) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=hidden.to(q.dtype))


class _Layer(nn.Module):
    """A pre-norm transformer layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Float[Tensor, "b l d"], hidden: Float[Tensor, "b 1 1 l"]) -> Float[Tensor, "b l d"]:
        q, k, v = self.qkv(self.norm_1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(attention(q, k, v, hidden).transpose(1, 2).flatten(2))
        return cast(Tensor, x + self.mlp(self.norm_2(x)))


class CaptionEncoder(nn.Module):
    """Token embedding plus learned positions, `depth` transformer layers and a layer norm.

    Tokens `(b, l)` to states `(b, l, width)`. No token attends to padding, except in an empty caption.
    """

    def __init__(self, vocabulary: int, *, length: int, width: int = 128, depth: int = 1, heads: int = 4) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width must be a multiple of heads, got width {width} and {heads} heads")
        self.embedding = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.empty(length, width))
        self.layers = nn.ModuleList(_Layer(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.embedding.weight, std=0.5)
        nn.init.normal_(self.position, std=0.5)

    def forward(self, tokens: Int64[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
        """States of `tokens`; l may be shorter than `length`. Raises ValueError where it is longer."""
        length = tokens.shape[1]
        if length > len(self.position):
            raise ValueError(f"tokens has length {length}, but this encoder has {len(self.position)} positions; cut it")
        x = self.embedding(tokens) + self.position[:length]
        hidden = torch.zeros(tokens.shape, device=x.device).masked_fill(tokens == PAD, -1e4)
        hidden = hidden.masked_fill((tokens == PAD).all(dim=1, keepdim=True), 0.0)[:, None, None]
        for layer in self.layers:
            x = layer(x, hidden)
        return cast(Tensor, self.norm(x))
