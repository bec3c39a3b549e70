"""The parts of a transformer block: norms modulated by time or class, feed-forward nets, the block."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_diffusion._types import Embedding, Grid, Hidden, Labels, Modulations, States, Times
from discrete_diffusion.attention import CrossAttention, KeysValues, SelfAttention

GELU2 = 1.702
LARGE = 2**20
"""Number of weights above which a feed-forward net makes no scaled copy of them."""


class LearnedTime(nn.Module):
    """One learned vector for each of the steps 1..T."""

    def __init__(self, steps: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(steps, width)

    def forward(self, t: Times) -> Embedding:
        out: Tensor = self.table(t - 1)
        return out


class SinusoidalTime(nn.Module):
    """Sines and cosines of `4000 (t - 1) / T`, frequencies from 1 down to 1e-4."""

    def __init__(self, steps: int, width: int) -> None:
        super().__init__()
        self.steps, self.width = steps, width

    def forward(self, t: Times) -> Embedding:
        half = self.width // 2
        exponents = torch.arange(half, device=t.device, dtype=torch.float32) / (half - 1)
        angles = ((t - 1).float() / self.steps * 4000)[:, None] * torch.exp(-math.log(10000) * exponents)
        return torch.cat([angles.sin(), angles.cos()], -1)


class LearnedClass(nn.Module):
    """One learned vector for each class; the label `classes` stands for none, their mean."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(classes, width)

    def forward(self, label: Labels) -> Embedding:
        rows = torch.cat([self.table.weight, self.table.weight.mean(0, keepdim=True)])
        return rows[label.clamp_max(self.table.num_embeddings)]


class AdaptiveNorm(nn.Module):
    """`(1 + scale) LN(x) + shift` with `(scale, shift) = Linear(SiLU(embedding(index)))`, LN without affine.

    Source: VQ-Diffusion adaptive layer norm
    """

    def __init__(self, embedding: nn.Module, width: int) -> None:
        super().__init__()
        self.embedding = embedding
        self.modulation = nn.Linear(width, 2 * width)

    def modulations(self, index: Times | Labels, more: Embedding | None = None) -> Modulations:
        """Scale and shift, (b, 2 d), of the index, to whose embedding `more` is added."""
        embedding = self.embedding(index)
        out: Tensor = self.modulation(F.silu(embedding if more is None else embedding + more))
        return out

    def forward(self, x: Hidden, index: Times | Labels) -> Hidden:
        return modulate(x, self.modulations(index))


def modulate(x: Hidden, modulations: Modulations) -> Hidden:
    """`(1 + scale) LN(x) + shift` with (scale, shift) as halves of (b, 2 d).

    Source: VQ-Diffusion adaptive layer norm
    """
    scale, shift = modulations[:, None].chunk(2, -1)
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:]), 1 + scale)


class FeedForward(nn.Module):
    """Linear, GELU2, linear; (b, n, d) to (b, n, d).

    `GELU2(x) = x sigmoid(1.702 x) = SiLU(1.702 x) / 1.702`. The two factors go to the weights, or into the matrix
    products where the weights are many, since a copy of these would be kept for the backward pass.
    """

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        self.expand = nn.Linear(width, ratio * width)
        self.contract = nn.Linear(ratio * width, width)

    def forward(self, x: Hidden) -> Hidden:
        if self.expand.weight.numel() <= LARGE:
            hidden = _silu(F.linear(x, GELU2 * self.expand.weight, GELU2 * self.expand.bias))
            return F.linear(hidden, self.contract.weight / GELU2, self.contract.bias)
        flat = torch.addmm(GELU2 * self.expand.bias, x.flatten(0, 1), self.expand.weight.T, alpha=GELU2)
        out = torch.addmm(self.contract.bias, _silu(flat), self.contract.weight.T, alpha=1 / GELU2)
        return out.view(x.shape)


def _silu(fresh: Tensor) -> Tensor:
    """SiLU, in place where no gradient needs its argument."""
    return F.silu(fresh, inplace=not fresh.requires_grad)


