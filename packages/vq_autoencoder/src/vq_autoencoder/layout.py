"""What an encoder and its decoder agree on."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

TOLERATED = 1e-2


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Shape of an encoder and its decoder.

    `channels * multipliers[i]` channels at level `i`; every level but the last halves the grid, so the networks change
    the side of an image by `factor = patch * 2 ** (len(multipliers) - 1)`. The encoder has `residual_blocks` blocks a
    level, the decoder `decoder_blocks` (None: one more than the encoder). Attention follows each block of the levels
    whose grid, for an image of side `resolution`, has its side in `attention_resolutions`; images may have any size
    that `factor` divides. `mid_blocks` residual blocks stand at the bottom, with attention after the first one where
    `mid_attention`. `groups` is the largest number of groups in a group normalisation.

    Two settings are for small machines. With `patch > 1` the first convolution strides by `patch` and a pixel shuffle
    follows the last one, so nothing is computed at full resolution. With `subpixel` the decoder doubles the grid by a
    convolution to the next level's channels and a pixel shuffle, in place of nearest neighbour and a convolution.

    Raises:
        ValueError: a count is not positive, or an attention resolution is met at no level.

    Deviation: the papers' networks have patch 1, 32 groups, no subpixel and one more block in the decoder,
        which are the defaults; other values are ours [patch, subpixel, decoder_blocks, groups].
    """

    image_channels: int = 3
    channels: int = 128
    multipliers: Sequence[int] = (1, 2, 4)
    residual_blocks: int = 2
    decoder_blocks: int | None = None
    attention_resolutions: Sequence[int] = ()
    resolution: int = 256
    mid_blocks: int = 2
    mid_attention: bool = True
    patch: int = 1
    subpixel: bool = False
    groups: int = 32

    def __post_init__(self) -> None:
        for name in ("image_channels", "channels", "residual_blocks", "patch", "groups"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not self.multipliers or min(self.multipliers) < 1:
            raise ValueError(f"multipliers must be positive and at least one, got {tuple(self.multipliers)}")
        if self.mid_blocks < 0 or self.blocks_up < 1:
            raise ValueError(
                f"mid_blocks, decoder_blocks must be at least 0, 1, got {self.mid_blocks}, {self.blocks_up}"
            )
        sides = [self.side(level) for level in range(self.levels)]
        if unmet := [side for side in self.attention_resolutions if side not in sides]:
            raise ValueError(f"attention_resolutions {unmet} are met at no level; the levels have sides {sides}")

    @property
    def levels(self) -> int:
        """Number of resolutions."""
        return len(self.multipliers)

    @property
    def blocks_up(self) -> int:
        """Residual blocks per level of the decoder."""
        return self.residual_blocks + 1 if self.decoder_blocks is None else self.decoder_blocks

    @property
    def factor(self) -> int:
        """Side of an image over the side of its latent grid."""
        return int(self.patch * 2 ** (self.levels - 1))

    def side(self, level: int) -> int:
        """Side of the grid at `level` for an image of side `resolution`."""
        return int(self.resolution // (self.patch * 2**level))

    def width(self, level: int) -> int:
        """Channels at `level`."""
        return self.channels * self.multipliers[level]

    def attends(self, level: int) -> bool:
        """Whether attention follows the residual blocks of `level`."""
        return self.side(level) in self.attention_resolutions

    def check(self, images: Tensor) -> None:
        """Refuse images that the networks cannot take.

        Raises:
            ValueError: wrong rank or channels, or a side that `factor` does not divide; sides that it does are named.
        """
        if images.ndim != 4 or images.shape[1] != self.image_channels:
            raise ValueError(f"images must have shape (b, {self.image_channels}, H, W), got {tuple(images.shape)}")
        for name, side in zip(("height", "width"), images.shape[2:], strict=True):
            if side % self.factor or side == 0:
                below = side // self.factor * self.factor
                choices = " or ".join(str(s) for s in (below, below + self.factor) if s)
                raise ValueError(
                    f"images: {name} {side} is no multiple of the factor {self.factor}; resize to {choices}"
                )


def warn_of_range(images: Tensor) -> bool:
    """Warn where images leave [-1, 1]; whether it did."""
    if images.is_meta or not images.numel():
        return False
    low, high = (float(bound) for bound in images.detach().aminmax())
    if low >= -1 - TOLERATED and high <= 1 + TOLERATED:
        return False
    warnings.warn(
        f"images lie in [{low:.4g}, {high:.4g}] and should in [-1, 1]: from uint8, images.float() / 127.5 - 1",
        stacklevel=2,
    )
    return True
