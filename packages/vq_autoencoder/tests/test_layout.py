import pytest
import torch

from vq_autoencoder import Layout


@pytest.mark.parametrize(
    ("multipliers", "patch", "factor"), [((1, 2, 4), 1, 4), ((1, 2, 4, 4), 1, 8), ((1, 3), 2, 4), ((1,), 4, 4)]
)
def test_factor_is_patch_times_two_per_level(multipliers, patch, factor):
    assert Layout(multipliers=multipliers, patch=patch).factor == factor


def test_attention_counts_from_the_resolution_of_training_and_the_patch():
    layout = Layout(multipliers=(1, 1, 2), resolution=64, attention_resolutions=(16,), patch=2)
    assert [layout.side(level) for level in range(3)] == [32, 16, 8]
    assert [layout.attends(level) for level in range(3)] == [False, True, False]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 0}, "channels must be at least 1, got 0"),
        ({"multipliers": ()}, "multipliers"),
        ({"decoder_blocks": 0}, "decoder_blocks"),
        ({"attention_resolutions": (5,)}, r"\[5\] are met at no level; the levels have sides \[256, 128, 64\]"),
    ],
)
def test_refuses_layouts_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        Layout(**arguments)


def test_refuses_images_by_name_and_says_which_sizes_fit():
    layout = Layout(multipliers=(1, 2, 4))
    with pytest.raises(ValueError, match="height 30 is no multiple of the factor 4; resize to 28 or 32"):
        layout.check(torch.zeros(1, 3, 30, 32))
    with pytest.raises(ValueError, match="width 2 is no multiple of the factor 4; resize to 4"):
        layout.check(torch.zeros(1, 3, 32, 2))
    with pytest.raises(ValueError, match=r"images must have shape \(b, 3, H, W\), got \(1, 1, 32, 32\)"):
        layout.check(torch.zeros(1, 1, 32, 32))
    with pytest.raises(ValueError, match=r"got \(3, 32, 32\)"):
        layout.check(torch.zeros(3, 32, 32))