class ConvolutionalFeedForward(nn.Module):
    """3x3 convolution, GELU2, 3x3 convolution on the grid; (b, n, d) to (b, n, d)."""

    def __init__(self, width: int, ratio: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.expand = nn.Conv2d(width, ratio * width, 3, padding=1)
        self.contract = nn.Conv2d(ratio * width, width, 3, padding=1)

    def forward(self, x: Hidden) -> Hidden:
        return to_tokens(self.contract(F.silu(GELU2 * self.expand(to_grid(x, self.grid))) / GELU2))


class DepthwiseConvolution(nn.Module):
    """A 3x3 convolution of every channel for itself on the grid, (b, n, d) to (b, n, d)."""

    def __init__(self, width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.convolve = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, x: Hidden) -> Hidden:
        return to_tokens(self.convolve(to_grid(x, self.grid)))


class Given(NamedTuple):
    """What a block is told: modulations (b, 2 d) of its norms, keys and values of the condition."""

    self_norm: Tensor
    cross_norm: Tensor | None
    last_norm: Tensor | None
    keys_values: KeysValues | None


class Block(nn.Module):
    """Self-attention, cross-attention (where there is a condition), feed-forward; each normalised first, each residual.

    Args:
        width: d.
        heads: attention heads.
        feedforward: the feed-forward net, (b, n, d) to (b, n, d).
        time: kind of time embedding; every norm has its own.
        steps: T.
        condition_width: d_c, or None for no cross-attention.
        classes: number of classes that modulate the last norm, or None for a plain norm.
        convolution: a depthwise 3x3 convolution on the grid, residual, before all else; or None.

    Source: VQ-Diffusion denoising transformer
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        feedforward: nn.Module,
        time: type[LearnedTime] | type[SinusoidalTime],
        steps: int,
        condition_width: int | None,
        classes: int | None,
        convolution: nn.Module | None,
    ) -> None:
        super().__init__()
        self.convolution = convolution
        self.self_norm = AdaptiveNorm(time(steps, width), width)
        self.self_attention = SelfAttention(width, heads)
        self.cross_norm = AdaptiveNorm(time(steps, width), width) if condition_width is not None else None
        self.cross_attention = CrossAttention(width, condition_width, heads) if condition_width is not None else None
        self.norm = nn.LayerNorm(width) if classes is None else AdaptiveNorm(LearnedClass(classes, width), width)
        self.feedforward = feedforward

    def given(self, t: Times, condition: States | Labels | None = None, label: Embedding | None = None) -> Given:
        """What the block is told at times t; `label` is added to the embedding of the time in its norms."""
        return Given(
            self.self_norm.modulations(t, label),
            None if self.cross_norm is None else self.cross_norm.modulations(t, label),
            None if condition is None or isinstance(self.norm, nn.LayerNorm) else self.norm.modulations(condition),
            None if condition is None else self.keys_values(condition),
        )

    def keys_values(self, states: States | Labels) -> KeysValues | None:
        """What the cross-attention makes of the states, if there is one."""
        return None if self.cross_attention is None else self.cross_attention.keys_values(states)

    def forward(self, x: Hidden, given: Given) -> Hidden:
        if self.convolution is not None:
            x = x + self.convolution(x)
        x = x + self.self_attention(modulate(x, given.self_norm))
        if self.cross_attention is not None and given.cross_norm is not None and given.keys_values is not None:
            x = x + self.cross_attention(modulate(x, given.cross_norm), given.keys_values)
        normed = self.norm(x) if given.last_norm is None else modulate(x, given.last_norm)
        out: Tensor = x + self.feedforward(normed)
        return out


def to_grid(x: Hidden, grid: tuple[int, int]) -> Grid:
    """(b, h w, d) as (b, d, h, w), a view."""
    return x.transpose(1, 2).reshape(x.shape[0], -1, *grid)


def to_tokens(x: Grid) -> Hidden:
    """(b, d, h, w) as (b, h w, d), a view."""
    return x.flatten(2).transpose(1, 2)
