r"""Attention between the positions of a feature map, and from them to the states of a condition."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from continuous_diffusion._types import Features, Heads, OtherHeads, States, Tokens


def attention(query: Heads, key: OtherHeads, value: OtherHeads, bias: Tensor | None = None) -> Heads:
    r"""$\mathrm{softmax}(Q K^\top / \sqrt d + B) V$, head by head; `bias` $B$ (b, 1, n, m) is 0 when not given.

    Written out in bfloat16 on the CPU, where the backward pass of the fused kernel is several times slower.

    Source: LDM cross-attention
    """
    if query.device.type == "cpu" and query.dtype == torch.bfloat16:
        scores = (query / math.sqrt(query.shape[-1])) @ key.transpose(-2, -1)
        return torch.softmax(scores if bias is None else scores + bias, -1) @ value
    return F.scaled_dot_product_attention(query, key, value, bias)


def _split(tokens: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """(b, n, parts * heads * d) as `parts` tensors (b, heads, n, d)."""
    b, n, width = tokens.shape
    return tokens.view(b, n, parts, heads, width // (parts * heads)).permute(2, 0, 3, 1, 4).unbind(0)


def _join(heads: Heads) -> Tensor:
    return heads.transpose(1, 2).flatten(2)


def zeroed(layer: nn.Linear) -> nn.Linear:
    """The layer with all its parameters set to 0, so that the block it ends starts as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class SelfAttention(nn.Module):
    """Attention of each position to all positions; the rows of `qkv` are ordered [q, k, v][head][channel].

    `head_width` channels a head; the width over the heads when None.
    """

    def __init__(self, width: int, heads: int, *, bias: bool, head_width: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        inner = width if head_width is None else heads * head_width
        self.qkv = nn.Linear(width, 3 * inner, bias=bias)
        self.out = nn.Linear(inner, width)

    def forward(self, tokens: Tokens, bias: Tensor | None = None) -> Tokens:
        """Tokens (b, n, d) to tokens (b, n, d); `bias` (b, 1, n, n) is added to the scores."""
        query, key, value = _split(self.qkv(tokens), 3, self.heads)
        mixed: Tensor = self.out(_join(attention(query, key, value, bias)))
        return mixed


class CrossAttention(nn.Module):
    """Attention of each position to the states of the condition.

    Source: LDM cross-attention
    """

    def __init__(self, width: int, heads: int, condition_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(condition_width, 2 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tokens, condition: States) -> Tokens:
        """Tokens (b, n, d) and states (b, l, d_c) to tokens (b, n, d)."""
        (query,) = _split(self.query(tokens), 1, self.heads)
        key, value = _split(self.key_value(condition), 2, self.heads)
        mixed: Tensor = self.out(_join(attention(query, key, value)))
        return mixed


class FeedForward(nn.Module):
    r"""GEGLU: $W_2 (a \odot \mathrm{GELU}(g))$ with $[a, g] = W_1 x$ of `multiplier` times the width each."""

    def __init__(self, width: int, multiplier: int) -> None:
        super().__init__()
        self.expand = nn.Linear(width, 2 * multiplier * width)
        self.contract = nn.Linear(multiplier * width, width)

    def forward(self, tokens: Tokens) -> Tokens:
        """Tokens (b, n, d) to tokens (b, n, d)."""
        linear, gate = self.expand(tokens).chunk(2, -1)
        contracted: Tensor = self.contract(linear * F.gelu(gate))
        return contracted


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention, feed-forward, each on normalised tokens and added to them.

    `feed_forward` is how many times wider its hidden layer is; 0 leaves it out.

    Deviation: the paper's Table 16 lists self-attention, MLP, cross-attention; the released code and weights have
    the order used here [fixed].
    """

    def __init__(self, width: int, heads: int, condition_width: int, feed_forward: int) -> None:
        super().__init__()
        self.norm_self, self.norm_cross = nn.LayerNorm(width), nn.LayerNorm(width)
        self.self_attention = SelfAttention(width, heads, bias=False)
        self.cross_attention = CrossAttention(width, heads, condition_width)
        self.norm_feed = nn.LayerNorm(width) if feed_forward else None
        self.feed_forward = FeedForward(width, feed_forward) if feed_forward else None

    def forward(self, tokens: Tokens, condition: States) -> Tokens:
        """Tokens (b, n, d) and states (b, l, d_c) to tokens (b, n, d)."""
        tokens = tokens + self.self_attention(self.norm_self(tokens))
        tokens = tokens + self.cross_attention(self.norm_cross(tokens), condition)
        if self.norm_feed is None or self.feed_forward is None:
            return tokens
        fed: Tensor = tokens + self.feed_forward(self.norm_feed(tokens))
        return fed


class Positions(nn.Module):
    """A learned vector per position, added to the tokens of one fixed grid.

    Deviation: LDM's U-Net has none and knows positions through the padding of its convolutions alone. Off by default
        [UNet.attention_positions].
    """

    def __init__(self, grid: tuple[int, int], width: int) -> None:
        super().__init__()
        self.grid = grid
        self.table = nn.Parameter(0.3 * torch.randn(grid[0] * grid[1], width))

    def forward(self, tokens: Tokens) -> Tokens:
        """Tokens (b, h w, d) with their positions.

        Raises ValueError when the grid is not the one the positions were learned for.
        """
        if tokens.shape[1] != len(self.table):
            raise ValueError(f"{tokens.shape[1]} positions, but attention_positions were learned for {self.grid}")
        placed: Tensor = tokens + self.table.to(tokens.dtype)
        return placed


class SelfAttentionBlock(nn.Module):
    """Normalise, attend, add: the attention of unconditional U-Nets."""

    def __init__(self, width: int, heads: int, *, groups: int, positions: nn.Module) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width)
        self.positions = positions
        self.attention = SelfAttention(width, heads, bias=True)
        zeroed(self.attention.out)

    def forward(self, x: Features, condition: States | None = None) -> Features:
        """A feature map of the same shape."""
        tokens = self.positions(self.norm(x).flatten(2).transpose(1, 2))
        attended: Tensor = self.attention(tokens)
        return x + attended.transpose(1, 2).reshape(x.shape)


class SpatialTransformer(nn.Module):
    """Project, run transformer blocks over the positions, project back, add: the attention of conditional U-Nets.

    Source: LDM cross-attention
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        condition_width: int,
        depth: int,
        feed_forward: int,
        groups: int,
        positions: nn.Module,
    ) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, eps=1e-6)
        self.project_in = nn.Linear(width, width)
        self.positions = positions
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, condition_width, feed_forward) for _ in range(depth))
        self.project_out = zeroed(nn.Linear(width, width))

    def forward(self, x: Features, condition: States) -> Features:
        """A feature map of the same shape."""
        tokens = self.positions(self.project_in(self.norm(x).flatten(2).transpose(1, 2)))
        for block in self.blocks:
            tokens = block(tokens, condition)
        read: Tensor = self.project_out(tokens)
        return x + read.transpose(1, 2).reshape(x.shape)
