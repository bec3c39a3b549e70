import math

import pytest
import torch

from discrete_diffusion import blocks
from discrete_diffusion.blocks import (
    AdaptiveNorm,
    ConvolutionalFeedForward,
    DepthwiseConvolution,
    FeedForward,
    LearnedClass,
    LearnedTime,
    SinusoidalTime,
    to_grid,
    to_tokens,
)


def test_the_norm_is_scaled_and_shifted_by_the_time() -> None:
    """Oracle: the formula, written with mean and variance.

    Checks: VQ-Diffusion adaptive layer norm
    """
    torch.manual_seed(0)
    norm = AdaptiveNorm(LearnedTime(7, 8), 8)
    x, t = torch.randn(2, 3, 8), torch.tensor([1, 7])
    embedding = norm.embedding.table.weight[[0, 6]]
    scale, shift = (torch.sigmoid(embedding) * embedding @ norm.modulation.weight.T + norm.modulation.bias).chunk(2, -1)
    normed = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(norm(x, t), normed * (1 + scale[:, None]) + shift[:, None])


def test_sinusoidal_time_counts_from_zero_in_four_thousandths() -> None:
    """Oracle: the formula in plain Python.

    Checks: VQ-Diffusion adaptive layer norm
    """
    embedding = SinusoidalTime(50, 6)(torch.tensor([11]))[0]
    angle = 10 / 50 * 4000
    frequencies = [10000 ** (-i / 2) for i in range(3)]
    expected = [math.sin(angle * f) for f in frequencies] + [math.cos(angle * f) for f in frequencies]
    torch.testing.assert_close(embedding, torch.tensor(expected), atol=1e-4, rtol=0)


def test_no_class_is_the_mean_of_the_classes() -> None:
    classes = LearnedClass(3, 4)
    torch.testing.assert_close(
        classes(torch.tensor([3, 1])), torch.stack([classes.table.weight.mean(0), classes.table.weight[1]])
    )


def test_feed_forward_nets_apply_gelu2() -> None:
    """Oracle: the activation as the released code defines it, on the weights as they are."""
    torch.manual_seed(0)
    x = torch.randn(2, 6, 8)
    dense, convolutional = FeedForward(8, 2), ConvolutionalFeedForward(8, 2, (2, 3))
    hidden = dense.expand(x)
    expected = dense.contract(hidden * torch.sigmoid(1.702 * hidden))
    torch.testing.assert_close(dense(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(dense(x), expected)
    hidden = convolutional.expand(to_grid(x, (2, 3)))
    expected = to_tokens(convolutional.contract(hidden * torch.sigmoid(1.702 * hidden)))
    torch.testing.assert_close(convolutional(x), expected)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_large_feed_forward_nets_copy_no_weights(monkeypatch: pytest.MonkeyPatch, precision: torch.dtype) -> None:
    """Oracle: the same net treated as a small one, and its gradients; what is saved for these is counted."""
    torch.manual_seed(0)
    net, x = FeedForward(8, 4), torch.randn(2, 3, 8, requires_grad=True)
    parameters = {parameter.data_ptr() for parameter in net.parameters()}
    found, copies = [], []
    for large in (2**20, 0):
        monkeypatch.setattr(blocks, "LARGE", large)
        saved: list[torch.Tensor] = []
        with (
            torch.autograd.graph.saved_tensors_hooks(lambda x, saved=saved: (saved.append(x), x)[1], lambda x: x),
            torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16),
        ):
            out = net(x)
        weights = [x for x in saved if x.numel() == net.expand.weight.numel() and x.data_ptr() not in parameters]
        copies.append(len(weights))
        found.append((out, *torch.autograd.grad(out.float().square().sum(), (x, *net.parameters()))))
    tolerance = {"atol": 1e-5, "rtol": 1e-5} if precision is torch.float32 else {"atol": 0.05, "rtol": 0.05}
    for small, large in zip(*found, strict=True):
        torch.testing.assert_close(small, large, **tolerance)
    assert found[1][0].dtype == precision
    assert copies == [2, 0] if precision is torch.float32 else copies[1] <= copies[0]


def test_the_depthwise_convolution_sees_the_eight_neighbours_on_the_grid() -> None:
    """Oracle: an impulse at row 1, column 2 of a 4 x 5 grid reaches the 3 x 3 cells around it, in its channel alone."""
    convolution = DepthwiseConvolution(2, (4, 5))
    x = torch.zeros(1, 20, 2)
    x[0, 1 * 5 + 2, 1] = 1
    response = to_grid(convolution(x) - convolution(torch.zeros_like(x)), (4, 5))[0]
    expected = torch.zeros(2, 4, 5)
    expected[1, 0:3, 1:4] = convolution.convolve.weight[1, 0].flip(0, 1)
    torch.testing.assert_close(response, expected, atol=1e-6, rtol=0)
