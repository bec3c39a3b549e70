r"""Context decoders: from the features of one unit to its neighbours, as a distribution or one by one."""

import math
from dataclasses import dataclass
from enum import Enum

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ._types import Features, Ordered, Samples, Times

Rows = Float[Tensor, "b *grid width"]

CONVOLUTIONS: dict[int, type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]] = {
    1: nn.Conv1d,
    2: nn.Conv2d,
    3: nn.Conv3d,
}
SMALLEST_LOG_STD, LARGEST_LOG_STD = -5.0, 2.5


class LogScale(Enum):
    """How the output of the scale network reads; the value is its factor in the log of the standard deviation."""

    VARIANCE = 0.5
    STANDARD_DEVIATION = 1.0


@dataclass(frozen=True)
class Gaussian:
    """Independent normal variables, one per unit and latent channel: `(b, *grid, latent)` each."""

    mean: Rows
    std: Rows


class Mix(nn.Module):
    """Linear map of each unit with `kernel_size` 1, of the units around it with more; rows in, rows out."""

    def __init__(self, width: int, *, kernel_size: int, dimensions: int) -> None:
        super().__init__()
        convolution = CONVOLUTIONS[dimensions]
        self.map = (
            nn.Linear(width, width) if kernel_size == 1 else convolution(width, width, kernel_size, padding="same")
        )

    def forward(self, rows: Rows) -> Rows:
        mixed: Tensor = (
            self.map(rows) if isinstance(self.map, nn.Linear) else self.map(rows.movedim(-1, 1)).movedim(1, -1)
        )
        return mixed


class ResidualBlock(nn.Module):
    """Residual block on rows: `x + map(SiLU(map(SiLU(norm(x)))))`.

    Unstated: the block's norm and kernel; over the channels of each unit, and 1, so that one unit tells its context.
    """

    def __init__(self, width: int, *, kernel_size: int, dimensions: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.expand = Mix(width, kernel_size=kernel_size, dimensions=dimensions)
        self.contract = Mix(width, kernel_size=kernel_size, dimensions=dimensions)

    def forward(self, rows: Rows) -> Rows:
        hidden = self.expand(nn.functional.silu(self.norm(rows)))
        summed: Tensor = rows + self.contract(nn.functional.silu(hidden))
        return summed


class Trunk(nn.Module):
    """Project features to the head's width and pass them through residual blocks; rows `(b, *grid, width)` out.

    With `timed`, a learned embedding of the time is added before the blocks.
    """

    def __init__(
        self, features: int, width: int, *, depth: int, kernel_size: int, dimensions: int, timed: bool
    ) -> None:
        super().__init__()
        if dimensions not in CONVOLUTIONS:
            raise ValueError(f"dimensions is {dimensions}: grids of 1, 2 or 3 dimensions are supported")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size is {kernel_size}: give an odd one, 1 to see one unit or 3 to see those around it"
            )
        self.features, self.dimensions = features, dimensions
        self.project = nn.Linear(features, width)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)) if timed else None
        blocks = (ResidualBlock(width, kernel_size=kernel_size, dimensions=dimensions) for _ in range(depth))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, features: Features, t: Times | None = None) -> Rows:
        if features.ndim != self.dimensions + 2 or features.shape[1] != self.features:
            raise ValueError(
                f"features has shape {tuple(features.shape)}, not (b, {self.features}) and {self.dimensions} grid axes;"
                " pass the width and the dimensions of your feature map to the constructor"
            )
        rows = self.project(features.movedim(1, -1))
        if self.time is not None:
            if t is None:
                raise ValueError("t is missing: this decoder was made with timed=True and needs the times (b,)")
            embedding = self.time(_sinusoids(t, rows.shape[-1]).to(self.project.weight.dtype))
            rows = rows + embedding.reshape(len(embedding), *(1 for _ in range(self.dimensions)), -1)
        refined: Tensor = self.blocks(rows)
        return refined


