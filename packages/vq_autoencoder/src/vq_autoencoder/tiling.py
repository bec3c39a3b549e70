"""Images of any size in bounded memory: encode and decode tile by tile, and blend where tiles overlap."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ._types import Grid, Images, TokenGrid
from .autoencoder import TokenAutoencoder
from .kl_autoencoder import KLAutoencoder
from .layout import Layout
from .posterior import DiagonalGaussian
from .results import Latents, Tokens


@dataclass(frozen=True)
class Tiling:
    """Squares of `tile` positions of the latent grid, each sharing `overlap` of them with its neighbours.

    In the shared part the weight of a tile rises from 0 to 1 over the middle half; the quarter next to its border,
    where it lacks its surroundings, counts for nothing. A network without global layers whose receptive field
    reaches at most `overlap / 4` positions is therefore computed exactly; with normalisation and attention over the
    whole image the result differs, as each tile has moments of its own.

    Raises:
        ValueError: overlap is negative, no multiple of 4, or more than half of the tile.
    """

    tile: int = 64
    overlap: int = 16

    def __post_init__(self) -> None:
        if self.tile < 1 or self.overlap < 0 or self.overlap % 4 or 2 * self.overlap > self.tile:
            raise ValueError(
                "tile must be at least 1 and overlap a multiple of 4 between 0 and tile / 2, "
                f"got tile {self.tile} and overlap {self.overlap}"
            )

    def starts(self, side: int) -> list[int]:
        """First positions of the tiles that cover `side` positions; the last one is moved back to end there."""
        last = max(0, side - self.tile)
        return sorted(
            {min(start, last) for start in range(0, last + self.tile - self.overlap, self.tile - self.overlap)}
        )

    def weights(self, side: int, start: int, *, scale: int = 1) -> Float[Tensor, " s"]:
        """Weights of a tile's `tile * scale` places along one axis, from its start on; 1 at the image's border."""
        length = min(self.tile, side) * scale
        weights = torch.ones(length)
        starts = self.starts(side)
        index = starts.index(start)
        if index > 0:
            shared = (starts[index - 1] + self.tile - start) * scale
            weights[:shared] *= _rise(shared, self.overlap * scale)
        if index + 1 < len(starts):
            shared = (start + self.tile - starts[index + 1]) * scale
            weights[length - shared :] *= 1 - _rise(shared, self.overlap * scale)
        return weights


def _rise(shared: int, overlap: int) -> Float[Tensor, " s"]:
    """0, then a ramp over half of the overlap in the middle of the shared part, then 1."""
    places = torch.arange(shared) + 0.5 - shared / 2
    return (places / max(overlap / 2, 1.0) + 0.5).clamp(0, 1)


def encode_tiled(
    autoencoder: TokenAutoencoder | KLAutoencoder,
    images: Images,
    *,
    tiling: Tiling | None = None,
    sample: bool = True,
    generator: torch.Generator | None = None,
) -> Tokens | Latents:
    """`autoencoder.encode(images)` tile by tile: latents or moments are blended, then quantised or drawn.

    Raises:
        ValueError: wrong channels, or a size that `factor` does not divide.
    """
    tiling, layout = tiling or Tiling(), autoencoder.layout
    layout.check(images)
    if isinstance(autoencoder, TokenAutoencoder):
        tokens = autoencoder
        return tokens.quantise(_encoded(lambda part: tokens.latents(part), images, layout, tiling))
    gaussian = autoencoder
    moments = _encoded(lambda part: _moments(gaussian.posterior(part)), images, layout, tiling)
    posterior = DiagonalGaussian.from_moments(moments)
    return gaussian.standardise(posterior, sample=sample, generator=generator)


def decode_tiled(
    autoencoder: TokenAutoencoder | KLAutoencoder, values: TokenGrid | Grid, *, tiling: Tiling | None = None
) -> Images:
    """`autoencoder.decode(values)` tile by tile, with blended images.

    Raises:
        ValueError: what `decode` refuses.
    """
    tiling, factor = tiling or Tiling(), autoencoder.factor
    h, w = values.shape[-2:]
    blended = _Blended(h * factor, w * factor)
    for top, left in _places(tiling, h, w):
        part = autoencoder.decode(values[..., top : top + tiling.tile, left : left + tiling.tile])
        weight = _weight(tiling, (h, w), (top, left), factor)
        blended.add(part, weight, top * factor, left * factor)
    return blended.total


class _Blended:
    """A sum of weighted tiles whose weights sum to one everywhere."""

    def __init__(self, height: int, width: int) -> None:
        self.shape = (height, width)
        self.total: Tensor = torch.empty(0)

    def add(self, part: Grid, weight: Float[Tensor, "s t"], top: int, left: int) -> None:
        if not self.total.numel():
            self.total = part.new_zeros(*part.shape[:2], *self.shape)
        height, width = part.shape[2:]
        self.total[:, :, top : top + height, left : left + width] += part * weight.to(part)


def _encoded(encode: Callable[[Images], Grid], images: Images, layout: Layout, tiling: Tiling) -> Grid:
    factor = layout.factor
    h, w = (side // factor for side in images.shape[2:])
    blended, side = _Blended(h, w), tiling.tile * factor
    for top, left in _places(tiling, h, w):
        part = encode(images[:, :, top * factor : top * factor + side, left * factor : left * factor + side])
        blended.add(part, _weight(tiling, (h, w), (top, left), 1), top, left)
    return blended.total


def _places(tiling: Tiling, h: int, w: int) -> Iterator[tuple[int, int]]:
    return ((top, left) for top in tiling.starts(h) for left in tiling.starts(w))


def _weight(tiling: Tiling, sides: tuple[int, int], place: tuple[int, int], scale: int) -> Float[Tensor, "s t"]:
    rows, columns = (tiling.weights(side, start, scale=scale) for side, start in zip(sides, place, strict=True))
    return rows[:, None] * columns


def _moments(posterior: DiagonalGaussian) -> Grid:
    return torch.cat([posterior.mean, posterior.log_variance], dim=1)
