"""The context loss beside a diffusion loss: the one place where the two are added."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from context_prediction import ContextPrediction, DirectContextPrediction, Signal, total_loss
from reproductions.experiment import AnyContext, DirectContext


class WithContext(nn.Module):
    """`total = (denoising.loss + weight(t) * context.loss).mean()`, and its two parts.

    signal: (T + 1,) what is left of the image at each time: abar_t, or one minus the mask rate.

    Source: ConPreDiff discrete objective, continuous objective
    """

    def __init__(self, settings: AnyContext, *, features: int, target: int, signal: Tensor) -> None:
        super().__init__()
        self.context = head(settings, features, target)
        self.weight = Signal(settings.weight, signal)

    def forward(self, denoising: Any, target: Tensor, *, generator: torch.Generator) -> Mapping[str, Tensor]:
        """Named scalars of a batch; `target` (b, c, h, w) is the clean grid whose neighbours are predicted."""
        context = self.context(denoising.features, target, t=denoising.t, generator=generator)
        total = total_loss(denoising.loss, context.loss, self.weight(denoising.t))
        return {**total.terms, "loss": total.loss.mean()}


def head(settings: AnyContext, features: int, target: int) -> ContextPrediction | DirectContextPrediction:
    """The context head, from features of a width to targets of a width."""
    if isinstance(settings, DirectContext):
        return DirectContextPrediction(features=features, target=target, stride=settings.stride)
    return ContextPrediction(
        features=features,
        target=target,
        stride=settings.stride,
        samples=settings.samples,
        latent=settings.latent,
    )
