"""Whether samples were learnt by heart: beside each, the training picture that it is nearest to."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from reproductions.reporting import grids
from reproductions.reporting.findings import Illustration

SIDE = 32
AT_ONCE = 1000
COMPARED, TRAINING, SHOWN = 64, 20_000, 10
HELD_OUT = "held-out pictures"
TITLE = "Nearest training pictures"


@dataclass(frozen=True)
class Nearest:
    """The nearest training picture of each picture: `index (b,)`, and `distance (b,)` in levels of 0 to 255."""

    index: Tensor
    distance: Tensor

    @property
    def median(self) -> float:
        """The median distance."""
        return float(self.distance.median())


def nearest(images: Tensor, training: Tensor) -> Nearest:
    """The nearest of `training (m, 3, H, W)` to each of `images (b, 3, H, W)`, both uint8.

    Distance: root of the mean squared difference of pixels, of pictures averaged down to 32 pixels a side.

    Raises:
        ValueError: for no training pictures.
    """
    if len(training) == 0:
        raise ValueError("nearest: `training` is empty; give the pictures that the model learned from")
    ours = _small(images)
    best = torch.full((len(images),), torch.inf, dtype=torch.float64)
    index = torch.zeros(len(images), dtype=torch.long)
    for start in range(0, len(training), AT_ONCE):
        distance, where = torch.cdist(ours, _small(training[start : start + AT_ONCE])).min(dim=1)
        index = torch.where(distance < best, start + where, index)
        best = torch.minimum(distance, best)
    return Nearest(index, best / ours.shape[1] ** 0.5)


def _small(images: Tensor) -> Tensor:
    pixels = images.double()
    if max(images.shape[2:]) > SIDE:
        pixels = F.adaptive_avg_pool2d(pixels, SIDE)
    return pixels.flatten(1)


def illustration(
    name: str, title: str, training: Tensor, held_out: Tensor, samples: Mapping[str, Tensor]
) -> Illustration:
    """The first samples of each model above their nearest training pictures, and the distances in words."""
    training = training[:TRAINING]
    makers = {HELD_OUT: held_out, **samples}
    shown = min(SHOWN, *map(len, makers.values()))
    rows: dict[str, Tensor] = {}
    said: list[str] = []
    for maker, images in makers.items():
        found = nearest(images[:COMPARED], training)
        rows[maker] = images[:shown]
        rows[f"nearest to {maker}"] = training[found.index[:shown]]
        said.append(f"{maker} {found.median:.1f}")
    words = (
        f"Each row above its nearest training pictures. Median distance to the nearest of {len(training):,} training "
        f"pictures, in levels of 0 to 255: {'; '.join(said)}. Samples much nearer than held-out pictures were learnt "
        "by heart."
    )
    return Illustration(name, title, words, grids.png(grids.labelled_rows(rows)))
