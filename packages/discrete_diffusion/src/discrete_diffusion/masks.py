"""Which tokens are kept and which are drawn. In masks, 1 is to be filled in and 0 is kept."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from discrete_diffusion._types import PixelMask, TokenMask, Tokens


@dataclass(frozen=True)
class Kept:
    """Tokens that stay what they are while the others are drawn.

    Attributes:
        tokens: (b, n); those to be filled in are not read.
        fill: (b, n), 1 or true where tokens are to be filled in, of any type.

    Raises:
        ValueError: if the two differ in shape, or `fill` holds other values than 0 and 1.
    """

    tokens: Tokens
    fill: Tensor

    def __post_init__(self) -> None:
        if self.fill.shape != self.tokens.shape:
            raise ValueError(f"fill: shape {tuple(self.fill.shape)} is not that of tokens, {tuple(self.tokens.shape)}")
        _only_zeros_and_ones("fill", self.fill)

    def check(self, shape: tuple[int, int], codes: int) -> None:
        """Whether it goes with samples of this shape over `codes` codes.

        Raises:
            ValueError: if the shape is another, or a kept token is no code.
        """
        if tuple(self.tokens.shape) != tuple(shape):
            raise ValueError(f"kept: tokens of shape {tuple(self.tokens.shape)} do not fit shape {tuple(shape)}")
        kept = self.tokens[self.fill == 0]
        if bool(((kept < 0) | (kept >= codes)).any()):
            raise ValueError(f"kept: tokens must be in 0..{codes - 1}, got {kept.min().item()}..{kept.max().item()}")

    def impose(self, x: Tokens) -> Tokens:
        """x, with the kept tokens put back."""
        return torch.where(self.fill == 1, x, self.tokens)


def token_mask(pixels: PixelMask, grid: Sequence[int]) -> TokenMask:
    """Tokens (b, h w) to be filled in: those with any such pixel in their patch.

    Args:
        pixels: (b, 1, H, W), zeros (keep) and ones (fill in), of any type.
        grid: (h, w), which divide H and W.

    Raises:
        ValueError: if the sizes do not divide, or there are other values than 0 and 1.

    A decoder looks beyond its patch, so that pixels beside a filled patch may change as well; paste the kept pixels
    back where that matters.

    Unstated: how a mask of pixels becomes one of tokens; one pixel to be filled in fills its token [fixed].
    """
    h, w = grid
    if pixels.ndim != 4 or pixels.shape[1] != 1 or pixels.shape[2] % h or pixels.shape[3] % w:
        raise ValueError(f"pixels: expected (b, 1, H, W), multiples of the grid {h} x {w}; got {tuple(pixels.shape)}")
    _only_zeros_and_ones("pixels", pixels)
    b, _, H, W = pixels.shape
    patches = (pixels == 1).reshape(b, h, H // h, w, W // w)
    return patches.any(4).any(2).flatten(1)


def _only_zeros_and_ones(name: str, mask: Tensor) -> None:
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError(f"{name}: a mask holds 0 (keep) and 1 (fill in) and nothing else; threshold it first")
