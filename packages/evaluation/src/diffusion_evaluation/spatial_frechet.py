"""The spatial Frechet distance (sFID): the distance between feature maps rather than between their means."""

from __future__ import annotations

from dataclasses import replace

from ._types import FakeMaps, Features, Maps, RealMaps
from .arrays import feature_rows
from .features import UNNAMED, Space
from .frechet import frechet_distance
from .score import Score

PUBLISHED_CHANNELS = 7


def spatial_frechet_distance(
    real: RealMaps, fake: FakeMaps, *, channels: int = PUBLISHED_CHANNELS, space: Space = UNNAMED
) -> Score:
    r"""The squared Frechet distance between Gaussians over whole feature maps: `sFID[<space>]`.

    `real` `(n, c, h, w)` and `fake` `(m, c, h, w)` are maps of a layer that still knows where things are; the first
    `channels` of them are laid out as rows of `channels * h * w` numbers. Published numbers take the first 7 channels
    of Inception's `mixed_6` convolution, 17 x 17 each: 2023 numbers. ValueError when there are fewer channels.

    For statistics that grow by batches, give `spatial_rows` to an `Accumulator` and its statistics to
    `frechet_distance`.

    Source: Spatial features definition
    """
    score = frechet_distance(spatial_rows(real, channels=channels), spatial_rows(fake, channels=channels), space=space)
    return replace(score, name=f"sFID[{space.name}]")


def spatial_rows(maps: Maps, *, channels: int = PUBLISHED_CHANNELS) -> Features:
    """The first `channels` of feature maps `(n, c, h, w)`, as rows `(n, channels * h * w)`.

    Source: Spatial features definition
    """
    if not 1 <= channels <= maps.shape[1]:
        raise ValueError(f"channels must be between 1 and the {maps.shape[1]} of the feature maps, got {channels}")
    return feature_rows(maps[:, :channels].reshape(len(maps), -1), "maps")
