"""The levels of a U-Net: what stands at each place of the way down, of the middle and of the way up."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from continuous_diffusion._types import Features, States
from continuous_diffusion.attention import Positions, SelfAttentionBlock, SpatialTransformer
from continuous_diffusion.blocks import Double, Downsample, Halve, ResidualBlock, Upsample


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

    def forward(self, x: Features, time: Tensor, condition: States | None) -> Tensor:
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
class Parts:
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


def descend(parts: Parts, widths: Sequence[int], residual_blocks: int, skips: list[int]) -> Iterator[Cell]:
    """The cells of the way down; the width that each leaves is appended to `skips`."""
    for level, width in enumerate(widths):
        for _ in range(residual_blocks):
            yield parts.cell(skips[-1], width, 2**level)
            skips.append(width)
        if level < len(widths) - 1:
            yield Cell(resample=parts.smaller(width))
            skips.append(width)


def ascend(parts: Parts, widths: Sequence[int], residual_blocks: int, skips: list[int]) -> Iterator[Cell]:
    """The cells of the way up; each takes one width from `skips`."""
    before = widths[-1]
    for level, width in reversed(list(enumerate(widths))):
        for block in range(residual_blocks + 1):
            last = block == residual_blocks and level > 0
            yield parts.cell(before + skips.pop(), width, 2**level, parts.larger(width) if last else None)
            before = width
