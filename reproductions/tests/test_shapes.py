"""Drawings against closed-form areas, captions against attributes, splits against their promises."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reproductions.drawn.drawing import (
    CROSS_HALF_WIDTH,
    DIAMOND_HALF_DIAGONAL,
    RING_HALF_WIDTH,
    RING_MIDDLE,
    SQUARE_HALF_SIDE,
    TRIANGLE_INRADIUS,
    Ground,
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
from reproductions.drawn.shapes import SETS, SHAPES, SHAPES_HARD
from reproductions.drawn.vocabulary import ABSENT, as_attributes

AREAS = {
    circle: math.pi,
    square: (2 * SQUARE_HALF_SIDE) ** 2,
    triangle: 3 * math.sqrt(3) * TRIANGLE_INRADIUS**2,
    cross: 4 * CROSS_HALF_WIDTH * (2 - CROSS_HALF_WIDTH),
    ring: math.pi * ((RING_MIDDLE + RING_HALF_WIDTH) ** 2 - (RING_MIDDLE - RING_HALF_WIDTH) ** 2),
    diamond: 2 * DIAMOND_HALF_DIAGONAL**2,
}


def black(n: int) -> Ground:
    return Ground(np.zeros((n, 3), np.float32), np.zeros(n, np.float32), np.zeros(n, np.float32))


def white(distances_index: int, x: float, y: float, radius: float) -> Layer:
    one = np.ones(1, np.float32)
    return Layer(np.array([distances_index]), np.ones((1, 3), np.float32), x * one, y * one, radius * one)


@pytest.mark.parametrize("distance", AREAS, ids=lambda distance: distance.__name__)
@pytest.mark.parametrize(
    ("resolution", "radius", "tolerance"), [(32, 6.0, 0.03), (32, 10.5, 0.015), (128, 10.5, 0.004)]
)
def test_drawn_area_is_the_closed_form_one(distance, resolution, radius, tolerance):
    picture = draw(black(1), (white(0, 16.3, 15.6, radius),), (distance,), resolution)
    area = picture[0, 0].astype(float).sum() / 255 * (32 / resolution) ** 2
    assert area == pytest.approx(AREAS[distance] * radius**2, rel=tolerance)


@pytest.mark.parametrize("distance", AREAS, ids=lambda distance: distance.__name__)
def test_shapes_stay_within_their_margin_and_are_centred(distance):
    picture = draw(black(1), (white(0, 16.0, 16.0, 8.0),), (distance,), 256)[0, 0] > 127
    rows, columns = np.flatnonzero(picture.any(1)), np.flatnonzero(picture.any(0))
    assert abs(rows[0] + rows[-1] - 255) <= 1 and abs(columns[0] + columns[-1] - 255) <= 1
    assert max(len(rows), len(columns)) <= 1.09 * 2 * 8.0 * 8


def test_the_triangle_points_up():
    picture = draw(black(1), (white(0, 16.0, 16.0, 10.0),), (triangle,), 64)[0, 0]
    assert picture[:32].sum() < picture[32:].sum()


def test_a_layer_without_a_shape_draws_nothing():
    assert not draw(black(1), (white(ABSENT, 16.0, 16.0, 10.0),), (circle,), 16).any()


def test_a_gradient_rises_linearly():
    ground = Ground(np.full((1, 3), 0.5, np.float32), np.full(1, 0.01, np.float32), np.zeros(1, np.float32))
    row = draw(ground, (), (), 32)[0, 0, 5].astype(float)
    assert np.abs(row - 255 * (0.5 + 0.01 * (np.arange(32) - 15.5))).max() <= 0.51


def test_geometry_scales_with_the_resolution():
    coarse = SHAPES.split(Stream.CHECK, 64, seed=3, resolution=32).images.float()
    fine = SHAPES.split(Stream.CHECK, 64, seed=3, resolution=128).images.float()
    assert (torch.nn.functional.avg_pool2d(fine, 4) - coarse).abs().mean() < 1.0


@given(st.integers(0, 2**63), st.sampled_from(Stream), st.integers(0, 10**9))
@settings(deadline=None, max_examples=30)
def test_uniforms_depend_on_their_own_index_alone(seed, stream, index):
    alone = uniforms(seed, stream, np.array([index]), 5)
    among = uniforms(seed, stream, np.arange(index, index + 7), 9)
    assert np.array_equal(alone[0], among[0, :5])
    assert ((alone >= 0) & (alone < 1)).all()


def test_uniforms_are_uniform_and_uncorrelated():
    drawn = uniforms(0, Stream.TRAIN, np.arange(20_000), 4)
    assert np.abs(np.stack([(drawn**power).mean(0) for power in (1, 2, 3)]) - [[1 / 2], [1 / 3], [1 / 4]]).max() < 0.01
    assert np.abs(np.corrcoef(np.concatenate([drawn[:-1], drawn[1:]], axis=1).T) - np.eye(8)).max() < 0.03


def test_shuffled_is_a_permutation_of_the_seed():
    items = np.arange(500)
    assert sorted(shuffled(items, 1)) == list(items)
    assert np.array_equal(shuffled(items, 1), shuffled(items, 1))
    assert not np.array_equal(shuffled(items, 1), shuffled(items, 2))


@pytest.mark.parametrize("drawn", SETS.values(), ids=SETS)
def test_every_caption_gives_back_its_attributes(drawn):
    words = drawn.vocabulary
    every = np.concatenate([words.one_shape, words.two_shape])
    captions = [words.caption(as_attributes(row)) for row in every]
    assert len(set(captions)) == len(captions)
    step = max(1, len(captions) // 500)
    for row, caption in zip(every[::step], captions[::step], strict=True):
        assert words.attributes_of(caption) == as_attributes(row)
    for column, choices in zip(every.T, words.choices, strict=True):
        assert column.max() == choices - 1


def test_the_easy_set_has_the_captions_that_were_studied():
    assert len(SHAPES.vocabulary.one_shape) == 48
    assert len(SHAPES.vocabulary.two_shape) == 1_152
    assert SHAPES.vocabulary.caption((0, 1, 2, ABSENT, ABSENT)) == "a small green triangle"
    assert SHAPES.vocabulary.caption((2, 0, 0, 2, 1)) == "a red circle left of a blue square"
    assert SHAPES_HARD.vocabulary.caption((4, 6, 4, 0, 5)) == "an orange ring right of a red diamond"


@pytest.mark.parametrize(
    "caption",
    ["", "a red circle", "an red circle above a blue square", "a small green triangle ", "a small mauve cross"],
)
def test_a_caption_outside_the_vocabulary_is_refused(caption):
    with pytest.raises(ValueError, match="not in this vocabulary"):
        SHAPES.vocabulary.attributes_of(caption)


@pytest.mark.parametrize("drawn", SETS.values(), ids=SETS)
def test_drawing_i_depends_on_seed_and_i_alone(drawn):
    few = drawn.split(Stream.TRAIN, 37, seed=5, resolution=16)
    many = drawn.split(Stream.TRAIN, 301, seed=5, resolution=16)
    assert torch.equal(few.images, many.images[:37]) and few.captions == many.captions[:37]
    assert not torch.equal(few.images, drawn.split(Stream.TRAIN, 37, seed=6, resolution=16).images)
    assert not torch.equal(few.images, drawn.split(Stream.CHECK, 37, seed=5, resolution=16).images)


@pytest.mark.parametrize("drawn", SETS.values(), ids=SETS)
def test_half_of_a_split_has_one_shape_and_captions_come_round_evenly(drawn):
    for stream in (Stream.TRAIN, Stream.HELD_OUT):
        split = drawn.split(stream, 1_200, seed=0, resolution=8)
        lone = split.attributes[:, 0] < len(drawn.vocabulary.sizes)
        assert lone.sum() == 600
        assert torch.equal(split.attributes[lone, 3:], torch.full((600, 2), ABSENT))
        for kind in (lone, ~lone):
            counts = Counter(split.captions[index] for index in torch.nonzero(kind).flatten())
            assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("drawn", SETS.values(), ids=SETS)
def test_a_judge_is_shown_every_caption(drawn):
    for ours, every in zip(
        drawn.captions(Stream.JUDGE, seed=0), (drawn.vocabulary.one_shape, drawn.vocabulary.two_shape), strict=True
    ):
        assert {*map(as_attributes, ours)} == {*map(as_attributes, every)}


def test_a_tenth_of_the_two_shape_captions_is_held_out():
    one, two = SHAPES.captions(Stream.TRAIN, seed=0)
    held_one, held_two = SHAPES.captions(Stream.HELD_OUT, seed=0)
    assert len(one) == len(held_one) == 48
    assert len(held_two) == 115 and len(two) + len(held_two) == 1_152
    assert not {*map(as_attributes, two)} & {*map(as_attributes, held_two)}
    assert {*map(as_attributes, held_two)} != {*map(as_attributes, SHAPES.captions(Stream.HELD_OUT, seed=1)[1])}


def test_some_pairs_of_colour_and_shape_are_never_seen_in_training():
    def pairs(captions):
        return {pair for row in captions.tolist() for pair in ((row[1], row[2]), (row[3], row[4])) if pair[0] != ABSENT}

    one, two = SHAPES_HARD.captions(Stream.TRAIN, seed=0)
    held_one, held_two = SHAPES_HARD.captions(Stream.HELD_OUT, seed=0)
    seen = pairs(np.concatenate([one, two]))
    unseen = pairs(np.concatenate([held_one, held_two])) - seen
    assert len(unseen) == len({colour for colour, _ in unseen}) == len({shape for _, shape in unseen}) == 6
    assert {colour for colour, _ in seen} == set(range(9)) and {shape for _, shape in seen} == set(range(6))
    assert all(unseen & pairs(row[None]) for row in held_two)


@pytest.mark.parametrize("drawn", SETS.values(), ids=SETS)
def test_the_first_shape_stands_where_the_caption_says(drawn):
    words = drawn.vocabulary
    rows = np.repeat(words.two_shape[:: len(words.two_shape) // 200], 20, axis=0)
    noise = uniforms(0, Stream.CHECK, np.arange(len(rows)), 6)
    x, y, radius = drawn.place(words, rows, noise)
    steps = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
    expected = np.array([steps[words.layouts[layout]] for layout in rows[:, 0]])
    offset = np.stack([x[:, 0] - x[:, 1], y[:, 0] - y[:, 1]], axis=1)
    along, across = (offset * expected).sum(1), np.abs(offset * (1 - np.abs(expected))).sum(1)
    assert (along > radius.sum(1) + 1).all()
    assert (across < along).all()
    for position in (x, y):
        assert (position - radius >= 0.9).all() and (position + radius <= 31.1).all()


@pytest.mark.parametrize("drawn", SETS.values(), ids=SETS)
def test_the_colour_in_the_middle_of_a_lone_shape_is_the_one_said(drawn):
    split = drawn.split(Stream.CHECK, 400, seed=0, resolution=32)
    palette = torch.tensor([colour.rgb for colour in drawn.vocabulary.colours])
    for image, row in zip(split.images[::2], split.attributes[::2], strict=True):
        strongest = palette[row[1]] * 255
        assert (image.permute(1, 2, 0) - strongest).abs().amax(-1).min() <= 1
