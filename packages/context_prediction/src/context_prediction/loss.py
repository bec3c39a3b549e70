r"""The context-prediction loss: how far the predicted neighbours of every unit are from its real ones."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ._types import Features, Grid, PerExample, Times, Units
from .decoder import DRAWN_AT_ONCE, DirectDecoder, DistributionDecoder, LogScale
from .distances import Distance
from .neighbourhood import Border, Neighbourhood
from .surroundings import Surroundings
from .transport import wasserstein
from .trunk import Block

CHUNK = 65_536


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

    Features `(b, d, *grid)`, the input of the denoiser's last layer or its estimate; target `(b, c, *grid)`, the clean
    latents, pixels or code vectors on the same grid. The times `t (b,)` are used only with `timed`. Numbers are drawn
    from `generator`, on its device, so that the same generator gives the same loss.

    * `stride`: an integer, or a tuple of rings: `(1, 2, 3)` together are the neighbourhood of stride 3. With `apart`,
      each ring is a neighbourhood of its own, with a mu and Sigma of its own in the decoder, and the loss is the mean
      over the rings.
    * `samples=None`: all neighbours of each unit against as many generated ones.
    * `block` makes the blocks of the decoder's trunk: residual of `kernel_size` if not given, `TransformerBlock`, ...
    * `distance` takes two sets of vectors per unit, `(units, q, c)` each, to `(units,)`; one that draws numbers takes
      `generator=` and is given one that starts alike for all units.
    * `chunk`: the most units, in multiples of 1,024, that are held at a time; of more, each part is computed again for
      the gradient, so that memory does not grow with the grid times `samples`. The numbers drawn are the same, and the
      loss is, to rounding. A trunk whose blocks are not pointwise is computed whole.

    Raises:
        ValueError: grids that differ or are too small for the neighbourhood, an empty batch, values that are not finite
            (left unchecked with `check_finite=False`), `samples` or `chunk` below 1.
        TypeError: integer features or targets.

    Source: ConPreDiff neighbourhood distribution loss, several strides, removal at inference
    Deviation: mean over units and channels where the equation sums over units: 1/(n c), not 1 [fixed].
    Unstated: what is predicted of latents and of tokens; the clean latents, and the frozen vectors of the clean codes
        [forward.target].
    Unstated: the number of draws; 5, NWR-GAE's default [samples].
    Unstated: whether the target is noisy, and whether it receives gradients; it is clean and receives none [fixed].
    Unstated: how several strides are combined; together in one set, or one term for each ring [stride, apart].
    """

    def __init__(
        self,
        *,
        features: int,
        target: int,
        stride: int | tuple[int, ...] = 3,
        apart: bool = False,
        samples: int | None = 5,
        width: int | None = None,
        latent: int | None = None,
        depth: int = 2,
        kernel_size: int = 1,
        block: Block | None = None,
        dimensions: int = 2,
        border: Border = Border.VALID,
        replacement: bool = True,
        log_scale: LogScale = LogScale.VARIANCE,
        timed: bool = False,
        distance: Distance = wasserstein,
        chunk: int = CHUNK,
        check_finite: bool = True,
    ) -> None:
        super().__init__()
        if samples is not None and samples < 1:
            raise ValueError(f"samples is {samples}: compare at least 1 neighbour, or None for all")
        if chunk < 1:
            raise ValueError(f"chunk is {chunk}: hold at least 1 unit at a time")
        self.neighbourhood = Neighbourhood(stride, border)
        self.neighbourhoods = self.neighbourhood.apart() if apart else (self.neighbourhood,)
        self.samples, self.replacement = samples, replacement
        self.distance, self.check_finite = distance, check_finite
        self.chunk = DRAWN_AT_ONCE * math.ceil(chunk / DRAWN_AT_ONCE)
        self.decoder = DistributionDecoder(
            features,
            target,
            width=width,
            latent=latent,
            depth=depth,
            kernel_size=kernel_size,
            block=block,
            dimensions=dimensions,
            log_scale=log_scale,
            timed=timed,
            rings=len(self.neighbourhoods),
        )

    def forward(
        self, features: Features, target: Grid, *, t: Times | None = None, generator: torch.Generator | None = None
    ) -> ContextLoss:
        _check(features, target, self.check_finite)
        around = Surroundings.draw(
            target.detach(), self.neighbourhoods, self.samples, replacement=self.replacement, generator=generator
        )
        distance = _seeded(self.distance, target.device, generator)
        if len(around.vectors) <= self.chunk:
            rows = self.decoder.trunk(features, t).flatten(0, -2)
            distances = self._distances(rows, around, slice(None), distance, generator)
        else:
            distances = self._in_parts(features, t, around, distance, generator)
        units = distances.reshape(target.shape[0], *target.shape[2:])
        return ContextLoss(units.flatten(1).mean(1), units)

    def _distances(
        self,
        rows: Tensor,
        around: Surroundings,
        part: slice,
        distance: Distance,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Mean over the neighbourhoods of the distances for a part of the units, from the trunk's rows for them."""
        latents, real = self.decoder.gaussians(rows), around.sets(part)
        sizes = [sets.shape[-2] for sets, _ in real]
        noise = torch.split(self.decoder.noise((len(rows),), sum(sizes), generator=generator), sizes, -2)
        terms = [
            _compare(distance, self.decoder.draw(latent, z), sets, counts)
            for latent, z, (sets, counts) in zip(latents, noise, real, strict=True)
        ]
        return torch.stack(terms).mean(0)

    def _in_parts(
        self,
        features: Tensor,
        t: Tensor | None,
        around: Surroundings,
        distance: Distance,
        generator: torch.Generator | None,
    ) -> Tensor:
        """The same for all units, part by part, each computed again when its gradient is asked for."""
        trunk, n = self.decoder.trunk, math.prod(features.shape[2:])
        if trunk.pointwise:
            rows, embedding = features.flatten(2).transpose(1, 2).reshape(-1, features.shape[1]), trunk.embed(t)
        else:
            rows, embedding = trunk(features, t).flatten(0, -2), None

        def distances(rows: Tensor, start: int, source: torch.Generator | None) -> Tensor:
            part = slice(start, start + len(rows))
            if trunk.pointwise:
                example = torch.arange(start, start + len(rows), device=rows.device) // n
                rows = trunk.refine(rows, None if embedding is None else embedding[example])
            return self._distances(rows, around, part, distance, source)

        parts = torch.split(rows, self.chunk)
        return torch.cat([_replayed(distances, rows, self.chunk * i, generator) for i, rows in enumerate(parts)])


class DirectContextPrediction(nn.Module):
    r"""Context head that predicts every neighbour in order, and its squared error.

    $\mathcal L_i = \frac{1}{|N_i^s|} \sum_{u \in N_i^s} \lVert \Psi(i \to u) - x^u \rVert^2 / c$, over the neighbours
    that exist. Use, shapes and errors as in `ContextPrediction`.

    Source: ConPreDiff point and neighbourhood loss
    Deviation: mean over neighbours, units and channels where the equation sums: 1/(n p c), not 1 [fixed].
    """

    def __init__(
        self,
        *,
        features: int,
        target: int,
        stride: int | tuple[int, ...] = 3,
        width: int | None = None,
        depth: int = 2,
        kernel_size: int = 1,
        block: Block | None = None,
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
            block=block,
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


def _compare(distance: Distance, generated: Tensor, real: Tensor, counts: Tensor | None) -> Tensor:
    """Distances `(units,)` of two sets each; with counts, of the first so many of either, one count at a time."""
    if counts is None:
        return distance(generated, real)
    order, distances = [], []
    for count in torch.unique(counts).tolist():
        order.append((counts == count).nonzero().squeeze(1))
        distances.append(distance(generated[order[-1], :count], real[order[-1], :count]))
    return torch.cat(distances)[torch.cat(order).argsort()]


def _seeded(distance: Distance, device: torch.device, generator: torch.Generator | None) -> Distance:
    """A distance that draws numbers, made to draw the same ones at every call; any other as it is."""
    if "generator" not in inspect.signature(distance).parameters:
        return distance
    source = generator.device if generator is not None else None
    seed = int(torch.randint(2**62, (), device=source, generator=generator))
    return lambda a, b: distance(a, b, generator=torch.Generator(device).manual_seed(seed))  # type: ignore[call-arg]


def _replayed(
    function: Callable[[Tensor, int, torch.Generator | None], Tensor],
    rows: Tensor,
    start: int,
    generator: torch.Generator | None,
) -> Tensor:
    """Call the function now and again for the gradient, where it draws the same numbers from the generator."""
    if generator is None:
        drawn_again: Tensor = checkpoint(function, rows, start, None, use_reentrant=False)
        return drawn_again
    device, before = generator.device, generator.get_state()

    def replay(rows: Tensor) -> tuple[Tensor, Tensor]:
        source = torch.Generator(device)
        source.set_state(before)
        return function(rows, start, source), source.get_state()

    result: tuple[Tensor, Tensor] = checkpoint(replay, rows, use_reentrant=False, preserve_rng_state=False)
    generator.set_state(result[1])
    return result[0]


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
