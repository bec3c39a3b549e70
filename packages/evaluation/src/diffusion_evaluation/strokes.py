"""Thick line segments and boxes drawn into boolean pictures, without an image library."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Canvas = npt.NDArray[np.bool_]

_ROUND = 0.3


@dataclass(frozen=True)
class Stroke:
    """A segment from (x, y) to (x, y) with round ends, `width` pixels wide; an odd width is the next even, as in cv2.

    Deviation: cv2 fills polygons between rounded corners; here a pixel is filled when its centre is at most
        ceil(width / 2) + 0.3 from the segment. Of the pixels of LaMa's wide strokes 1.1 % differ and of narrow ones
        5.7 %, along the edges; their number agrees to 0.5 % [fixed].
    """

    x: float | int
    y: float | int
    end_x: float | int
    end_y: float | int
    width: float | int

    def fill(self, canvas: Canvas, scale: float | int) -> None:
        """Set the pixels of this stroke; pixel (i, j) of the canvas has its centre at ((j, i) + 0.5) / scale - 0.5."""
        radius = math.ceil(self.width / 2) + _ROUND
        rows = _reach(self.y, self.end_y, radius, scale, canvas.shape[0])
        columns = _reach(self.x, self.end_x, radius, scale, canvas.shape[1])
        y = ((np.arange(rows.start, rows.stop) + 0.5) / scale - 0.5 - self.y)[:, None]
        x = ((np.arange(columns.start, columns.stop) + 0.5) / scale - 0.5 - self.x)[None, :]
        across, down = self.end_x - self.x, self.end_y - self.y
        squared = across * across + down * down
        along = ((x * across + y * down) / squared).clip(0, 1) if squared else np.zeros((1, 1))
        canvas[rows, columns] |= np.square(x - along * across) + np.square(y - along * down) <= radius * radius


@dataclass(frozen=True)
class Rectangle:
    """A box of whole pixels: `left` and `top` are in it, `right` and `bottom` are not."""

    left: int
    top: int
    right: int
    bottom: int

    def fill(self, canvas: Canvas, scale: float | int) -> None:
        """Set the pixels of this box; it is scaled about the corner of the canvas."""
        top, bottom, left, right = (round(side * scale) for side in (self.top, self.bottom, self.left, self.right))
        canvas[top:bottom, left:right] = True


def _reach(start: float | int, end: float | int, radius: float, scale: float | int, size: int) -> slice:
    first = math.floor((min(start, end) - radius + 0.5) * scale - 0.5)
    last = math.ceil((max(start, end) + radius + 0.5) * scale - 0.5)
    return slice(min(max(0, first), size), max(0, min(size, last + 1)))
