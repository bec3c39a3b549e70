"""Scores of samples: what they need."""

from pathlib import Path

import pytest
import torch

from reproductions.artefacts import Desk
from reproductions.data import Split
from reproductions.runner import Silence
from reproductions.stages.denoiser_scores import Featuring, real_features


@pytest.mark.parametrize(("there", "asked"), [(3, 100), (9, 3)])
def test_too_few_held_out_pictures_are_named_before_samples_are_scored(there: int, asked: int, tmp_path: Path) -> None:
    for name, number in (("train", 9), ("held_out", there)):
        Split(torch.zeros(number, 3, 16, 16, dtype=torch.uint8), ((),) * number).save(tmp_path / name)
    desk = Desk(tmp_path, Featuring(None, asked), {"data": tmp_path}, Silence(), tmp_path)
    with pytest.raises(ValueError, match="3 held-out pictures are too few .* give more pictures .* --held-out of 4"):
        real_features(desk)
