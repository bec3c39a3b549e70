"""The six kinds of inpainting masks of RePaint, from a seed, at any size: True = fill in, False = keep."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from ._types import Masks
from .strokes import Canvas, Rectangle, Stroke

FRAME = 256
_TRIES = 1000


@runtime_checkable
class MaskKind(Protocol):
    """A named way to draw masks: each is made of its own source of random numbers and nothing else."""

    @property
    def name(self) -> str:
        """Its name in tables."""

    def draw(self, height: int, width: int, random: np.random.RandomState) -> Canvas:
        """One mask `(height, width)`, True where pixels are to be filled in."""


@dataclass(frozen=True)
class StrokeDraws:
    """Ranges of LaMa's random strokes; lower ends are in, upper ends are not, as in `numpy.random.randint`."""

    strokes: tuple[int, int]
    length: tuple[int, int]
    width: tuple[int, int]
    segments: tuple[int, int] = (1, 6)
    angles: int = 4


@dataclass(frozen=True)
class BoxDraws:
    """Ranges of LaMa's random boxes, likewise, and the share of masks that are made of boxes instead of strokes."""

    boxes: tuple[int, int]
    side: tuple[int, int]
    margin: int
    share: float


@dataclass(frozen=True)
class LaMa:
    """LaMa's generator: polygonal strokes or boxes, the first of several candidates that hides little enough.

    Lengths are those of 256 x 256 pictures. Other sizes show the same drawing, scaled so that the shorter side is 256.

    Source: RePaint wide and narrow masks
    Deviation: LaMa draws five candidates, drops those that hide more than half and picks one of the rest, or leaves
        the image out where none is left; here candidates are drawn until one fits. Its distribution is the same
        [largest_share].
    Deviation: LaMa seeds one generator for all images; here each mask has its own, so that it depends on no other
        [fixed].
    Unstated: sizes other than 256; the same drawing, scaled by the shorter side [strokes, boxes].
    """

    name: str
    strokes: StrokeDraws
    boxes: BoxDraws | None = None
    largest_share: float = 0.5

    def draw(self, height: int, width: int, random: np.random.RandomState) -> Canvas:
        """One mask `(height, width)` of at most the largest share; ValueError where none comes out in 1000 tries."""
        for _ in range(_TRIES):
            mask = self.candidate(height, width, random)
            if mask.mean() <= self.largest_share:
                return mask
        raise ValueError(f"{self.name}: no mask of {height} x {width} hides at most {self.largest_share:.0%}")

    def candidate(self, height: int, width: int, random: np.random.RandomState) -> Canvas:
        """One mask `(height, width)` as drawn, however much it hides."""
        scale = min(height, width) / FRAME
        rows, columns = round(height / scale), round(width / scale)
        boxed = self.boxes is not None and random.random_sample() < self.boxes.share
        shapes = self._rectangles(rows, columns, random) if boxed else self._polygons(rows, columns, random)
        canvas = np.zeros((height, width), dtype=np.bool_)
        for shape in shapes:
            shape.fill(canvas, scale)
        return canvas

    def _polygons(self, rows: int, columns: int, random: np.random.RandomState) -> list[Stroke | Rectangle]:
        ranges, found = self.strokes, list[Stroke | Rectangle]()
        for i in range(random.randint(*ranges.strokes)):
            x, y = random.randint(columns), random.randint(rows)
            for _ in range(random.randint(*ranges.segments)):
                angle = 0.01 + random.randint(ranges.angles)
                if i % 2 == 0:
                    angle = 2 * math.pi - angle
                length, width = random.randint(*ranges.length), random.randint(*ranges.width)
                end_x = min(max(int(x + length * math.sin(angle)), 0), columns)
                end_y = min(max(int(y + length * math.cos(angle)), 0), rows)
                found.append(Stroke(x, y, end_x, end_y, width))
                x, y = end_x, end_y
        return found

    def _rectangles(self, rows: int, columns: int, random: np.random.RandomState) -> list[Stroke | Rectangle]:
        assert self.boxes is not None
        margin, (shortest, longest) = self.boxes.margin, self.boxes.side
        found = list[Stroke | Rectangle]()
        for _ in range(random.randint(*self.boxes.boxes)):
            width, height = random.randint(shortest, longest), random.randint(shortest, longest)
            left = random.randint(margin, columns - margin - width + 1)
            top = random.randint(margin, rows - margin - height + 1)
            found.append(Rectangle(left, top, left + width, top + height))
        return found


