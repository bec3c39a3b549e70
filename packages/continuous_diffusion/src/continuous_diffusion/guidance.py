"""Classifier-free guidance: a denoiser that wraps a denoiser."""

import torch
from torch import nn

from continuous_diffusion._types import Images, States, Times
from continuous_diffusion.denoiser import (
    Denoiser,
    Given,
    Prediction,
    PredictionWithVariance,
    guides,
    joined,
    null_class,
    null_condition,
)


class Guided(nn.Module):
    r"""$\hat e = e_u + s (e_c - e_u)$, on the network's value; `scale` $s = 1 + w$ of the paper, so 1 is no guidance.

    One call of the wrapped denoiser on a doubled batch, the unconditional half first; at scale 1 one plain call.
    `null` (1 or b, l, d_c) stands for the absent condition; the denoiser's own null states when not given.
    The features, and a learned variance, are those of the conditional half. Outside the steps of `interval`
    (first, last), both of them inside, an example is not guided; where none of the batch is, one plain call is made.

    Raises ValueError for an interval that is empty.

    Source: Classifier-free Guidance Eq. 6
    Source: Guidance Interval guidance in an interval
    """

    null: torch.Tensor | None

    def __init__(
        self,
        denoiser: Denoiser,
        scale: float,
        *,
        null: States | None = None,
        interval: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if interval is not None and interval[0] > interval[1]:
            raise ValueError(f"interval: {interval} holds no step; give its first and its last")
        self.denoiser = denoiser
        self.scale = scale
        self.interval = interval
        self.register_buffer("null", null, persistent=False)

    def forward(self, x_t: Images, t: Times, condition: Given | None = None) -> Prediction:
        """The guided prediction. Raises ValueError when there is nothing to be guided by."""
        if self.scale == 1:
            return self.denoiser(x_t, t, condition)
        if condition is None or not guides(condition):
            raise ValueError(f"condition is missing: guidance with scale {self.scale} has nothing to be guided by")
        scale: float | torch.Tensor = self.scale
        if self.interval is not None:
            first, last = self.interval
            inside = (t >= first) & (t <= last)
            if not inside.any():
                return self.denoiser(x_t, t, condition)
            scale = torch.where(inside, self.scale, 1.0)[:, None, None, None].to(x_t.dtype)
        null = self._null_like(condition)
        both = self.denoiser(torch.cat([x_t, x_t]), torch.cat([t, t]), joined(null, condition))
        unconditional, conditional = both.value.chunk(2)
        value, features = unconditional + scale * (conditional - unconditional), both.features.chunk(2)[1]
        if isinstance(both, PredictionWithVariance):
            return PredictionWithVariance(value=value, features=features, variance=both.variance.chunk(2)[1])
        return Prediction(value=value, features=features)

    def null_condition(self, b: int, l: int) -> States:  # noqa: E741
        """The states of "no condition", (b, l, d_c)."""
        if self.null is not None:
            return self.null.expand(b, l, -1)
        return self.denoiser.null_condition(b, l)  # type: ignore[attr-defined, no-any-return]

    @property
    def null_class(self) -> int | None:
        """The label of "no class"."""
        return null_class(self.denoiser)

    def _null_like(self, condition: Given) -> Given:
        if self.null is None:
            return null_condition(self.denoiser, condition)
        context = condition if isinstance(condition, torch.Tensor) else condition.context
        if context is None:
            raise ValueError("null: states were given, but the condition has no context")
        if self.null.shape[0] not in (1, len(context)) or self.null.shape[1:] != context.shape[1:]:
            raise ValueError(
                f"null: shape {tuple(self.null.shape)} beside a condition {tuple(context.shape)}; "
                "both go through the network in one batch, so pad them to one length"
            )
        return null_condition(self, condition)
