"""The parts of a U-Net that do not attend: time, residual blocks, changes of resolution."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from continuous_diffusion._types import Features, Times

WIDE = 2**20
"""Number of a convolution's weights from which on it pays to add some of them up before."""


class TimeEmbedding(nn.Module):
    r"""$\mathrm{MLP}(\cos(t' f), \sin(t' f))$ with $t' = t - 1$ and $f_i = 10000^{-2i/d}$, after its activation.

    The published networks count steps from 0; here they count from 1, hence $t'$.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.channels = channels
        self.hidden = nn.Linear(channels, width)
        self.out = nn.Linear(width, width)

    def forward(self, t: Times, added: Tensor | None = None) -> Tensor:
        """Steps (b,) to vectors (b, width); `added` (b, width) joins them before the activation."""
        vectors = self.vectors(t)
        return F.silu(vectors if added is None else vectors + added)

    def vectors(self, t: Times) -> Tensor:
        """Steps (b,) to vectors (b, width) before their activation."""
        half = self.channels // 2
        exponents = torch.arange(half, dtype=torch.float32, device=t.device) / half
        angles = (t - 1)[:, None].float() * torch.exp(-math.log(10000) * exponents)
        waves = torch.cat([angles.cos(), angles.sin()], -1).to(self.hidden.weight.dtype)
        made: Tensor = self.out(F.silu(self.hidden(waves)))
        return made


class ResidualBlock(nn.Module):
    """Normalise, activate, convolve, twice, with the time in between, added to the input.

    `resample`, when given, is applied to both branches. With `scale_shift` the time scales and shifts the second
    normalisation; without, it is added before it. The last convolution starts at 0.
    """

    def __init__(
        self,
        width_in: int,
        width_out: int,
        time_width: int,
        *,
        groups: int,
        scale_shift: bool = False,
        resample: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.resample = nn.Identity() if resample is None else resample
        self.norm_in = nn.GroupNorm(groups, width_in)
        self.conv_in = nn.Conv2d(width_in, width_out, 3, padding=1)
        self.time = nn.Linear(time_width, 2 * width_out if scale_shift else width_out)
        self.norm_out = nn.GroupNorm(groups, width_out)
        self.conv_out = zeroed_convolution(width_out, width_out)
        self.skip = nn.Identity() if width_in == width_out else nn.Conv2d(width_in, width_out, 1)

    def forward(self, x: Features, time: Tensor) -> Tensor:
        """Features (b, d, h, w) and time vectors (b, time_width) to features (b, width_out, h', w')."""
        h = resampled(activated(self.norm_in(x)), self.resample, self.conv_in)
        shift = self.time(time)[:, :, None, None]
        if self.scale_shift:
            scale, shift = shift.chunk(2, 1)
            h = self.norm_out(h) * (1 + scale) + shift
        else:
            h = self.norm_out(h + shift)
        h = self.conv_out(activated(h))
        kept: Tensor = self.skip(self.resample(x))
        added: Tensor = kept + h
        return added


def activated(fresh: Tensor) -> Tensor:
    """SiLU of a tensor that nobody else reads: in its own place where no gradient will ask for it."""
    return F.silu(fresh, inplace=not torch.is_grad_enabled())


def zeroed_convolution(width_in: int, width_out: int) -> nn.Conv2d:
    """A 3 x 3 convolution whose parameters are all 0."""
    convolution = nn.Conv2d(width_in, width_out, 3, padding=1)
    for parameter in convolution.parameters():
        nn.init.zeros_(parameter)
    return convolution


class Halve(nn.Module):
    """Half the resolution, by the mean of each 2 x 2 square."""

    def forward(self, x: Features) -> Tensor:
        """Features (b, d, h, w) to (b, d, h / 2, w / 2)."""
        return F.avg_pool2d(x, 2)


class Double(nn.Module):
    """Twice the resolution, by repetition."""

    def forward(self, x: Features) -> Tensor:
        """Features (b, d, h, w) to (b, d, 2 h, 2 w)."""
        return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Downsample(nn.Module):
    """Half the resolution, by a convolution of stride 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Features) -> Tensor:
        """Features (b, d, h, w) to (b, d, h / 2, w / 2)."""
        halved: Tensor = self.conv(x)
        return halved


class Upsample(nn.Module):
    """Twice the resolution, by repetition and a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.repeat = Double()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Features) -> Tensor:
        """Features (b, d, h, w) to (b, d, 2 h, 2 w)."""
        return resampled(x, self.repeat, self.conv)


def resampled(x: Features, resample: nn.Module, conv: nn.Conv2d) -> Tensor:
    """The 3 x 3 convolution of a resampled map; wide maps are not repeated before, where that is faster."""
    wide = conv.weight.numel() > WIDE and x.numel() >= x.shape[1] ** 2
    if isinstance(resample, Double) and wide and x.device.type == "cpu":
        return at_twice_the_resolution(x, conv.weight, conv.bias)
    convolved: Tensor = conv(resample(x))
    return convolved


def at_twice_the_resolution(x: Features, weight: Tensor, bias: Tensor | None) -> Tensor:
    r"""The 3 x 3 convolution of `x` (b, d, h, w) repeated to (b, d, 2 h, 2 w), without the repetition.

    An input is met by two neighbouring elements of each row and column of the kernel at once. Their sums make a kernel
    of 4 x 4, $K = S^\top W S$, whose transposed convolution of stride 2 takes 4/9 of the multiplications.
    """
    sums = x.new_tensor([[0, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 0]], dtype=weight.dtype)
    kernel = (weight.flatten(2) @ torch.kron(sums, sums)).reshape(*weight.shape[:2], 4, 4)
    return F.conv_transpose2d(x, kernel.transpose(0, 1), bias, stride=2, padding=1)
