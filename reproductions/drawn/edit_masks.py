"""Masks of edits, as the six kinds of RePaint are made: True = draw again, False = keep."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Canvas = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class UpperHalf:
    """The upper half is drawn again: what a model that writes from the top left can not see is all that is kept."""

    name: str = "upper half"

    def draw(self, height: int, width: int, random: np.random.RandomState) -> Canvas:
        """The mask `(height, width)`; it is not random."""
        mask = np.zeros((height, width), dtype=np.bool_)
        mask[: height // 2] = True
        return mask


@dataclass(frozen=True)
class Window:
    """The central half of either side is drawn again."""

    name: str = "window"

    def draw(self, height: int, width: int, random: np.random.RandomState) -> Canvas:
        """The mask `(height, width)`; it is not random."""
        mask = np.zeros((height, width), dtype=np.bool_)
        mask[height // 4 : height - height // 4, width // 4 : width - width // 4] = True
        return mask
