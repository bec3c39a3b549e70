"""The words of a drawn data set, and the two-way translation between captions and attributes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from reproductions.drawn.drawing import Distance, Integers

ABSENT = -1

Attributes = tuple[int, int, int, int, int]
"""(layout, colour 1, shape 1, colour 2, shape 2); -1 where absent."""


@dataclass(frozen=True)
class Colour:
    word: str
    rgb: tuple[float, float, float]


@dataclass(frozen=True)
class Shape:
    word: str
    distance: Distance


@dataclass(frozen=True)
class Size:
    """A size of a lone shape: its radii, and how far its centre may stray from the middle, in canvas units."""

    word: str
    radius: tuple[float, float]
    stray: float


@dataclass(frozen=True)
class Relation:
    """Where the first shape stands as seen from the second: unit steps across and down."""

    word: str
    across: int
    down: int


@dataclass(frozen=True)
class Vocabulary:
    """The words of a drawn set, and the two-way translation between captions and attributes."""

    colours: tuple[Colour, ...]
    shapes: tuple[Shape, ...]
    sizes: tuple[Size, ...]
    relations: tuple[Relation, ...]

    @cached_property
    def layouts(self) -> tuple[str, ...]:
        """Words of the first attribute: sizes (one shape), then relations (two shapes)."""
        return tuple(size.word for size in self.sizes) + tuple(relation.word for relation in self.relations)

    @cached_property
    def choices(self) -> tuple[int, int, int, int, int]:
        """Number of values of each attribute."""
        colours, shapes = len(self.colours), len(self.shapes)
        return len(self.layouts), colours, shapes, colours, shapes

    @cached_property
    def same_picture(self) -> tuple[list[int], list[bool]]:
        """The first layout that shows the same as each, and whether its two shapes are then named the other way round.

        "A right of B" shows what "B left of A" shows.
        """
        layouts, swapped = list(range(len(self.layouts))), [False] * len(self.layouts)
        steps = [(relation.across, relation.down) for relation in self.relations]
        for index, (across, down) in enumerate(steps):
            if (-across, -down) in steps[:index]:
                layouts[len(self.sizes) + index] = len(self.sizes) + steps.index((-across, -down))
                swapped[len(self.sizes) + index] = True
        return layouts, swapped

    @cached_property
    def one_shape(self) -> Integers:
        """Attributes of every one-shape caption, `(sizes * colours * shapes, 5)`."""
        layouts, colours, shapes = range(len(self.sizes)), range(len(self.colours)), range(len(self.shapes))
        return _product(layouts, colours, shapes, [ABSENT], [ABSENT])

    @cached_property
    def two_shape(self) -> Integers:
        """Attributes of every two-shape caption, `(relations * (colours * shapes)^2, 5)`."""
        layouts = range(len(self.sizes), len(self.layouts))
        colours, shapes = range(len(self.colours)), range(len(self.shapes))
        return _product(layouts, colours, shapes, colours, shapes)

    def caption(self, attributes: Attributes) -> str:
        """The caption that says `attributes`."""
        layout, colour_1, shape_1, colour_2, shape_2 = attributes
        first = f"{self.colours[colour_1].word} {self.shapes[shape_1].word}"
        if layout < len(self.sizes):
            return _with_article(f"{self.layouts[layout]} {first}")
        second = f"{self.colours[colour_2].word} {self.shapes[shape_2].word}"
        return f"{_with_article(first)} {self.layouts[layout]} {_with_article(second)}"

    def attributes_of(self, caption: str) -> Attributes:
        """The attributes that `caption` says: the inverse of `caption`.

        Raises ValueError where it is not in this vocabulary.
        """
        for pattern in self._patterns:
            if match := pattern.fullmatch(caption):
                said = match.groupdict()
                found = (
                    self.layouts.index(said["layout"]),
                    _position(self.colours, said["colour_1"]),
                    _position(self.shapes, said["shape_1"]),
                    _position(self.colours, said.get("colour_2")),
                    _position(self.shapes, said.get("shape_2")),
                )
                if self.caption(found) == caption:
                    return found
        example = self.caption(as_attributes(self.two_shape[0]))
        raise ValueError(f"caption {caption!r} is not in this vocabulary; one that is: {example!r}")

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str], ...]:
        sizes, relations = self.layouts[: len(self.sizes)], self.layouts[len(self.sizes) :]
        colours = tuple(colour.word for colour in self.colours)
        shapes = tuple(shape.word for shape in self.shapes)
        first = f"{_one_of('colour_1', colours)} {_one_of('shape_1', shapes)}"
        second = f"{_one_of('colour_2', colours)} {_one_of('shape_2', shapes)}"
        one = f"an? {_one_of('layout', sizes)} {first}"
        two = f"an? {first} {_one_of('layout', relations)} an? {second}"
        return re.compile(one), re.compile(two)


def _product(*axes: Sequence[int]) -> Integers:
    return np.stack([axis.ravel() for axis in np.meshgrid(*map(np.array, axes), indexing="ij")], axis=1).astype(
        np.int64
    )


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _one_of(group: str, words: tuple[str, ...]) -> str:
    return f"(?P<{group}>{'|'.join(map(re.escape, words))})"


def _position(entries: tuple[Colour, ...] | tuple[Shape, ...], word: str | None) -> int:
    return ABSENT if word is None else [entry.word for entry in entries].index(word)


def as_attributes(row: Integers) -> Attributes:
    """One row of an attribute array as a tuple of plain integers."""
    layout, colour_1, shape_1, colour_2, shape_2 = row.tolist()
    return layout, colour_1, shape_1, colour_2, shape_2
