"""Drawing by signed distances, with randomness that depends on `(seed, stream, index)` alone.

Geometry is written for a canvas of 32 units and scales with the resolution; edges are anti-aliased by the closed-form
coverage `clip(1/2 - signed distance in pixels, 0, 1)`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

CANVAS = 32.0
CHUNK = 128

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Distance = Callable[[Floats, Floats, Floats], Floats]
"""Signed distance `(x, y, radius) -> distance` to a shape about the origin: negative inside, y downwards."""


class Stream(IntEnum):
    """Independent streams of randomness under one seed: the splits, drawings for a judge and to check it, shuffling."""

    TRAIN = 1
    HELD_OUT = 2
    JUDGE = 3
    CHECK = 4
    ORDER = 5


def _mix(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Take one SplitMix64 step: a bijection of 64 bits."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def uniforms(seed: int, stream: Stream, indices: Integers, count: int) -> Doubles:
    """Draw uniform numbers in [0, 1), `(len(indices), count)`.

    Row `i` is a function of `(seed, stream, indices[i])` alone.
    """
    key = _mix(np.array([seed % 2**64], dtype=np.uint64))
    key = _mix(key ^ np.uint64(stream))
    rows = _mix(key ^ indices.astype(np.uint64))[:, None]
    bits = _mix(rows ^ _mix(np.arange(count, dtype=np.uint64))[None])
    scaled: Doubles = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return scaled


def shuffled(rows: Integers, seed: int) -> Integers:
    """Put `rows` in an order that is a function of `(seed, number of rows)`."""
    keys = uniforms(seed, Stream.ORDER, np.arange(len(rows)), 1)[:, 0]
    return rows[np.argsort(keys, kind="stable")]


SQUARE_HALF_SIDE = 0.86
TRIANGLE_INRADIUS = 0.60
CROSS_HALF_WIDTH = 0.34
RING_MIDDLE, RING_HALF_WIDTH = 0.75, 0.25
DIAMOND_HALF_DIAGONAL = 1.08


def circle(x: Floats, y: Floats, radius: Floats) -> Floats:
    distance: Floats = np.sqrt(x * x + y * y) - radius
    return distance


def square(x: Floats, y: Floats, radius: Floats) -> Floats:
    distance: Floats = np.maximum(np.abs(x), np.abs(y)) - np.float32(SQUARE_HALF_SIDE) * radius
    return distance


def triangle(x: Floats, y: Floats, radius: Floats) -> Floats:
    """Equilateral, point up, its bounding box centred: the greatest of the distances to its three sides."""
    inradius = np.float32(TRIANGLE_INRADIUS) * radius
    below = y - inradius / 2
    distance: Floats = np.maximum(below, np.float32(math.sqrt(0.75)) * np.abs(x) - below / 2) - inradius
    return distance


def cross(x: Floats, y: Floats, radius: Floats) -> Floats:
    across, down, half_width = np.abs(x), np.abs(y), np.float32(CROSS_HALF_WIDTH) * radius
    distance: Floats = np.maximum(np.maximum(across, down) - radius, np.minimum(across, down) - half_width)
    return distance


def ring(x: Floats, y: Floats, radius: Floats) -> Floats:
    from_middle = np.sqrt(x * x + y * y) - np.float32(RING_MIDDLE) * radius
    distance: Floats = np.abs(from_middle) - np.float32(RING_HALF_WIDTH) * radius
    return distance


def diamond(x: Floats, y: Floats, radius: Floats) -> Floats:
    across_side: Floats = np.abs(x) + np.abs(y) - np.float32(DIAMOND_HALF_DIAGONAL) * radius
    return across_side * np.float32(math.sqrt(0.5))


@dataclass(frozen=True)
class Layer:
    """One shape on each of `n` drawings.

    Its index (-1: none) `(n,)`, colour `(n, 3)` in [0, 1], centre and radius in canvas units `(n,)`.
    """

    shape: Integers
    rgb: Floats
    x: Floats
    y: Floats
    radius: Floats


@dataclass(frozen=True)
class Ground:
    """A linear gradient: colour in the middle `(n, 3)`, and its rise per canvas unit across and down `(n,)`."""

    rgb: Floats
    across: Floats
    down: Floats


def draw(ground: Ground, layers: tuple[Layer, ...], distances: tuple[Distance, ...], resolution: int) -> Bytes:
    """Draw `layers` in turn over `ground`: pictures `(n, 3, resolution, resolution)`, uint8."""
    pictures = np.empty((len(ground.rgb), 3, resolution, resolution), dtype=np.uint8)
    for start in range(0, len(pictures), CHUNK):
        rows = slice(start, start + CHUNK)
        canvas = _paint_ground(ground, rows, resolution)
        for layer in layers:
            _paint(canvas, layer, rows, distances)
        pictures[rows] = (canvas * 255 + 0.5).astype(np.uint8)
    return pictures


def _axis(resolution: int) -> Floats:
    """Pixel centres in canvas units."""
    return ((np.arange(resolution) + 0.5) * (CANVAS / resolution)).astype(np.float32)


def _paint_ground(ground: Ground, rows: slice, resolution: int) -> Floats:
    from_middle = _axis(resolution) - np.float32(CANVAS / 2)
    rise = ground.across[rows, None, None] * from_middle + ground.down[rows, None, None] * from_middle[:, None]
    canvas: Floats = np.clip(ground.rgb[rows, :, None, None] + rise[:, None], 0.0, 1.0)
    return canvas


def _paint(canvas: Floats, layer: Layer, rows: slice, distances: tuple[Distance, ...]) -> None:
    """Blend one layer into `canvas` in place, all drawings of one shape at a time."""
    axis = _axis(canvas.shape[-1])
    pixels_per_unit = np.float32(canvas.shape[-1] / CANVAS)
    for index, distance in enumerate(distances):
        which = np.flatnonzero(layer.shape[rows] == index)
        x = axis - layer.x[rows][which, None, None]
        y = axis[:, None] - layer.y[rows][which, None, None]
        coverage = np.clip(0.5 - distance(x, y, layer.radius[rows][which, None, None]) * pixels_per_unit, 0.0, 1.0)
        behind = canvas[which]
        canvas[which] = behind + (layer.rgb[rows][which, :, None, None] - behind) * coverage[:, None]
