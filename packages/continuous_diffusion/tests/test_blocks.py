"""What the parts of a U-Net compute, against the same written with plain operations."""

from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from continuous_diffusion import blocks
from continuous_diffusion.blocks import Double, Halve, ResidualBlock, Upsample, at_twice_the_resolution


def repeated(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), weight, bias, padding=1)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("h", "w"), [(1, 1), (2, 5), (4, 3)])
def test_a_convolution_at_twice_the_resolution_is_one_of_the_repeated_map(h: int, w: int, bias: bool) -> None:
    """Values and gradients, in float64."""
    x = torch.randn(2, 3, h, w, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    added = torch.randn(4, dtype=torch.float64, requires_grad=True) if bias else None
    inputs = [x, weight] if added is None else [x, weight, added]
    found, expected = at_twice_the_resolution(x, weight, added), repeated(x, weight, added)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    upstream = torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad(found, inputs, upstream), torch.autograd.grad(expected, inputs, upstream), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_wide_maps_are_not_repeated_and_others_are_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the positions are few, or the weights, nothing is summed before."""
    asked: list[tuple[int, ...]] = []

    def noted(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        asked.append(tuple(x.shape))
        return at_twice_the_resolution(x, weight, bias)

    monkeypatch.setattr(blocks, "at_twice_the_resolution", noted)
    for wide, side in product([True, False], [4, 6]):
        monkeypatch.setattr(blocks, "WIDE", 1000 if wide else 2**20)
        layer, x = Upsample(32), torch.randn(1, 32, side, side)
        found, expected = layer(x), repeated(x, layer.conv.weight, layer.conv.bias)
        if wide and side == 6:
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        else:
            assert torch.equal(found, expected)
    assert asked == [(1, 32, 6, 6)]


@pytest.mark.parametrize("resample", [Double(), Halve()])
def test_wide_residual_blocks_resample_as_narrow_ones(resample: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the same block with its maps repeated."""
    block, x, time = ResidualBlock(32, 32, 8, groups=8, resample=resample), torch.randn(2, 32, 6, 6), torch.randn(2, 8)
    nn.init.normal_(block.conv_out.weight, std=0.1)
    narrow = block(x, time)
    monkeypatch.setattr(blocks, "WIDE", 1000)
    torch.testing.assert_close(block(x, time), narrow, rtol=1e-5, atol=1e-5)