class DistributionDecoder(nn.Module):
    r"""Generate `q` neighbours of every unit from its features alone.

    $\xi \sim \mathcal N(\mu_i, \Sigma_i)$, $\mu_i = \mathrm{FNN}_\mu(x^i)$, $\Sigma_i = \mathrm{diag}\exp
    \mathrm{FNN}_\sigma(x^i)$, $\psi_n(x^i, t) = \mathrm{FNN}_n(\xi)$, drawn as $\xi = \mu_i + \Sigma_i^{1/2} z$. The
    output width is that of one neighbour whatever the stride. `(b, d, *grid) -> (b, q, c, *grid)`; the log-variance is
    held in [-10, 5]. `width` is that of the residual blocks, `latent` that of xi and of the hidden layers of FNN_n.
    `LogScale.VARIANCE` is the equation; `LogScale.STANDARD_DEVIATION` is how NWR-GAE's released decoder reads it.

    Source: ConPreDiff distribution decoder
    Unstated: widths and depths; two residual blocks, linear networks for mu and sigma, two hidden layers in FNN_n.
    """

    def __init__(
        self,
        features: int,
        target: int,
        *,
        width: int | None = None,
        latent: int | None = None,
        depth: int = 2,
        kernel_size: int = 1,
        dimensions: int = 2,
        log_scale: LogScale = LogScale.VARIANCE,
        timed: bool = False,
    ) -> None:
        super().__init__()
        width = default_width(features, width)
        latent = width if latent is None else latent
        self.log_scale = log_scale
        self.trunk = Trunk(features, width, depth=depth, kernel_size=kernel_size, dimensions=dimensions, timed=timed)
        self.scale_and_mean = nn.Linear(width, 2 * latent)
        self.generate = nn.Sequential(
            nn.Linear(latent, latent), nn.SiLU(), nn.Linear(latent, latent), nn.SiLU(), nn.Linear(latent, target)
        )

    def distribution(self, features: Features, t: Times | None = None) -> Gaussian:
        """Latent distribution of each unit's neighbours."""
        log_scale, mean = self.scale_and_mean(self.trunk(features, t)).chunk(2, -1)
        log_scale = log_scale.to(torch.promote_types(log_scale.dtype, torch.float32))
        log_std = (self.log_scale.value * log_scale).clamp(SMALLEST_LOG_STD, LARGEST_LOG_STD)
        return Gaussian(mean, log_std.exp().to(mean.dtype))

    def forward(
        self, features: Features, q: int, t: Times | None = None, *, generator: torch.Generator | None = None
    ) -> Samples:
        latent = self.distribution(features, t)
        source = generator.device if generator is not None else latent.mean.device
        shape = (*latent.mean.shape[:-1], q, latent.mean.shape[-1])
        noise = torch.randn(shape, device=source, generator=generator).to(latent.mean)
        drawn = latent.mean[..., None, :] + latent.std[..., None, :] * noise
        generated: Tensor = self.generate(drawn)
        return generated.movedim((-2, -1), (1, 2))


class DirectDecoder(nn.Module):
    """Predict the neighbours of every unit one by one, in order: `(b, d, *grid) -> (b, p, c, *grid)`.

    Its output grows with the neighbourhood, `p * c` channels; it is the form that the bound is about, and the one that
    the distribution decoder does without.

    Source: ConPreDiff point and neighbourhood loss
    """

    def __init__(
        self,
        features: int,
        target: int,
        *,
        neighbours: int,
        width: int | None = None,
        depth: int = 2,
        kernel_size: int = 1,
        dimensions: int = 2,
        timed: bool = False,
    ) -> None:
        super().__init__()
        width = default_width(features, width)
        self.neighbours, self.target = neighbours, target
        self.trunk = Trunk(features, width, depth=depth, kernel_size=kernel_size, dimensions=dimensions, timed=timed)
        self.read = nn.Linear(width, neighbours * target)

    def forward(self, features: Features, t: Times | None = None) -> Ordered:
        predicted: Tensor = self.read(self.trunk(features, t)).unflatten(-1, (self.neighbours, self.target))
        return predicted.movedim((-2, -1), (1, 2))


def default_width(features: int, width: int | None) -> int:
    """Width of a head: as given, else that of the features up to 256."""
    return min(features, 256) if width is None else width


def _sinusoids(t: Times, width: int) -> Float[Tensor, "b width"]:
    """Sines and cosines of the time at geometric frequencies from 1 to 1/10000, cut to `width`."""
    half = (width + 1) // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], -1)[:, :width]
