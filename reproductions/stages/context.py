"""The context loss beside a diffusion loss: the one place where the two are added."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from context_prediction import (
    Border,
    Constant,
    ContextPrediction,
    DirectContextPrediction,
    Linear,
    Signal,
    Weight,
    chamfer,
    energy_distance,
    total_loss,
    wasserstein,
)
from reproductions.experiment import AblatedContext, AnyContext, Beyond, DirectContext, Fading, Matching

DISTANCES = {Matching.TRANSPORT: wasserstein, Matching.ENERGY: energy_distance, Matching.CHAMFER: chamfer}
BORDERS = {Beyond.NOTHING: Border.VALID, Beyond.OPPOSITE: Border.CIRCULAR}


def last_features(denoising: Any) -> Tensor:
    """What the denoiser's last layer reads (b, d, h, w)."""
    features: Tensor = denoising.features
    return features


class WithContext(nn.Module):
    """`total = (denoising.loss + weight(t) * context.loss).mean()`, and its two parts.

    signal: (T + 1,) what is left of the image at each time: abar_t, or one minus the mask rate; reads: what the head
    is given of a denoising, (b, features, h, w); width: of the head, if not that of the features.

    Source: ConPreDiff discrete objective, continuous objective
    """

    def __init__(
        self,
        settings: AnyContext,
        *,
        features: int,
        target: int,
        signal: Tensor,
        reads: Callable[[Any], Tensor] = last_features,
        width: int | None = None,
    ) -> None:
        super().__init__()
        self.context, self.reads = head(settings, features, target, width), reads
        self.weight = weight(settings, signal)

    def forward(self, denoising: Any, target: Tensor, *, generator: torch.Generator) -> Mapping[str, Tensor]:
        """Named scalars of a batch; `target` (b, c, h, w) is the clean grid whose neighbours are predicted."""
        context = self.context(self.reads(denoising), target, t=denoising.t, generator=generator)
        total = total_loss(denoising.loss, context.loss, self.weight(denoising.t))
        return {**total.terms, "loss": total.loss.mean()}


def head(
    settings: AnyContext, features: int, target: int, width: int | None = None
) -> ContextPrediction | DirectContextPrediction:
    """The context head, from features of a width to targets of a width."""
    if isinstance(settings, DirectContext):
        return DirectContextPrediction(features=features, target=target, stride=settings.stride, width=width)
    return ContextPrediction(
        features=features,
        target=target,
        stride=settings.stride,
        samples=settings.samples,
        latent=settings.latent,
        width=width,
        **_ablated(settings),
    )


def _ablated(settings: AnyContext) -> Mapping[str, Any]:
    if not isinstance(settings, AblatedContext):
        return {}
    return {"distance": DISTANCES[settings.distance], "border": BORDERS[settings.beyond]}


def weight(settings: AnyContext, signal: Tensor) -> Weight:
    """The weight over time; signal: as in `WithContext`."""
    fading = settings.fading if isinstance(settings, AblatedContext) else Fading.SIGNAL
    match fading:
        case Fading.SIGNAL:
            return Signal(settings.weight, signal)
        case Fading.LINEAR:
            return Linear(settings.weight, len(signal) - 1)
        case Fading.CONSTANT:
            return Constant(settings.weight)
