"""Attention with a memory: of a decoder to what it has drawn, and to what its encoder has read."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_diffusion.imagebart._types import Heads, Hidden, Source, SourceHeads, Visible
from discrete_diffusion.imagebart.linear import Linear


@dataclass(frozen=True)
class KeysValues:
    """Keys and values of m positions, (b, a, m, e) each."""

    keys: SourceHeads
    values: SourceHeads


class Cache:
    """The keys and values of the positions that one attention has seen, of at most `room`."""

    def __init__(self, room: int) -> None:
        self.room, self.length = room, 0
        self._store: Tensor | None = None

    @property
    def next(self) -> int:
        """The position that comes next.

        Raises:
            ValueError: if there is no room left.
        """
        if self.length == self.room:
            raise ValueError(f"all {self.room} positions of this scale are drawn; begin a new decoding")
        return self.length

    def extend(self, new: KeysValues) -> KeysValues:
        """Append, and return all there is."""
        start, self.length = self.length, self.length + new.keys.shape[2]
        if self._store is None:
            b, a, _, e = new.keys.shape
            self._store = new.keys.new_empty(2, b, a, self.room, e)
        self._store[0, :, :, start : self.length] = new.keys
        self._store[1, :, :, start : self.length] = new.values
        keys, values = self._store[:, :, :, : self.length].unbind(0)
        return KeysValues(keys, values)


def attend(q: Heads, memory: KeysValues, visible: Visible | None = None) -> Heads:
    """`softmax(q k^T / sqrt(e)) v` over what is visible, (b, a, n, e).

    Written out in bf16 on the CPU, whose fused backward is slow.
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        scores = (q * q.shape[-1] ** -0.5) @ memory.keys.transpose(-2, -1)
        written: Tensor = (scores if visible is None else scores.masked_fill(~visible, -torch.inf)).softmax(-1)
        return written @ memory.values
    return F.scaled_dot_product_attention(q, memory.keys, memory.values, attn_mask=visible)


class SelfAttention(nn.Module):
    """Attention of positions to those visible, and to all that a cache has of earlier ones, (b, n, d) to (b, n, d)."""

    def __init__(self, width: int, heads: int, head_width: int, *, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = Linear(width, 3 * heads * head_width, bias=bias)
        self.project = Linear(heads * head_width, width)

    def forward(self, x: Hidden, *, visible: Visible | None = None, cache: Cache | None = None) -> Hidden:
        b, n, _ = x.shape
        q, k, v = self.query_key_value(x).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        seen = KeysValues(k, v) if cache is None else cache.extend(KeysValues(k, v))
        out: Tensor = self.project(attend(q, seen, visible).transpose(1, 2).flatten(2))
        return out


class CrossAttention(nn.Module):
    """Attention of positions to the memory of a source, (b, n, d) to (b, n, d)."""

    def __init__(self, width: int, heads: int, head_width: int, *, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.query = Linear(width, heads * head_width, bias=bias)
        self.key_value = Linear(width, 2 * heads * head_width, bias=bias)
        self.project = Linear(heads * head_width, width)

    def memory(self, source: Source) -> KeysValues:
        """Keys and values of a source (b, m, d), made once for all positions that will attend to it."""
        b, m, _ = source.shape
        keys, values = self.key_value(source).view(b, m, 2, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        return KeysValues(keys, values)

    def forward(self, x: Hidden, memory: KeysValues) -> Hidden:
        b, n, _ = x.shape
        q = self.query(x).view(b, n, self.heads, -1).transpose(1, 2)
        out: Tensor = self.project(attend(q, memory).transpose(1, 2).flatten(2))
        return out
