"""Drawn data sets: coloured shapes in relation, with captions that say so and attributes to check against.

`SHAPES` is the easy set (6 colours, 4 shapes, tidy places), `SHAPES_HARD` the hard one (9 colours, 6 shapes, four
relations, free places, tinted grounds, and pairs of colour and shape that training never sees). Drawing `i` is a
function of `(seed, stream, i)` alone.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from reproductions.drawn.drawing import (
    CANVAS,
    Doubles,
    Floats,
    Ground,
    Integers,
    Layer,
    Stream,
    circle,
    cross,
    diamond,
    draw,
    ring,
    shuffled,
    square,
    triangle,
    uniforms,
)
from reproductions.drawn.vocabulary import Colour, Relation, Shape, Size, Vocabulary, as_attributes

GENERATOR_VERSION = "1"


@dataclass(frozen=True)
class Drawings:
    images: UInt8[Tensor, "n 3 s s"]
    captions: tuple[str, ...]
    attributes: Int64[Tensor, "n 5"]


Place = Callable[[Vocabulary, Integers, Doubles], tuple[Floats, Floats, Floats]]
"""`(vocabulary, attributes (n, 5), uniforms (n, 6)) -> x, y, radius`, each `(n, 2)` in canvas units.

One column per shape.
"""


@dataclass(frozen=True)
class DrawnSet:
    """A drawn data set: a vocabulary, a way of placing shapes, and the captions that training never sees.

    `unseen(vocabulary, seed)` marks them among `vocabulary.one_shape` followed by `vocabulary.two_shape`. Grounds are
    grey with a weak gradient, plus `tint` at most in each channel. A judge looks at `effort` times as many drawings as
    on the easy set before it can read this one.
    """

    name: str
    vocabulary: Vocabulary
    place: Place
    unseen: Callable[[Vocabulary, int], npt.NDArray[np.bool_]]
    unseen_note: str
    tint: float
    effort: int

    def split(self, stream: Stream, count: int, *, seed: int, resolution: int) -> Drawings:
        """Draw a split: even drawings have one shape, odd ones two; captions come round in a shuffled order.

        The training split goes round the captions that are seen, the held-out split round all one-shape captions and
        the unseen two-shape ones, the drawings for a judge round all captions: it must read what no model has seen.
        """
        one, two = self.captions(stream, seed=seed)
        turns = np.arange(count) // 2
        odd = (np.arange(count) % 2 == 1)[:, None]
        attributes = np.where(odd, two[turns % len(two)], one[turns % len(one)])
        return self.draw(attributes, stream=stream, seed=seed, resolution=resolution)

    def captions(self, stream: Stream, *, seed: int) -> tuple[Integers, Integers]:
        """Attributes of the one-shape and of the two-shape captions of a split, in shuffled order."""
        one, two = self.vocabulary.one_shape, self.vocabulary.two_shape
        unseen = self.unseen(self.vocabulary, seed)
        unseen_one, unseen_two = unseen[: len(one)], unseen[len(one) :]
        if stream is Stream.HELD_OUT:
            return shuffled(one, seed), shuffled(two[unseen_two], seed)
        if stream is Stream.TRAIN:
            return shuffled(one[~unseen_one], seed), shuffled(two[~unseen_two], seed)
        return shuffled(one, seed), shuffled(two, seed)

    def draw(self, attributes: Integers, *, stream: Stream, seed: int, resolution: int) -> Drawings:
        """Draw `attributes` `(n, 5)` at `resolution` pixels."""
        noise = uniforms(seed, stream, np.arange(len(attributes)), 12)
        x, y, radius = self.place(self.vocabulary, attributes, noise[:, :6])
        palette = np.array([colour.rgb for colour in self.vocabulary.colours], dtype=np.float32)
        layers = tuple(
            Layer(attributes[:, 2 + 2 * i], palette[attributes[:, 1 + 2 * i]], x[:, i], y[:, i], radius[:, i])
            for i in (0, 1)
        )
        distances = tuple(shape.distance for shape in self.vocabulary.shapes)
        images = draw(_ground(noise[:, 6:], self.tint), layers, distances, resolution)
        captions = tuple(self.vocabulary.caption(as_attributes(row)) for row in attributes)
        return Drawings(torch.from_numpy(images), captions, torch.from_numpy(attributes))


def _ground(noise: Doubles, tint: float) -> Ground:
    """Grey of 0.08 to 0.34 in the middle, rising or falling by 0.06 at most towards the rim."""
    grey = 0.14 + 0.14 * noise[:, :1]
    tinted = grey + tint * (2 * noise[:, 1:4] - 1)
    angle, steepness = 2 * math.pi * noise[:, 4], 0.06 / (CANVAS / 2) * noise[:, 5]
    across, down = steepness * np.cos(angle) / math.sqrt(2), steepness * np.sin(angle) / math.sqrt(2)
    return Ground(tinted.astype(np.float32), across.astype(np.float32), down.astype(np.float32))


def _radii(vocabulary: Vocabulary, attributes: Integers, noise: Doubles, pair: tuple[float, float]) -> Doubles:
    """Radii `(n, 2)`: those of the size for a lone shape, uniform over `pair` for two."""
    ranges = np.array([size.radius for size in vocabulary.sizes] + [pair] * len(vocabulary.relations))
    low, high = ranges[attributes[:, 0]].T[:, :, None]
    radii: Doubles = low + (high - low) * noise
    return radii


def _steps(vocabulary: Vocabulary, attributes: Integers) -> tuple[npt.NDArray[np.bool_], Integers]:
    """Which drawings have two shapes `(n,)`, and the unit step from the middle to the first of them `(n, 2)`."""
    steps = [(0, 0)] * len(vocabulary.sizes) + [(relation.across, relation.down) for relation in vocabulary.relations]
    return attributes[:, 0] >= len(vocabulary.sizes), np.array(steps)[attributes[:, 0]]


def place_tidily(vocabulary: Vocabulary, attributes: Integers, noise: Doubles) -> tuple[Floats, Floats, Floats]:
    """Place a lone shape about the middle, and two shapes 8 units either side of it.

    Two shapes stray half a unit at most along their relation, and two units across it.
    """
    radius = _radii(vocabulary, attributes, noise[:, :2], pair=(5.5, 6.5))
    two, steps = _steps(vocabulary, attributes)
    jitter = 2 * noise[:, 2:].reshape(-1, 2, 2) - 1
    along = np.abs(steps)[:, None]
    stray = np.array([size.stray for size in vocabulary.sizes] + [0.0] * len(vocabulary.relations))[attributes[:, 0]]
    reach = np.where(two[:, None, None], np.where(along == 1, 0.5, 2.0), stray[:, None, None])
    centres = CANVAS / 2 + 8.0 * steps[:, None] * np.array([1, -1])[:, None] + reach * jitter
    return centres[..., 0].astype(np.float32), centres[..., 1].astype(np.float32), radius.astype(np.float32)


def place_freely(vocabulary: Vocabulary, attributes: Integers, noise: Doubles) -> tuple[Floats, Floats, Floats]:
    """Place shapes anywhere inside, one unit from the rim.

    Two keep 1.5 units apart along their relation and stray less across it than along it.
    """
    radius = _radii(vocabulary, attributes, noise[:, :2], pair=(4.5, 6.5))
    two, steps = _steps(vocabulary, attributes)
    low, high = radius + 1.0, CANVAS - 1.0 - radius
    lone = low[..., None] + (high - low)[..., None] * noise[:, 2:].reshape(-1, 2, 2)
    first_is_low = (steps.sum(1) < 0)[:, None]
    near, far = np.where(first_is_low, radius, radius[:, ::-1]).T
    start, end = np.sort(noise[:, 2:4], axis=1).T * (CANVAS - 2.0 - 2 * (near + far) - 1.5)
    ends = np.stack([1.0 + near + start, 1.0 + 2 * near + 1.5 + far + end], axis=1)
    along = np.where(first_is_low, ends, ends[:, ::-1])
    across_first = low[:, 0] + (high - low)[:, 0] * noise[:, 4]
    across_second = across_first + (noise[:, 5] - 0.5) * (ends[:, 1] - ends[:, 0])
    across = np.stack([across_first, np.clip(across_second, low[:, 1], high[:, 1])], axis=1)
    horizontal = (steps[:, 0] != 0)[:, None]
    x = np.where(two[:, None], np.where(horizontal, along, across), lone[..., 0])
    y = np.where(two[:, None], np.where(horizontal, across, along), lone[..., 1])
    return x.astype(np.float32), y.astype(np.float32), radius.astype(np.float32)


def a_tenth_of_two_shape(vocabulary: Vocabulary, seed: int) -> npt.NDArray[np.bool_]:
    """Mark a seeded tenth of the two-shape captions."""
    one, two = len(vocabulary.one_shape), len(vocabulary.two_shape)
    chosen = shuffled(np.arange(two), seed)[: round(two / 10)]
    unseen = np.zeros(one + two, dtype=np.bool_)
    unseen[one + chosen] = True
    return unseen


def a_colour_per_shape(vocabulary: Vocabulary, seed: int) -> npt.NDArray[np.bool_]:
    """Mark the captions with one of the pairs of colour and shape held out by the seed.

    One pair per shape, no colour twice.
    """
    colours, shapes = len(vocabulary.colours), len(vocabulary.shapes)
    pairs = np.zeros((colours + 1, shapes + 1), dtype=np.bool_)
    pairs[shuffled(np.arange(colours), seed)[:shapes], np.arange(shapes)] = True
    captions = np.concatenate([vocabulary.one_shape, vocabulary.two_shape])
    unseen: npt.NDArray[np.bool_] = pairs[captions[:, 1], captions[:, 2]] | pairs[captions[:, 3], captions[:, 4]]
    return unseen


_COLOURS = (
    Colour("red", (0.89, 0.18, 0.17)),
    Colour("green", (0.22, 0.70, 0.27)),
    Colour("blue", (0.13, 0.38, 0.93)),
    Colour("yellow", (0.99, 0.86, 0.15)),
    Colour("purple", (0.60, 0.26, 0.80)),
    Colour("cyan", (0.20, 0.84, 0.89)),
    Colour("orange", (0.98, 0.52, 0.08)),
    Colour("pink", (0.98, 0.55, 0.76)),
    Colour("white", (0.96, 0.96, 0.96)),
)
_SHAPES = (
    Shape("circle", circle),
    Shape("square", square),
    Shape("triangle", triangle),
    Shape("cross", cross),
    Shape("ring", ring),
    Shape("diamond", diamond),
)

SHAPES = DrawnSet(
    name="shapes",
    vocabulary=Vocabulary(
        colours=_COLOURS[:6],
        shapes=_SHAPES[:4],
        sizes=(Size("small", (5.5, 6.5), stray=4.0), Size("big", (10.0, 11.0), stray=2.0)),
        relations=(Relation("left of", -1, 0), Relation("above", 0, -1)),
    ),
    place=place_tidily,
    unseen=a_tenth_of_two_shape,
    unseen_note="A tenth of the two-shape captions, chosen by the seed, never occurs in training.",
    tint=0.0,
    effort=1,
)
SHAPES_HARD = DrawnSet(
    name="shapes-hard",
    vocabulary=Vocabulary(
        colours=_COLOURS,
        shapes=_SHAPES,
        sizes=(
            Size("small", (4.5, 5.5), stray=CANVAS),
            Size("medium", (7.0, 8.0), stray=CANVAS),
            Size("big", (10.0, 11.0), stray=CANVAS),
        ),
        relations=(
            Relation("left of", -1, 0),
            Relation("right of", 1, 0),
            Relation("above", 0, -1),
            Relation("below", 0, 1),
        ),
    ),
    place=place_freely,
    unseen=a_colour_per_shape,
    unseen_note="One colour of each shape, chosen by the seed, never occurs in training.",
    tint=0.08,
    effort=3,
)
SETS = {drawn.name: drawn for drawn in (SHAPES, SHAPES_HARD)}
