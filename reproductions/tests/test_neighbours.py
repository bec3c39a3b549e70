"""Nearest training pictures: by brute force, and what copies look like."""

import io

import pytest
import torch
from PIL import Image

from reproductions.reporting import neighbours
from reproductions.reporting.neighbours import illustration, nearest


def pictures(seed: int, number: int, side: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (number, 3, side, side), generator=generator, dtype=torch.uint8)


def test_the_nearest_is_that_of_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: every pair, one at a time; a few training pictures at once."""
    monkeypatch.setattr(neighbours, "AT_ONCE", 7)
    ours, training = pictures(0, 5), pictures(1, 23)
    found = nearest(ours, training)
    for i, image in enumerate(ours):
        pairs = torch.stack([(image.double() - other.double()).square().mean().sqrt() for other in training])
        assert found.index[i] == pairs.argmin()
        assert found.distance[i].item() == pytest.approx(pairs.min().item())


def test_copies_are_found_at_distance_zero() -> None:
    training = pictures(2, 40, side=64)
    found = nearest(training[[31, 4]], training)
    assert found.index.tolist() == [31, 4]
    assert found.distance.tolist() == pytest.approx([0, 0], abs=1e-3)


def test_no_training_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="`training` is empty"):
        nearest(pictures(0, 2), pictures(0, 0))


def test_the_picture_shows_pairs_and_its_words_the_distances() -> None:
    """Oracle: a model that copies stands at 0, held-out noise far away."""
    training = pictures(3, 12)
    found = illustration("nearest", "t", training, pictures(4, 6), {"copier": training[:6]})
    assert "12 training pictures" in found.words
    assert "copier 0.0" in found.words
    assert f"held-out pictures {nearest(pictures(4, 6), training).median:.1f}" in found.words
    assert Image.open(io.BytesIO(found.png)).height > 4 * 8
