"""Protocols: what they draw, what they refuse, what they write."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diffusion_evaluation import (
    COCO_FID_30K,
    LPIPS_INPAINTING,
    REPAINT_MASKS,
    UNCONDITIONAL_50K,
    WIDE,
    Protocol,
    Score,
    Space,
    draw_masks,
    require_comparable,
)

INCEPTION = Space("inception-legacy_tensorflow", "2015-12-05", "abc")


def fid(n_real: int = 30_000, n_fake: int = 30_000, space: Space = INCEPTION, metric: str = "FID") -> Score:
    return Score(f"{metric}[{space.name}]", 12.5, n_real, n_fake, space=space)


def test_captions_are_drawn_once_by_seed_one_an_image() -> None:
    counts = [0 if image % 10 == 0 else 5 for image in range(40_504)]
    drawn = COCO_FID_30K.draw_captions(counts)
    assert len(drawn) == len({caption.image for caption in drawn}) == 30_000
    assert all(caption.image % 10 and 0 <= caption.caption < 5 for caption in drawn)
    assert len({caption.caption for caption in drawn}) == 5
    assert drawn == COCO_FID_30K.draw_captions(counts)
    assert drawn != replace(COCO_FID_30K, seed=1).draw_captions(counts)
    told = json.dumps([(caption.image, caption.caption) for caption in drawn]).encode()
    assert hashlib.sha256(told).hexdigest() == "43edfe588cbdd9b8660d028b9f8727e50bf48cf307519f728afd2948097ef37a"


def test_too_few_to_draw_from_is_refused() -> None:
    with pytest.raises(ValueError, match="coco_fid_30k: 30000 of 5000 cannot be drawn"):
        COCO_FID_30K.draw(5000)


def test_images_are_prepared_as_declared() -> None:
    stripes = torch.zeros(1, 3, 300, 600, dtype=torch.uint8)
    stripes[..., 150:450] = 200
    assert (COCO_FID_30K.prepare(stripes)[..., 8:-8] == 200).all()


def test_a_score_of_the_protocol_passes() -> None:
    COCO_FID_30K.require(fid())
    UNCONDITIONAL_50K.require(fid(n_real=126_227, n_fake=50_000))
    LPIPS_INPAINTING.require(Score("LPIPS[alex]", 0.1, 100, 100, space=Space("lpips-alex", "0.1", "abc")))


@pytest.mark.parametrize(
    ("score", "told"),
    [
        (fid(n_fake=5000), "its number of generated images is 5000, not 30000"),
        (fid(n_real=5000), "its number of real images is 5000, not 30000"),
        (fid(space=Space("inception-clean")), "its feature space is inception-clean, not inception-legacy_tensorflow"),
        (fid(metric="KID"), "its metric is KID, not FID"),
        (replace(fid(n_fake=10), space=None), "generated images is 10"),
    ],
)
def test_a_score_of_another_protocol_is_refused(score: Score, told: str) -> None:
    with pytest.raises(ValueError, match=f"was not measured by coco_fid_30k: .*{told}"):
        COCO_FID_30K.require(score)
    with pytest.raises(ValueError, match=told):
        COCO_FID_30K.manifest(fid(), score)


@pytest.mark.parametrize("other", [fid(n_real=5000), fid(n_fake=5000), fid(space=Space("inception-clean"))])
def test_scores_of_other_counts_resizing_or_space_are_not_compared(other: Score) -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        require_comparable(fid(), other)


def test_the_manifest_says_everything(tmp_path: Path) -> None:
    COCO_FID_30K.write_manifest(tmp_path / "manifest.json", fid())
    written = json.loads((tmp_path / "manifest.json").read_text())
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
    assert written["protocol"] == "coco_fid_30k" and written["seed"] == 0
    assert "bicubic with antialiasing, to 256 x 256 bytes" in written["preparation"]
    assert written["scores"][0]["space"]["sha256"] == "abc"
    assert (written["scores"][0]["n_real"], written["scores"][0]["value"]) == (30_000, 12.5)


def test_inpainting_has_a_mask_of_six_kinds_for_each_image() -> None:
    """Checks: RePaint inpainting protocol"""
    assert (LPIPS_INPAINTING.n_real, LPIPS_INPAINTING.n_fake) == (100, 100)
    assert [kind.name for kind in LPIPS_INPAINTING.masks] == [kind.name for kind in REPAINT_MASKS]
    small = replace(LPIPS_INPAINTING, n_fake=3, side=64, spaces=("any",))
    assert torch.equal(small.draw_masks(WIDE), draw_masks(WIDE, 3, 64, 64))
    hashes = small.manifest()["masks"]
    assert isinstance(hashes, dict) and len(set(hashes.values())) == 6
    with pytest.raises(ValueError, match="coco_fid_30k has no masks 'wide'; it has none"):
        COCO_FID_30K.draw_masks(WIDE)


def test_protocols_are_values() -> None:
    assert isinstance(COCO_FID_30K, Protocol) and len({COCO_FID_30K, UNCONDITIONAL_50K, LPIPS_INPAINTING}) == 3
