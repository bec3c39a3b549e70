"""Boxes as tokens, as LDM's layout models read them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

Corners = tuple[float, float, float, float]
WHOLE: Corners = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Box:
    """An object: its category, its left, top, width and height as fractions of the image; `group`: several as one."""

    category: int
    left: float
    top: float
    width: float
    height: float
    group: bool = False

    @property
    def corners(self) -> Corners:
        """Left, top, right, bottom."""
        return (self.left, self.top, self.left + self.width, self.top + self.height)


@dataclass(frozen=True, kw_only=True)
class LayoutTokens:
    """Three tokens an object: its category, its upper left and its lower right corner, on a square lattice.

    `vocabulary` K: the lattice has floor(sqrt(K)) points a side; token K - 1 means no object. `objects`: as many
    triples, filled up with it. `with_crop`: two tokens more for the corners of the part of the image that is shown;
    without them, boxes are given in that part.

    Source: LDM conditioning mechanisms
    Deviation: objects keep the order they are given in (the released code shuffles them), and one too many is an
    error (there it is dropped with a warning) [fixed].
    """

    categories: int
    vocabulary: int = 8192
    objects: int = 30
    with_crop: bool = True

    def __post_init__(self) -> None:
        if 2 * self.categories > self.vocabulary - 1 or self.side < 2:
            raise ValueError(
                f"vocabulary: {self.vocabulary} tokens are too few for {self.categories} categories and their groups"
            )

    @property
    def length(self) -> int:
        """Number of tokens of a layout."""
        return 3 * self.objects + 2 * self.with_crop

    @property
    def side(self) -> int:
        """Points of the lattice along each side."""
        return math.isqrt(self.vocabulary)

    @property
    def nothing(self) -> int:
        """The token of no object."""
        return self.vocabulary - 1

    def __call__(self, boxes: Sequence[Box], *, crop: Box | None = None) -> Int64[Tensor, "l"]:
        """The tokens of a layout, (length,); boxes that `crop` (its category is not read) does not meet are left out.

        Raises ValueError for too many boxes, an unknown category, and corners outside the image.
        """
        shown = WHOLE if crop is None else crop.corners
        met = [box for box in boxes if _overlap(box.corners, shown)]
        if len(met) > self.objects:
            raise ValueError(f"boxes: {len(met)} of them, a layout has room for objects={self.objects}")
        frame = WHOLE if self.with_crop else shown
        tokens = [token for box in met for token in (self._category(box), *self._pair(_within(box.corners, frame)))]
        tokens += [self.nothing] * (3 * (self.objects - len(met)))
        return torch.tensor(tokens + (list(self._pair(shown)) if self.with_crop else []))

    def boxes(self, tokens: Int64[Tensor, "l"]) -> list[Box]:
        """The boxes of a layout, their corners on the lattice."""
        found = []
        for category, first, last in tokens[: 3 * self.objects].view(-1, 3).tolist():
            if category != self.nothing:
                (left, top), (right, bottom) = self._point(first), self._point(last)
                group, category = divmod(category, self.categories)
                found.append(Box(category, left, top, right - left, bottom - top, bool(group)))
        return found

    def _category(self, box: Box) -> int:
        if not 0 <= box.category < self.categories:
            raise ValueError(f"boxes: category {box.category}, expected 0..{self.categories - 1}")
        return box.category + self.categories * box.group

    def _pair(self, corners: Corners) -> tuple[int, int]:
        if not all(0 <= corner <= 1 for corner in corners):
            raise ValueError(f"boxes: corners {corners} are not fractions of the image, 0..1")
        x0, y0, x1, y1 = (round(corner * (self.side - 1)) for corner in corners)
        return y0 * self.side + x0, y1 * self.side + x1

    def _point(self, token: int) -> tuple[float, float]:
        row, column = divmod(token, self.side)
        return column / (self.side - 1), row / (self.side - 1)


def _overlap(one: Corners, other: Corners) -> bool:
    return min(one[2], other[2]) > max(one[0], other[0]) and min(one[3], other[3]) > max(one[1], other[1])


def _within(corners: Corners, frame: Corners) -> Corners:
    """Corners as fractions of the frame, cut at its edges."""
    (x0, y0, x1, y1), (left, top, right, bottom) = corners, frame
    horizontal = ((x - left) / (right - left) for x in (x0, x1))
    vertical = ((y - top) / (bottom - top) for y in (y0, y1))
    (x0, x1), (y0, y1) = ((min(max(value, 0.0), 1.0) for value in pair) for pair in (horizontal, vertical))
    return x0, y0, x1, y1
