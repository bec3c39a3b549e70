"""The convolutional encoder and decoder of VQGAN and LDM."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ._types import Grid, Images
from .layout import Layout, warn_of_range


def attention(
    q: Float[Tensor, "b n e"], k: Float[Tensor, "b n e"], v: Float[Tensor, "b n e"]
) -> Float[Tensor, "b n e"]:
    """Softmax attention, `softmax(q k^T / sqrt(e)) v`.

    Written out on a CPU in bfloat16, where the backward pass of the fused kernel is slow.
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        weights = torch.softmax(q @ k.transpose(1, 2) * q.shape[-1] ** -0.5, dim=-1)
        return weights @ v
    return F.scaled_dot_product_attention(q, k, v)


def _silu(x: Grid) -> Grid:
    """SiLU, written over its argument where no gradient will need that: half the memory, and the same values."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def _laid_out(x: Grid, layout: Layout) -> Grid:
    """The same values with channels last where convolutions are a twentieth faster: on a CPU, without a gradient.

    Networks with patches are small, and gain nothing.
    """
    if x.device.type == "cpu" and not torch.is_grad_enabled() and layout.patch == 1:
        return x.contiguous(memory_format=torch.channels_last)
    return x


def _normalisation(channels: int, groups: int) -> nn.GroupNorm:
    return nn.GroupNorm(max(g for g in range(1, min(groups, channels) + 1) if channels % g == 0), channels, eps=1e-6)


class ResidualBlock(nn.Module):
    """Two convolutions, each after group normalisation and SiLU, added to a (projected) copy of the input."""

    def __init__(self, channels_in: int, channels_out: int, *, groups: int = 32) -> None:
        super().__init__()
        self.norm1 = _normalisation(channels_in, groups)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm2 = _normalisation(channels_out, groups)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        if channels_in != channels_out:
            self.nin_shortcut = nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Grid) -> Float[Tensor, "b e h w"]:
        """Add the convolutions' result to the input."""
        h = self.conv1(_silu(self.norm1(x)))
        residual: Tensor = self.conv2(_silu(self.norm2(h)))
        if hasattr(self, "nin_shortcut"):
            x = self.nin_shortcut(x)
        if torch.is_grad_enabled() or x.dtype != residual.dtype:
            return x + residual
        return residual.add_(x)


class AttentionBlock(nn.Module):
    """One head of self-attention over all positions, added to its input."""

    def __init__(self, channels: int, *, groups: int = 32) -> None:
        super().__init__()
        self.norm = _normalisation(channels, groups)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Grid) -> Grid:
        """Add the attended values to the input."""
        normed = self.norm(x)
        q, k, v = (project(normed).flatten(2).transpose(1, 2) for project in (self.q, self.k, self.v))
        attended = attention(q, k, v).transpose(1, 2).reshape(x.shape)
        projected: Tensor = self.proj_out(attended)
        return x + projected


class Downsample(nn.Module):
    """Halve the grid: a convolution of stride 2, padded on the right and below only, as in the released code."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Grid) -> Float[Tensor, "b d h2 w2"]:
        """Halve height and width."""
        halved: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return halved


class Upsample(nn.Module):
    """Double the grid: nearest neighbour, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Grid) -> Float[Tensor, "b d h2 w2"]:
        """Double height and width."""
        doubled: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return doubled


