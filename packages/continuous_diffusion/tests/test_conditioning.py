"""Classes, maps and holes, against the official tensors and their definitions."""

from typing import Any

import pytest
import torch

from continuous_diffusion import ClassStates, MapRescaler, beside_hole, one_hot_maps


@pytest.mark.parity
def test_the_official_hole(golden: Any) -> None:
    """Checks: LDM inpainting"""
    io = golden("ldm_unet_concat").io
    assert torch.equal(beside_hole(io["masked_latent"], io["mask_pixels"]), io["c_concat"])


def test_a_hole_keeps_its_place() -> None:
    """Checks: LDM inpainting"""
    known, mask = torch.randn(1, 3, 2, 2), torch.zeros(1, 1, 8, 8)
    mask[..., 4:, :4] = 1
    beside = beside_hole(known, mask)
    assert torch.equal(beside[:, :3], known)
    assert beside[0, 3].tolist() == [[-1, -1], [1, -1]]


def test_wrong_masks_are_named() -> None:
    known = torch.zeros(1, 3, 2, 2)
    with pytest.raises(ValueError, match="values other than 0"):
        beside_hole(known, torch.full((1, 1, 8, 8), 0.5))
    with pytest.raises(ValueError, match=r"mask: shape \(1, 1, 7, 8\) beside a latent"):
        beside_hole(known, torch.zeros(1, 1, 7, 8))
    with pytest.raises(ValueError, match="beside a latent"):
        beside_hole(torch.zeros(2, 3, 2, 2), torch.zeros(1, 1, 8, 8))


def test_a_class_is_one_state_and_the_last_is_none() -> None:
    """Checks: LDM conditioning mechanisms"""
    states = ClassStates(classes=3, width=5)
    assert states.null_class == 3
    assert torch.equal(states(torch.tensor([1, 3])), states.embedding.weight[[1, 3]][:, None])


def test_maps_are_averaged_and_mixed() -> None:
    """Two halvings of a bilinear map with even sides are means of 4 x 4 squares.

    Checks: LDM conditioning mechanisms
    """
    rescaler = MapRescaler(channels_in=5, channels_out=2, stages=2)
    labels = torch.randint(0, 5, (2, 8, 12))
    maps = one_hot_maps(labels, 5)
    assert torch.equal(maps.argmax(1), labels)
    means = torch.nn.functional.avg_pool2d(maps, 4)
    expected = torch.einsum("oi,bihw->bohw", rescaler.mix.weight[:, :, 0, 0], means)
    torch.testing.assert_close(rescaler(maps), expected)