@dataclass(frozen=True)
class SuperResolve:
    """Pixels in odd rows and odd columns, counted from 0, are kept: a quarter.

    Source: RePaint super-resolve mask
    """

    name: str = "super-resolve 2x"

    def draw(self, height: int, width: int, random: np.random.RandomState) -> Canvas:
        """The mask `(height, width)`; it is not random."""
        mask = np.ones((height, width), dtype=np.bool_)
        mask[1::2, 1::2] = False
        return mask


@dataclass(frozen=True)
class AlternatingLines:
    """Every second row is kept, the odd ones counted from 0.

    Source: RePaint alternating lines mask
    Unstated: which rows; odd ones, as in the super-resolve mask [fixed].
    """

    name: str = "alternating lines"

    def draw(self, height: int, width: int, random: np.random.RandomState) -> Canvas:
        """The mask `(height, width)`; it is not random."""
        mask = np.ones((height, width), dtype=np.bool_)
        mask[1::2] = False
        return mask


@dataclass(frozen=True)
class Half:
    """The left half is kept; the right one, with the middle column of an odd width, is filled in.

    Source: RePaint half mask
    """

    name: str = "half"

    def draw(self, height: int, width: int, random: np.random.RandomState) -> Canvas:
        """The mask `(height, width)`; it is not random."""
        mask = np.ones((height, width), dtype=np.bool_)
        mask[:, : width // 2] = False
        return mask


@dataclass(frozen=True)
class Expand:
    """The central quarter of either side is kept, 64 x 64 of 256 x 256; all around it is filled in.

    Source: RePaint expand mask
    """

    name: str = "expand"

    def draw(self, height: int, width: int, random: np.random.RandomState) -> Canvas:
        """The mask `(height, width)`; it is not random."""
        mask = np.ones((height, width), dtype=np.bool_)
        tall, wide = height // 4, width // 4
        top, left = (height - tall) // 2, (width - wide) // 2
        mask[top : top + tall, left : left + wide] = False
        return mask


WIDE = LaMa(
    "wide",
    StrokeDraws(strokes=(1, 7), length=(10, 210), width=(5, 105)),
    BoxDraws(boxes=(1, 4), side=(30, 151), margin=10, share=0.3 / 1.3),
)
NARROW = LaMa("narrow", StrokeDraws(strokes=(4, 52), length=(10, 50), width=(5, 15)))
SUPER_RESOLVE, ALTERNATING_LINES, HALF, EXPAND = SuperResolve(), AlternatingLines(), Half(), Expand()
REPAINT_MASKS: tuple[MaskKind, ...] = (WIDE, NARROW, SUPER_RESOLVE, ALTERNATING_LINES, HALF, EXPAND)


def draw_masks(kind: MaskKind, count: int, height: int, width: int, *, seed: int = 0, first: int = 0) -> Masks:
    """Masks `first` to `first + count - 1` of a kind and seed: bool `(count, 1, height, width)`, True = fill in.

    Mask i depends on `seed` and i alone, on any machine: numbers come from NumPy's frozen `RandomState`. Raises
    ValueError for sides below 4 pixels, and for negative or too large seeds.
    """
    if min(height, width) < 4 or count < 0 or first < 0:
        raise ValueError(f"masks: sides of at least 4 pixels are wanted, got {count} masks of {height} x {width}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"masks: a seed is a whole number from 0 to 2**32 - 1, got {seed}")
    drawn = torch.zeros(count, 1, height, width, dtype=torch.bool)
    for i in range(count):
        random = np.random.RandomState([seed, first + i])
        drawn[i, 0] = torch.from_numpy(kind.draw(height, width, random))
    return drawn


def masks_sha256(masks: Masks) -> str:
    """The sha256 of the shape and the pixels of masks, eight to a byte."""
    packed = np.packbits(masks.cpu().numpy())
    return hashlib.sha256(f"{tuple(masks.shape)}\n".encode() + packed.tobytes()).hexdigest()
