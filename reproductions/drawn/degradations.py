"""Five ways to make pictures worse, at five strengths each, from mild to strong."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

Pixels = npt.NDArray[np.uint8]
Degrade = Callable[[Pixels, float, np.random.RandomState], Pixels]


@dataclass(frozen=True)
class Degradation:
    """A way to change one picture, its strengths, and the unit that they are in."""

    name: str
    unit: str
    strengths: tuple[float, ...]
    apply: Degrade


def blurred(pixels: Pixels, sigma: float, random: np.random.RandomState) -> Pixels:
    """Gaussian blur (Pillow's, by boxes) of a standard deviation in pixels."""
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(sigma)))


def noisy(pixels: Pixels, deviation: float, random: np.random.RandomState) -> Pixels:
    """White Gaussian noise of a standard deviation in levels of 255."""
    return (pixels + deviation * random.standard_normal(pixels.shape)).round().clip(0, 255).astype(np.uint8)


def compressed(pixels: Pixels, coarseness: float, random: np.random.RandomState) -> Pixels:
    """JPEG of quality 100 - coarseness, with halved chroma."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=round(100 - coarseness), subsampling="4:2:0")
    with Image.open(stream) as image:
        return np.asarray(image.convert("RGB"))


def shifted(pixels: Pixels, levels: float, random: np.random.RandomState) -> Pixels:
    """Red raised and blue lowered by a number of levels of 255."""
    offset = np.array([levels, 0, -levels])
    return (pixels + offset).round().clip(0, 255).astype(np.uint8)


PER_PICTURE = (
    Degradation("blur", "standard deviation, pixels", (0.4, 0.6, 0.8, 1.1, 1.5), blurred),
    Degradation("noise", "standard deviation, of 255", (3, 6, 12, 24, 48), noisy),
    Degradation("JPEG", "100 - quality", (40, 60, 75, 85, 93), compressed),
    Degradation("colour shift", "red up and blue down, of 255", (6, 12, 24, 40, 60), shifted),
)
DROPPING = "mode dropping"
DROPPED: tuple[int, ...] = (1, 2, 3, 4, 5)


def keeping(labels: npt.NDArray[np.int64], dropped: int, count: int, order: npt.NDArray[np.int64]) -> list[int]:
    """The first `count` places of `order` whose labels are not among the first `dropped` classes.

    Raises ValueError where there are fewer.
    """
    gone = set(sorted(set(labels.tolist()))[:dropped])
    kept = [place for place in order.tolist() if int(labels[place]) not in gone]
    if len(kept) < count:
        raise ValueError(f"without {dropped} of the classes {len(kept):,} pictures are left, not {count:,}")
    return sorted(kept[:count])


def ranks_as_it_should(values: list[float], *, rising: bool) -> bool:
    """Whether each value lies beyond the one before it, the first being that of the untouched pictures."""
    steps = zip(values, values[1:], strict=False)
    return all(after > before if rising else after < before for before, after in steps)


RISING: Mapping[str, bool] = {"FID": True, "KID": True, "precision": False, "recall": False}
"""Whether a score of this name should rise as pictures get worse."""

UNMOVED = frozenset({("precision", DROPPING)})
"""Scores that a corruption should leave alone: pictures of fewer kinds are as good as they were."""
