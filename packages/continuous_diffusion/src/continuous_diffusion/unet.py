"""The U-Net of latent diffusion: residual blocks at each resolution, attention at some of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional as F

from continuous_diffusion._types import Condition, Features, Images, Times
from continuous_diffusion.attention import Positions, SelfAttentionBlock, SpatialTransformer
from continuous_diffusion.blocks import (
    Double,
    Downsample,
    Halve,
    ResidualBlock,
    TimeEmbedding,
    Upsample,
    zeroed_convolution,
)
from continuous_diffusion.denoiser import Prediction


class Cell(nn.Module):
    """One place of the U-Net: a residual block, attention, a change of resolution; whichever are there, in order."""

    def __init__(
        self,
        residual: ResidualBlock | None = None,
        attention: SelfAttentionBlock | SpatialTransformer | None = None,
        resample: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.residual = residual
        self.attention = attention
        self.resample = resample

    def forward(self, x: Features, time: Tensor, condition: Condition | None) -> Tensor:
        """Features, time vectors and condition to features."""
        if self.residual is not None:
            x = self.residual(x, time)
        if self.attention is not None:
            x = self.attention(x, condition)
        if isinstance(self.resample, ResidualBlock):
            x = self.resample(x, time)
        elif self.resample is not None:
            x = self.resample(x)
        return x


@dataclass(frozen=True)
class _Parts:
    """Builds the parts of one U-Net; `factor` is how many times smaller than the input a feature map is."""

    channels: int
    heads: int | None
    head_channels: int | None
    condition_width: int | None
    transformer_depth: int
    feed_forward: int
    resample_by_blocks: bool
    scale_shift: bool
    grid: tuple[int, int] | None
    attention_positions: bool
    attention_at: frozenset[int]
    groups: int

    def residual(self, width_in: int, width_out: int, resample: nn.Module | None = None) -> ResidualBlock:
        return ResidualBlock(
            width_in,
            width_out,
            4 * self.channels,
            groups=self.groups,
            scale_shift=self.scale_shift,
            resample=resample,
        )

    def attention(self, width: int, factor: int) -> SelfAttentionBlock | SpatialTransformer:
        heads = self.heads if self.head_channels is None else width // self.head_channels
        if heads is None or heads < 1 or width % heads or (self.head_channels and width % self.head_channels):
            raise ValueError(
                f"heads={self.heads}, head_channels={self.head_channels}: give one of them, dividing the width {width}"
            )
        positions = nn.Identity() if not self.attention_positions else self.positions(width, factor)
        if self.condition_width is None:
            return SelfAttentionBlock(width, heads, groups=self.groups, positions=positions)
        return SpatialTransformer(
            width,
            heads,
            condition_width=self.condition_width,
            depth=self.transformer_depth,
            feed_forward=self.feed_forward,
            groups=self.groups,
            positions=positions,
        )

    def positions(self, width: int, factor: int) -> Positions:
        if self.grid is None:
            raise ValueError("attention_positions needs grid=(h, w), the size of the input that they are learned for")
        return Positions((self.grid[0] // factor, self.grid[1] // factor), width)

    def cell(self, width_in: int, width_out: int, factor: int, resample: nn.Module | None = None) -> Cell:
        attention = self.attention(width_out, factor) if factor in self.attention_at else None
        return Cell(self.residual(width_in, width_out), attention, resample)

    def smaller(self, width: int) -> nn.Module:
        return self.residual(width, width, Halve()) if self.resample_by_blocks else Downsample(width)

    def larger(self, width: int) -> nn.Module:
        return self.residual(width, width, Double()) if self.resample_by_blocks else Upsample(width)


class UNet(nn.Module, PyTorchModelHubMixin):
    """The time-conditional U-Net of ADM and LDM, with cross-attention where a condition is to be read.

    * `channels` times each of `multipliers` is the width of a level; each level halves the resolution of the last.
    * `attention_at` are the downsampling factors (1, 2, 4, ...) with attention; the middle always has it.
    * `heads` per attention, or `head_channels` per head: one of them.
    * `condition_width` d_c: attention becomes a spatial transformer of `transformer_depth` blocks that reads
      `condition` (b, l, d_c). `null_states`: how many learned states stand for "no condition": 1 for any length,
      0 for none, else for that length.
    * `resample_by_blocks`: resolution changes inside residual blocks; `scale_shift`: time scales as well as shifts.
    * `grid` (h, w): the one input size that is accepted; any that the levels divide when None.
    * `attention_positions`: a learned vector per position in each attention block, for `grid`.

    Raises ValueError for widths that `groups` does not divide, and for heads that do not fit.

    Source: LDM U-Net
    Deviation: `attention_positions`, off by default, are not in the paper. In a small study on the CPU they took the
    share of right captions (two coloured shapes in relation) from 65 % to 89 % at 1,200 steps.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        channels: int,
        multipliers: Sequence[int],
        residual_blocks: int,
        attention_at: Sequence[int] = (),
        heads: int | None = None,
        head_channels: int | None = None,
        condition_width: int | None = None,
        null_states: int = 1,
        transformer_depth: int = 1,
        feed_forward: int = 4,
        resample_by_blocks: bool = False,
        scale_shift: bool = False,
        grid: Sequence[int] | None = None,
        attention_positions: bool = False,
        groups: int = 32,
    ) -> None:
        super().__init__()
        odd = [channels * m for m in multipliers if channels * m % groups] + [channels] * (channels % groups > 0)
        if odd:
            raise ValueError(f"widths {odd} are not multiples of groups={groups}")
        self.in_channels = in_channels
        self.condition_width = condition_width
        self.shrinkage = 2 ** (len(multipliers) - 1)
        self.grid = None if grid is None else (int(grid[0]), int(grid[1]))
        parts = _Parts(
            channels=channels,
            heads=heads,
            head_channels=head_channels,
            condition_width=condition_width,
            transformer_depth=transformer_depth,
            feed_forward=feed_forward,
            resample_by_blocks=resample_by_blocks,
            scale_shift=scale_shift,
            grid=self.grid,
            attention_positions=attention_positions,
            attention_at=frozenset(attention_at),
            groups=groups,
        )
        widths = [channels * m for m in multipliers]
        self.time = TimeEmbedding(channels, 4 * channels)
        self.stem = nn.Conv2d(in_channels, channels, 3, padding=1)
        skips = [channels]
        self.down = nn.ModuleList(_descend(parts, widths, residual_blocks, skips))
        self.middle = nn.ModuleList(
            [
                Cell(parts.residual(widths[-1], widths[-1]), parts.attention(widths[-1], self.shrinkage)),
                Cell(parts.residual(widths[-1], widths[-1])),
            ]
        )
        self.up = nn.ModuleList(_ascend(parts, widths, residual_blocks, skips))
        self.norm = nn.GroupNorm(groups, channels)
        self.head = zeroed_convolution(channels, out_channels)
        if condition_width is not None and null_states:
            self.null = nn.Parameter(0.02 * torch.randn(null_states, condition_width))
        else:
            self.register_parameter("null", None)

    def forward(self, x_t: Images, t: Times, condition: Condition | None = None) -> Prediction:
        """The prediction for noisy states (b, in_channels, h, w) at steps `t` in 1..T, (b,).

        Raises ValueError for a size that the levels do not divide, and for a condition missing or not expected.
        """
        self._check(x_t, condition)
        time = self.time(t)
        h = self.stem(x_t)
        skips = [h]
        for cell in self.down:
            h = cell(h, time, condition)
            skips.append(h)
        for cell in self.middle:
            h = cell(h, time, condition)
        for cell in self.up:
            h = cell(torch.cat([h, skips.pop()], 1), time, condition)
        return Prediction(value=self.head(F.silu(self.norm(h))).to(x_t.dtype), features=h)

    def null_condition(self, b: int, l: int) -> Condition:  # noqa: E741
        """The learned states of "no condition", (b, l, d_c).

        Raises ValueError when there are none, or when they were learned for another length.

        Source: Improved VQ-Diffusion learnable null condition
        Unstated: the number of states and their first values; one for all lengths, N(0, 0.02^2).
        """
        if self.null is None:
            raise ValueError("this U-Net has no null states: build it with condition_width and null_states=1")
        if len(self.null) not in (1, l):
            raise ValueError(f"l: {l} null states asked for, {len(self.null)} were learned")
        return self.null.expand(b, l, -1)

    def _check(self, x_t: Images, condition: Condition | None) -> None:
        b, c, h, w = x_t.shape
        if c != self.in_channels:
            raise ValueError(f"x_t: {c} channels, this U-Net reads in_channels={self.in_channels}")
        if h % self.shrinkage or w % self.shrinkage:
            raise ValueError(f"x_t: size {h} x {w}, both sides must be multiples of {self.shrinkage} for these levels")
        if self.grid not in (None, (h, w)):
            raise ValueError(f"x_t: size {h} x {w}, this U-Net was built for grid={self.grid}")
        if condition is None and self.condition_width is not None:
            raise ValueError("condition is missing: this U-Net was built with condition_width; see null_condition")
        if condition is not None and self.condition_width is None:
            raise ValueError("condition was given to an unconditional U-Net: build it with condition_width")
        if condition is not None and (condition.shape[0], condition.shape[2]) != (b, self.condition_width):
            raise ValueError(
                f"condition: shape {tuple(condition.shape)}, expected ({b}, l, {self.condition_width}) beside x_t"
            )


def _descend(parts: _Parts, widths: Sequence[int], residual_blocks: int, skips: list[int]) -> Iterator[Cell]:
    """The cells of the way down; the width that each leaves is appended to `skips`."""
    for level, width in enumerate(widths):
        for _ in range(residual_blocks):
            yield parts.cell(skips[-1], width, 2**level)
            skips.append(width)
        if level < len(widths) - 1:
            yield Cell(resample=parts.smaller(width))
            skips.append(width)


def _ascend(parts: _Parts, widths: Sequence[int], residual_blocks: int, skips: list[int]) -> Iterator[Cell]:
    """The cells of the way up; each takes one width from `skips`."""
    before = widths[-1]
    for level, width in reversed(list(enumerate(widths))):
        for block in range(residual_blocks + 1):
            last = block == residual_blocks and level > 0
            yield parts.cell(before + skips.pop(), width, 2**level, parts.larger(width) if last else None)
            before = width
