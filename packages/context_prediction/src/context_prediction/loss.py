r"""The context-prediction loss: how far the predicted neighbours of every unit are from its real ones."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ._types import Features, Grid, PerExample, Times, Units
from .decoder import DirectDecoder, DistributionDecoder, LogScale
from .neighbourhood import Border, Neighbourhood
from .transport import wasserstein

Distance = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class ContextLoss:
    """Loss per example, and the same per unit: `loss` is the mean of `units` over the grid."""

    loss: PerExample
    units: Units


class ContextPrediction(nn.Module):
    r"""Context head and its loss: predict the distribution of every point's neighbours from the features of that point.

    $\mathcal L_i = W_2^2\big(\psi_n(x^i, t), P_{N_i^s}\big)$, with `samples` draws from either side: generated ones by
    a `DistributionDecoder`, real ones from the neighbours of unit `i` in the target, which is detached. `loss (b,)` is
    the mean over units and channels, so that a weight keeps its meaning when the resolution changes. To train, add
    `weight(t) * context(features, target, t=t).loss` to the loss of the denoiser; to sample, leave this module out: the
    denoiser knows nothing of it.

    Features `(b, d, *grid)`, the input of the denoiser's last layer; target `(b, c, *grid)`, the clean latents, pixels
    or code vectors on the same grid. The times `t (b,)` are used only with `timed`. Numbers are drawn from `generator`,
    on its device, so that the same generator gives the same loss.

    Raises:
        ValueError: grids that differ or are too small for the neighbourhood, an empty batch, values that are not finite
            (left unchecked with `check_finite=False`).
        TypeError: integer features or targets.

    Source: ConPreDiff neighbourhood distribution loss, removal at inference
    Deviation: mean over units and channels where the equation sums over units: 1/(n c), not 1.
    Unstated: the number of draws; 5, NWR-GAE's default.
    Unstated: whether the target is noisy, and whether it receives gradients; it is clean and receives none.
    """

    def __init__(
        self,
        *,
        features: int,
        target: int,
        stride: int = 3,
        samples: int = 5,
        width: int | None = None,
        latent: int | None = None,
        depth: int = 2,
        kernel_size: int = 1,
        dimensions: int = 2,
        border: Border = Border.VALID,
        replacement: bool = True,
        log_scale: LogScale = LogScale.VARIANCE,
        timed: bool = False,
        distance: Distance = wasserstein,
        check_finite: bool = True,
    ) -> None:
        super().__init__()
        if samples < 1:
            raise ValueError(f"samples is {samples}: compare at least 1 neighbour")
        self.neighbourhood = Neighbourhood(stride, border)
        self.samples, self.replacement = samples, replacement
        self.distance, self.check_finite = distance, check_finite
        self.decoder = DistributionDecoder(
            features,
            target,
            width=width,
            latent=latent,
            depth=depth,
            kernel_size=kernel_size,
            dimensions=dimensions,
            log_scale=log_scale,
            timed=timed,
        )

    def forward(
        self, features: Features, target: Grid, *, t: Times | None = None, generator: torch.Generator | None = None
    ) -> ContextLoss:
        _check(features, target, self.check_finite)
        q = self.samples
        real = self.neighbourhood.draw(target.detach(), q, replacement=self.replacement, generator=generator)
        generated = self.decoder(features, q, t, generator=generator)
        units = self.distance(_sets(generated), _sets(real))
        return ContextLoss(units.flatten(1).mean(1), units)


class DirectContextPrediction(nn.Module):
    r"""Context head that predicts every neighbour in order, and its squared error.

    $\mathcal L_i = \frac{1}{|N_i^s|} \sum_{u \in N_i^s} \lVert \Psi(i \to u) - x^u \rVert^2 / c$, over the neighbours
    that exist. Use, shapes and errors as in `ContextPrediction`.

    Source: ConPreDiff point and neighbourhood loss
    Deviation: mean over neighbours, units and channels where the equation sums: 1/(n p c), not 1.
    """

    def __init__(
        self,
        *,
        features: int,
        target: int,
        stride: int = 3,
        width: int | None = None,
        depth: int = 2,
        kernel_size: int = 1,
        dimensions: int = 2,
        border: Border = Border.VALID,
        timed: bool = False,
        check_finite: bool = True,
    ) -> None:
        super().__init__()
        self.neighbourhood = Neighbourhood(stride, border)
        self.check_finite = check_finite
        self.decoder = DirectDecoder(
            features,
            target,
            neighbours=self.neighbourhood.size(dimensions),
            width=width,
            depth=depth,
            kernel_size=kernel_size,
            dimensions=dimensions,
            timed=timed,
        )

    def forward(
        self, features: Features, target: Grid, *, t: Times | None = None, generator: torch.Generator | None = None
    ) -> ContextLoss:
        _check(features, target, self.check_finite)
        real = self.neighbourhood.all_neighbours(target.detach())
        errors = (self.decoder(features, t).float() - real.values.float()).square().mean(2)
        units = (errors * real.exists).sum(1) / real.exists.sum(0)
        return ContextLoss(units.flatten(1).mean(1), units)


def _sets(samples: Tensor) -> Tensor:
    """One set of vectors per unit: `(b, q, c, *grid) -> (b, *grid, q, c)`."""
    return samples.movedim((1, 2), (-2, -1))


def _check(features: Tensor, target: Tensor, finite: bool) -> None:
    for name, values in {"features": features, "target": target}.items():
        if not values.is_floating_point():
            raise TypeError(
                f"{name} has type {values.dtype}: give vectors, such as latents or the code vectors of tokens"
            )
        if values.numel() == 0:
            raise ValueError(f"{name} has shape {tuple(values.shape)}, which is empty; give at least one example")
        if finite and not all(bound.isfinite() for bound in torch.aminmax(values.detach())):
            raise ValueError(
                f"{name} {tuple(values.shape)} holds values that are not finite; look for what diverged before it"
            )
    if features.shape[0] != target.shape[0] or features.shape[2:] != target.shape[2:]:
        raise ValueError(
            f"features {tuple(features.shape)} and target {tuple(target.shape)} must share batch and grid;"
            " resize the target to the grid of the features"
        )
