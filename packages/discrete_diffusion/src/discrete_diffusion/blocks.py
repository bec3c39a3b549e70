"""The parts of a transformer block: norms modulated by time or class, feed-forward nets, the block."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_diffusion._types import Embedding, Grid, Hidden, Labels, States, Times
from discrete_diffusion.attention import CrossAttention, SelfAttention


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

    def forward(self, x: Hidden, index: Times | Labels) -> Hidden:
        modulation: Tensor = self.modulation(F.silu(self.embedding(index)))
        scale, shift = modulation[:, None].chunk(2, -1)
        return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:]), 1 + scale)


class FeedForward(nn.Module):
    """Linear, GELU2, linear; (b, n, d) to (b, n, d).

    `GELU2(x) = x sigmoid(1.702 x) = SiLU(1.702 x) / 1.702`, and the two factors go to the weights, which are smaller.
    """

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        self.expand = nn.Linear(width, ratio * width)
        self.contract = nn.Linear(ratio * width, width)

    def forward(self, x: Hidden) -> Hidden:
        hidden = F.silu(F.linear(x, 1.702 * self.expand.weight, 1.702 * self.expand.bias))
        return F.linear(hidden, self.contract.weight / 1.702, self.contract.bias)


class ConvolutionalFeedForward(nn.Module):
    """3x3 convolution, GELU2, 3x3 convolution on the grid; (b, n, d) to (b, n, d)."""

    def __init__(self, width: int, ratio: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.expand = nn.Conv2d(width, ratio * width, 3, padding=1)
        self.contract = nn.Conv2d(ratio * width, width, 3, padding=1)

    def forward(self, x: Hidden) -> Hidden:
        return to_tokens(self.contract(F.silu(1.702 * self.expand(to_grid(x, self.grid))) / 1.702))


class DepthwiseConvolution(nn.Module):
    """A 3x3 convolution of every channel for itself on the grid, (b, n, d) to (b, n, d)."""

    def __init__(self, width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.convolve = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, x: Hidden) -> Hidden:
        return to_tokens(self.convolve(to_grid(x, self.grid)))


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

    def forward(self, x: Hidden, t: Times, condition: States | Labels | None = None) -> Hidden:
        if self.convolution is not None:
            x = x + self.convolution(x)
        x = x + self.self_attention(self.self_norm(x, t))
        if self.cross_attention is not None and self.cross_norm is not None:
            x = x + self.cross_attention(self.cross_norm(x, t), condition)
        normed = self.norm(x) if isinstance(self.norm, nn.LayerNorm) else self.norm(x, condition)
        out: Tensor = x + self.feedforward(normed)
        return out


def to_grid(x: Hidden, grid: tuple[int, int]) -> Grid:
    """(b, h w, d) as (b, d, h, w), a view."""
    return x.transpose(1, 2).reshape(x.shape[0], -1, *grid)


def to_tokens(x: Grid) -> Hidden:
    """(b, d, h, w) as (b, h w, d), a view."""
    return x.flatten(2).transpose(1, 2)