class SubpixelUpsample(nn.Module):
    """Double the grid: a convolution to four times the channels, then a pixel shuffle."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, 4 * channels_out, 3, padding=1)

    def forward(self, x: Grid) -> Float[Tensor, "b e h2 w2"]:
        """Double height and width."""
        return F.pixel_shuffle(self.conv(x), 2)


class _Level(nn.Module):
    """Residual blocks at one resolution, attention after each or none, then a change of resolution or none."""

    def __init__(self, channels_in: int, channels_out: int, blocks: int, *, attends: bool, groups: int) -> None:
        super().__init__()
        widths = [channels_in] + [channels_out] * blocks
        self.block = nn.ModuleList(ResidualBlock(a, b, groups=groups) for a, b in zip(widths, widths[1:], strict=False))
        self.attn = nn.ModuleList(AttentionBlock(channels_out, groups=groups) for _ in range(blocks if attends else 0))
        self.downsample: Downsample | None = None
        self.upsample: Upsample | SubpixelUpsample | None = None

    def forward(self, x: Grid) -> Float[Tensor, "b e h2 w2"]:
        for index, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[index](x)
        if self.downsample is not None:
            x = self.downsample(x)
        if self.upsample is not None:
            x = self.upsample(x)
        return x


class _Middle(nn.Module):
    """Residual blocks at the lowest resolution, attention after the first."""

    def __init__(self, channels: int, layout: Layout) -> None:
        super().__init__()
        self.order: list[str] = []
        for index in range(1, layout.mid_blocks + 1):
            self._append(f"block_{index}", ResidualBlock(channels, channels, groups=layout.groups))
            if index == 1 and layout.mid_attention:
                self._append("attn_1", AttentionBlock(channels, groups=layout.groups))

    def _append(self, name: str, module: nn.Module) -> None:
        self.add_module(name, module)
        self.order.append(name)

    def forward(self, x: Grid) -> Grid:
        for name in self.order:
            x = self.get_submodule(name)(x)
        return x


class Encoder(nn.Module):
    """Images (b, c, H, W) to features (b, channels_out, H / factor, W / factor).

    Sub-modules carry the names of the released code, so that official weights load key by key.

    Source: VQGAN quantisation
    """

    def __init__(self, layout: Layout, channels_out: int) -> None:
        super().__init__()
        self.layout = layout
        self._looks = True
        margin = (layout.patch + 1) // 2
        self.conv_in = nn.Conv2d(
            layout.image_channels, layout.channels, layout.patch + 2 * margin, stride=layout.patch, padding=margin
        )
        self.down = nn.ModuleList()
        width = layout.channels
        for index in range(layout.levels):
            level = _Level(
                width, layout.width(index), layout.residual_blocks, attends=layout.attends(index), groups=layout.groups
            )
            width = layout.width(index)
            if index + 1 < layout.levels:
                level.downsample = Downsample(width)
            self.down.append(level)
        self.mid = _Middle(width, layout)
        self.norm_out = _normalisation(width, layout.groups)
        self.conv_out = nn.Conv2d(width, channels_out, 3, padding=1)

    def forward(self, images: Images) -> Float[Tensor, "b e h w"]:
        """Encode images; the first that leave [-1, 1] bring a warning.

        In training and on a GPU only the first batch is looked at.

        Raises:
            ValueError: the layout refuses the images' shape.
        """
        self.layout.check(images)
        if self._looks and not torch.compiler.is_compiling():
            self._looks = not (warn_of_range(images) or self.training or images.is_cuda)
        h = self.conv_in(_laid_out(images, self.layout))
        for level in self.down:
            h = level(h)
        features: Tensor = self.conv_out(_silu(self.norm_out(self.mid(h))))
        return features


class Decoder(nn.Module):
    """Features (b, channels_in, h, w) to images (b, c, h * factor, w * factor); the range is not clipped.

    Source: VQGAN quantisation
    """

    def __init__(self, layout: Layout, channels_in: int) -> None:
        super().__init__()
        self.layout = layout
        width = layout.width(layout.levels - 1)
        self.conv_in = nn.Conv2d(channels_in, width, 3, padding=1)
        self.mid = _Middle(width, layout)
        levels = []
        for index in reversed(range(layout.levels)):
            wide = layout.width(index)
            level = _Level(width, wide, layout.blocks_up, attends=layout.attends(index), groups=layout.groups)
            width = wide
            if index > 0 and layout.subpixel:
                width = layout.width(index - 1)
                level.upsample = SubpixelUpsample(wide, width)
            elif index > 0:
                level.upsample = Upsample(wide)
            levels.append(level)
        self.up = nn.ModuleList(reversed(levels))
        self.norm_out = _normalisation(width, layout.groups)
        self.conv_out = nn.Conv2d(width, layout.image_channels * layout.patch**2, 3, padding=1)

    def forward(self, features: Grid) -> Images:
        """Decode features."""
        h = self.mid(self.conv_in(_laid_out(features, self.layout)))
        for level in reversed(self.up):
            h = level(h)
        h = self.conv_out(_silu(self.norm_out(h)))
        return F.pixel_shuffle(h, self.layout.patch)
