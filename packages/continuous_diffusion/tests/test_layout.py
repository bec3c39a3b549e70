"""Layouts as tokens: the examples of their definition, and there and back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuous_diffusion import Box, LayoutTokens

SMALL = LayoutTokens(categories=7, vocabulary=16, objects=2)


def test_the_published_length() -> None:
    """Checks: LDM conditioning mechanisms"""
    assert LayoutTokens(categories=601).length == 92
    assert LayoutTokens(categories=601).side == 90


def test_tokens_of_a_lattice_of_four() -> None:
    """On 4 x 4 points, the second row's third is token 6 and the last is 15.

    Checks: LDM conditioning mechanisms
    """
    tokens = SMALL([Box(5, 2 / 3, 1 / 3, 1 / 3, 2 / 3, group=True)])
    assert tokens.tolist() == [5 + 7, 6, 15, 15, 15, 15, 0, 15]


def test_a_crop_leaves_out_and_cuts() -> None:
    crop = Box(0, 0.5, 0.5, 0.5, 0.5)
    inside, outside = Box(1, 0.5, 0.5, 0.25, 0.5), Box(2, 0.0, 0.0, 0.4, 0.4)
    with_crop = LayoutTokens(categories=3, vocabulary=25, objects=2)
    without = LayoutTokens(categories=3, vocabulary=25, objects=2, with_crop=False)
    assert with_crop([inside, outside], crop=crop).tolist() == [1, 12, 23, 24, 24, 24, 12, 24]
    assert without([inside, outside], crop=crop).tolist() == [1, 0, 22, 24, 24, 24]


points = st.integers(0, 3)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 6), points, points, points, points, st.booleans()), max_size=2))
def test_there_and_back(drawn: list[tuple[int, int, int, int, int, bool]]) -> None:
    boxes = [
        Box(category, min(a, b) / 3, min(c, d) / 3, abs(a - b) / 3, abs(c - d) / 3, group)
        for category, a, b, c, d, group in drawn
        if a != b and c != d
    ]
    for found, box in zip(SMALL.boxes(SMALL(boxes)), boxes, strict=True):
        assert (found.category, found.group) == (box.category, box.group)
        assert found.corners == pytest.approx(box.corners)


def test_wrong_layouts_are_named() -> None:
    box = Box(1, 0.0, 0.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="3 of them, a layout has room for objects=2"):
        SMALL([box] * 3)
    with pytest.raises(ValueError, match=r"category 7, expected 0\.\.6"):
        SMALL([Box(7, 0.0, 0.0, 1.0, 1.0)])
    with pytest.raises(ValueError, match="too few for 8 categories"):
        LayoutTokens(categories=8, vocabulary=16)
    with pytest.raises(ValueError, match="not fractions"):
        SMALL([box], crop=Box(0, 0.5, 0.5, 1.0, 1.0))
