"""The CLIP score by hand."""

import math

import pytest
import torch

from diffusion_evaluation import Space, clip_score, pair_cosines
from diffusion_evaluation.clip_score import HESSEL

IMAGES = torch.tensor([[1.0, 0.0], [2.0, 2.0], [0.0, 3.0], [1.0, 0.0]])
CAPTIONS = torch.tensor([[5.0, 0.0], [1.0, 0.0], [0.0, 0.1], [-1.0, 0.0]])
COSINES = [1.0, math.sqrt(0.5), 1.0, -1.0]


def test_is_the_mean_cosine_of_pairs_not_below_zero() -> None:
    """Checks: CLIPScore definition"""
    assert pair_cosines(IMAGES, CAPTIONS).tolist() == pytest.approx(COSINES)
    score = clip_score(IMAGES, CAPTIONS, space=Space("toy"))
    assert score.value == pytest.approx(100 * (2 + math.sqrt(0.5)) / 4)
    assert str(score).startswith("CLIP score[toy, x100, N=4] 67.68 [")
    assert clip_score(IMAGES.numpy(), CAPTIONS.numpy(), scale=HESSEL).value == pytest.approx(score.value / 40)
    assert clip_score(IMAGES, CAPTIONS, scale=HESSEL).name == "CLIP score[unnamed, x2.5]"


def test_bad_pairs_are_named() -> None:
    with pytest.raises(ValueError, match=r"images have embeddings \(4, 2\), captions \(3, 2\): give one caption for"):
        clip_score(IMAGES, CAPTIONS[:3])
    with pytest.raises(ValueError, match="captions: 4 embeddings are zero and have no direction, the first is row 0"):
        clip_score(IMAGES, 0 * CAPTIONS)
