"""Masks against their definitions, LaMa's published shares, a mask file of RePaint, and committed hashes."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion_evaluation.masks import (
    ALTERNATING_LINES,
    EXPAND,
    HALF,
    NARROW,
    REPAINT_MASKS,
    SUPER_RESOLVE,
    WIDE,
    LaMa,
    MaskKind,
    StrokeDraws,
    draw_masks,
    masks_sha256,
)
from diffusion_evaluation.strokes import Rectangle, Stroke

SHARED = Path(__file__).resolve().parents[4] / "shared"
HASHES = {
    ("wide", 256): "b6c299f64350e76040f598dfeefd3ec69c95cabcdd6c859aaa0e9f0e9c97c0d6",
    ("wide", 64): "d457ee89ab47fef5caaa92c8cd786e436d099a961e5d77afe429680a45105958",
    ("narrow", 256): "5c1db21ba175cb827dd41987b688eb861d92db843c9dc80217cfa29105f78d24",
    ("narrow", 64): "1baea3023711cacd668d666f83d38643ff4b0e5f722bcc8ba957375df710f768",
    ("super-resolve 2x", 256): "1aa65913f3a723c79da5e546c93bd20fbb524cbb71d21d2b025dd89abae734e9",
    ("super-resolve 2x", 64): "fcc2566697b2ba8e3147f1921a72a4855a304a961e032de9868e570954ddb5c8",
    ("alternating lines", 256): "2873010463a88bd0328997725d6002d3cda7e416116d9c0058c7d4f270dbaa40",
    ("alternating lines", 64): "02543e1f1e8cb71ab0f6a873194eca395d83b4a74269bc63a7123011a3c6710f",
    ("half", 256): "a4c58d5ace923c6af682c06be641cdf4ba515fa49bbfee44fd3151fe1d6a242e",
    ("half", 64): "4987a768aca922bdffd4b7174ffe450d73419801a998e0e5865c15d26826b303",
    ("expand", 256): "cb66de738a6cf7ec772ee7e5c9aa709620a495c4a588fcf949ef914634773977",
    ("expand", 64): "b1d53addf91f788988adb421b2a4ad0d1f05c3a33a3218568d52b4eff42cad54",
}


STROKES = [Stroke(3, 4, 20, 11, 5), Stroke(9, 9, 9, 9, 8), Stroke(0, 18, 24, 2, 3.0), Stroke(30, 5, 40, 9, 9)]


@pytest.mark.parametrize("stroke", STROKES)
@pytest.mark.parametrize("scale", [1, 0.5, 1.75])
def test_a_stroke_is_every_pixel_near_enough(stroke: Stroke, scale: float) -> None:
    canvas = np.zeros((22, 26), dtype=np.bool_)
    stroke.fill(canvas, scale)
    for (i, j), filled in np.ndenumerate(canvas):
        x, y = (j + 0.5) / scale - 0.5, (i + 0.5) / scale - 0.5
        shares = [t / 500 for t in range(501)]
        along = [(stroke.x + t * (stroke.end_x - stroke.x), stroke.y + t * (stroke.end_y - stroke.y)) for t in shares]
        beyond = min(math.hypot(x - a, y - b) for a, b in along) - (math.ceil(stroke.width / 2) + 0.3)
        if abs(beyond) > 0.01:
            assert filled == (beyond < 0), (i, j)


def test_a_box_is_its_pixels() -> None:
    canvas = np.zeros((8, 8), dtype=np.bool_)
    Rectangle(1, 2, 4, 6).fill(canvas, 1)
    assert canvas.sum() == 12 and canvas[2:6, 1:4].all()


def test_fixed_masks_keep_what_the_paper_keeps() -> None:
    """Checks: RePaint super-resolve mask, alternating lines mask, half mask, expand mask"""
    kept = {kind.name: 1 - draw_masks(kind, 1, 256, 256).float().mean().item() for kind in REPAINT_MASKS[2:]}
    assert kept == {"super-resolve 2x": 1 / 4, "alternating lines": 1 / 2, "half": 1 / 2, "expand": 1 / 16}
    expand = draw_masks(EXPAND, 1, 256, 256)[0, 0]
    assert not expand[96:160, 96:160].any() and expand.sum() == 256 * 256 - 64 * 64
    half = draw_masks(HALF, 1, 8, 9)[0, 0]
    assert not half[:, :4].any() and half[:, 4:].all()
    lines = draw_masks(ALTERNATING_LINES, 1, 6, 4)[0, 0]
    assert lines[::2].all() and not lines[1::2].any()


@pytest.mark.parity
def test_super_resolve_is_repaints_own_file() -> None:
    path = SHARED / "data" / "inpaint_samples" / "hq_demo__data__datasets__gt_keep_masks__nn2__000000.png"
    if not path.is_file():
        pytest.skip(f"no mask file at {path}")
    image = pytest.importorskip("PIL.Image", reason="Pillow is no requirement of this package")
    known = torch.from_numpy(np.asarray(image.open(path))[..., 0] > 127)
    assert torch.equal(~known, draw_masks(SUPER_RESOLVE, 1, 256, 256)[0, 0])


@pytest.mark.parametrize(("kind", "key"), [(WIDE, "thick"), (NARROW, "thin")], ids=["wide", "narrow"])
@pytest.mark.parity
def test_shares_are_those_of_lamas_generator(kind: LaMa, key: str) -> None:
    """Checks: RePaint wide and narrow masks"""
    path = SHARED / "reference" / "golden" / "repaint" / "config.json"
    if not path.is_file():
        pytest.skip(f"no recorded statistics at {path}")
    recorded = json.loads(path.read_text())["masks"]["lama_statistics"][key]
    random = np.random.RandomState(0)
    raw = np.array([kind.candidate(256, 256, random).mean() for _ in range(120)])
    chosen = draw_masks(kind, 120, 256, 256).float().mean(dim=(1, 2, 3)).numpy()
    for ours, theirs in (
        (raw, recorded["raw_hole_ratio"]),
        (chosen, recorded["after_max_tamper_area_filter_one_of_5"]),
    ):
        error = math.hypot(ours.std() / len(ours) ** 0.5, theirs["std"] / theirs["n"] ** 0.5)
        assert abs(ours.mean() - theirs["mean"]) < 4 * error
        assert ours.std() == pytest.approx(theirs["std"], rel=0.15)
    assert chosen.max() <= 0.5


def test_draws_lie_within_the_published_ranges() -> None:
    """Checks: RePaint wide and narrow masks"""
    random = np.random.RandomState(1)
    assert WIDE.boxes is not None
    for kind, strokes, length, width in ((WIDE, (1, 6), 209, 104), (NARROW, (4, 51), 49, 14)):
        widths, counts = set(), []
        for _ in range(100):
            drawn = kind._polygons(256, 256, random)
            assert all(math.dist((s.x, s.y), (s.end_x, s.end_y)) <= length + 2 for s in drawn)
            assert all(0 <= s.end_x <= 256 and 0 <= s.end_y <= 256 for s in drawn)
            widths |= {s.width for s in drawn}
            counts.append(len(drawn))
        assert min(widths) == 5 and max(widths) <= width
        assert strokes[0] <= min(counts) and max(counts) <= 5 * strokes[1]
    boxes = [box for _ in range(100) for box in WIDE._rectangles(256, 256, random)]
    sides = [side for box in boxes for side in (box.right - box.left, box.bottom - box.top)]
    assert min(sides) >= 30 and max(sides) <= 150


@pytest.mark.parametrize("kind", REPAINT_MASKS, ids=lambda kind: kind.name)
def test_a_mask_depends_on_its_seed_and_number_alone(kind: MaskKind) -> None:
    masks = draw_masks(kind, 4, 64, 80, seed=3)
    assert masks.dtype == torch.bool and masks.shape == (4, 1, 64, 80)
    assert torch.equal(draw_masks(kind, 2, 64, 80, seed=3, first=2), masks[2:])
    assert torch.equal(draw_masks(kind, 4, 64, 80, seed=4), masks) == (kind in REPAINT_MASKS[2:])


@pytest.mark.parametrize("kind", [WIDE, NARROW], ids=["wide", "narrow"])
def test_another_size_shows_the_same_drawing(kind: LaMa) -> None:
    large, small = (draw_masks(kind, 20, side, side, seed=1).float() for side in (256, 64))
    shrunk = torch.nn.functional.avg_pool2d(large, 4)
    certain = (shrunk == 0) | (shrunk == 1)
    same = ((shrunk == small) | ~certain).float().mean(dim=(1, 2, 3))
    assert (same > 0.99).sum() >= 18  # a candidate near one half may be dropped at one size alone


@pytest.mark.parametrize("kind", REPAINT_MASKS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("side", [256, 64])
def test_masks_are_the_committed_ones(kind: MaskKind, side: int) -> None:
    assert masks_sha256(draw_masks(kind, 8, side, side)) == HASHES[kind.name, side]


def test_the_hash_knows_every_pixel_and_the_shape() -> None:
    masks = draw_masks(HALF, 1, 8, 8)
    changed = masks.clone()
    changed[0, 0, 7, 7] = False
    assert len({masks_sha256(x) for x in (masks, changed, masks.reshape(1, 1, 4, 16))}) == 3


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 4 pixels are wanted, got 1 masks of 3 x 8"):
        draw_masks(HALF, 1, 3, 8)
    with pytest.raises(ValueError, match="a seed is a whole number from 0"):
        draw_masks(WIDE, 1, 8, 8, seed=-1)
    everything = LaMa("all", StrokeDraws((1, 2), (10, 11), (100, 101), (1, 2)), largest_share=0.0)
    with pytest.raises(ValueError, match="all: no mask of 8 x 8 hides at most 0%"):
        draw_masks(everything, 1, 8, 8)
