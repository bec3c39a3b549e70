"""Multi-head attention within the tokens, and from the tokens to a condition."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_diffusion._types import Heads, Hidden, States


class KeysValues(NamedTuple):
    """What a cross-attention makes of a condition: keys and values, (b, heads, l, e) each."""

    keys: Tensor
    values: Tensor


def attention(q: Heads, k: Tensor, v: Tensor) -> Heads:
    """`softmax(q k^T / sqrt(e)) v`, (b, heads, n, e); written out in bf16 on the CPU, whose fused backward is slow."""
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        written: Tensor = scores.softmax(-1) @ v
        return written
    return F.scaled_dot_product_attention(q, k, v)


class SelfAttention(nn.Module):
    """Attention of every token to every token, (b, n, d) to (b, n, d).

    Source: VQ-Diffusion denoising transformer
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)

    def forward(self, x: Hidden) -> Hidden:
        q, k, v = (_split(part, self.heads) for part in self.query_key_value(x).chunk(3, -1))
        out: Tensor = self.project(_merge(attention(q, k, v)))
        return out


class CrossAttention(nn.Module):
    """Attention of every token to the states of a condition, (b, n, d) and (b, l, d_c) to (b, n, d).

    Source: VQ-Diffusion denoising transformer
    """

    def __init__(self, width: int, condition_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(condition_width, 2 * width)
        self.project = nn.Linear(width, width)

    def keys_values(self, condition: States) -> KeysValues:
        """Keys and values of the states, all that it takes of them."""
        return KeysValues(*(_split(part, self.heads) for part in self.key_value(condition).chunk(2, -1)))

    def forward(self, x: Hidden, condition: States | KeysValues) -> Hidden:
        k, v = condition if isinstance(condition, KeysValues) else self.keys_values(condition)
        out: Tensor = self.project(_merge(attention(_split(self.query(x), self.heads), k, v)))
        return out


def _split(x: Tensor, heads: int) -> Tensor:
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def _merge(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)
