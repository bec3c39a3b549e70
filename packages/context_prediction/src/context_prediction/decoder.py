r"""Context decoders: from the features of one unit to its neighbours, as a distribution or one by one."""

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, nn

from ._types import Features, Ordered, Samples, Times
from .trunk import Block, Rows, Trunk, residual

SMALLEST_LOG_STD, LARGEST_LOG_STD = -5.0, 2.5
DRAWN_AT_ONCE = 1024


class LogScale(Enum):
    """How the output of the scale network reads; the value is its factor in the log of the standard deviation."""

    VARIANCE = 0.5
    STANDARD_DEVIATION = 1.0


@dataclass(frozen=True)
class Gaussian:
    """Independent normal variables, one per unit and latent channel: `(b, *grid, latent)` each."""

    mean: Rows
    std: Rows


class DistributionDecoder(nn.Module):
    r"""Generate `q` neighbours of every unit from its features alone.

    $\xi \sim \mathcal N(\mu_i, \Sigma_i)$, $\mu_i = \mathrm{FNN}_\mu(x^i)$, $\Sigma_i = \mathrm{diag}\exp
    \mathrm{FNN}_\sigma(x^i)$, $\psi_n(x^i, t) = \mathrm{FNN}_n(\xi)$, drawn as $\xi = \mu_i + \Sigma_i^{1/2} z$. The
    output width is that of one neighbour whatever the stride. `(b, d, *grid) -> (b, q, c, *grid)`; the log-variance is
    held in [-10, 5]. `width` is that of the residual blocks, `latent` that of xi and of the hidden layers of FNN_n.
    `LogScale.VARIANCE` is the equation; `LogScale.STANDARD_DEVIATION` is how NWR-GAE's released decoder reads it.

    `block` makes each of the `depth` blocks of the trunk from its width: residual blocks of `kernel_size` if not given,
    `TransformerBlock`, or your own. The features may be any grid of vectors: the input of the backbone's last layer, or
    its estimate of the clean latents. With several `rings` there is one mu and one Sigma for each; all else is shared.

    Raises:
        ValueError: `rings` below 1; `kernel_size` beside a `block` of your own; features of another width.

    Source: ConPreDiff distribution decoder
    Source: NWR-GAE neighbourhood decoder
    Unstated: whether the head is told t, an argument of the formulas; no, its features know it [timed].
    Unstated: widths and depths; two residual blocks, linear networks for mu and sigma, two hidden layers in FNN_n
        [width, latent, depth, block].
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
        block: Block | None = None,
        dimensions: int = 2,
        log_scale: LogScale = LogScale.VARIANCE,
        timed: bool = False,
        rings: int = 1,
    ) -> None:
        super().__init__()
        if rings < 1:
            raise ValueError(f"rings is {rings}: give the number of neighbourhoods told apart, at least 1")
        width = default_width(features, width)
        latent = width if latent is None else latent
        self.log_scale, self.rings = log_scale, rings
        block = chosen_block(block, kernel_size, dimensions)
        self.trunk = Trunk(features, width, depth=depth, block=block, dimensions=dimensions, timed=timed)
        self.scale_and_mean = nn.Linear(width, rings * 2 * latent)
        self.generate = nn.Sequential(
            nn.Linear(latent, latent), nn.SiLU(), nn.Linear(latent, latent), nn.SiLU(), nn.Linear(latent, target)
        )

    def distribution(self, features: Features, t: Times | None = None, *, ring: int = 0) -> Gaussian:
        """Latent distribution of each unit's neighbours, of those in one ring."""
        return self.gaussians(self.trunk(features, t))[ring]

    def gaussians(self, rows: Rows) -> list[Gaussian]:
        """Latent distributions, ring by ring, from the rows of the trunk."""
        return [self._gaussian(ring) for ring in self.scale_and_mean(rows).chunk(self.rings, -1)]

    def noise(self, units: tuple[int, ...], q: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Standard normal numbers `(*units, q, latent)`, drawn on the generator's device, else the decoder's.

        They are drawn for a fixed number of units at a time, so that asking for the same units in several calls, each
        but the last for a multiple of it, gives the same numbers.
        """
        weight = self.scale_and_mean.weight
        source = generator.device if generator is not None else weight.device
        noise = torch.empty(*units, q, weight.shape[0] // (2 * self.rings), device=source)
        for part in torch.split(noise.flatten(0, len(units) - 1), DRAWN_AT_ONCE):
            part.normal_(generator=generator)
        return noise.to(weight.device)

    def draw(self, latent: Gaussian, noise: Tensor) -> Tensor:
        """Neighbours generated from noise `(*units, q, latent)`: `(*units, q, c)`."""
        drawn = latent.mean[..., None, :] + latent.std[..., None, :] * noise.to(latent.mean)
        generated: Tensor = self.generate(drawn)
        return generated

    def forward(
        self,
        features: Features,
        q: int,
        t: Times | None = None,
        *,
        ring: int = 0,
        generator: torch.Generator | None = None,
    ) -> Samples:
        latent = self.distribution(features, t, ring=ring)
        noise = self.noise(tuple(latent.mean.shape[:-1]), q, generator=generator)
        return self.draw(latent, noise).movedim((-2, -1), (1, 2))

    def _gaussian(self, scale_and_mean: Rows) -> Gaussian:
        log_scale, mean = scale_and_mean.chunk(2, -1)
        log_scale = log_scale.to(torch.promote_types(log_scale.dtype, torch.float32))
        log_std = (self.log_scale.value * log_scale).clamp(SMALLEST_LOG_STD, LARGEST_LOG_STD)
        return Gaussian(mean, log_std.exp().to(mean.dtype))


class DirectDecoder(nn.Module):
    """Predict the neighbours of every unit one by one, in order: `(b, d, *grid) -> (b, p, c, *grid)`.

    Its output grows with the neighbourhood, `p * c` channels; it is the form that the bound is about, and the one that
    the distribution decoder does without. `block` as there.

    Raises:
        ValueError: `kernel_size` beside a `block` of your own; features of another width.

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
        block: Block | None = None,
        dimensions: int = 2,
        timed: bool = False,
    ) -> None:
        super().__init__()
        width = default_width(features, width)
        self.neighbours, self.target = neighbours, target
        block = chosen_block(block, kernel_size, dimensions)
        self.trunk = Trunk(features, width, depth=depth, block=block, dimensions=dimensions, timed=timed)
        self.read = nn.Linear(width, neighbours * target)

    def forward(self, features: Features, t: Times | None = None) -> Ordered:
        predicted: Tensor = self.read(self.trunk(features, t)).unflatten(-1, (self.neighbours, self.target))
        return predicted.movedim((-2, -1), (1, 2))


def default_width(features: int, width: int | None) -> int:
    """Width of a head: as given, else that of the features up to 256."""
    return min(features, 256) if width is None else width


def chosen_block(block: Block | None, kernel_size: int, dimensions: int) -> Block:
    """The block as given, else a residual one of this kernel."""
    if block is None:
        return residual(kernel_size, dimensions)
    if kernel_size != 1:
        raise ValueError(f"kernel_size is {kernel_size}, but block makes blocks of its own: give one of the two")
    return block
