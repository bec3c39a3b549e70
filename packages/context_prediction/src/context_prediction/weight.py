r"""Weights $\lambda_t$ of the context loss over time, and the total loss; any callable from times to weights is one."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ._types import Levels, PerExample, Scalar, Times


class Weight(Protocol):
    """Map times `(b,)`, 0 clean to T noise, to non-negative weights `(b,)`."""

    def __call__(self, t: Times) -> PerExample: ...


@dataclass(frozen=True)
class Constant:
    r"""$\lambda_t = \lambda$.

    Source: ConPreDiff time weight
    """

    value: float

    def __post_init__(self) -> None:
        _require_weight(self.value)

    def __call__(self, t: Times) -> PerExample:
        return torch.full(t.shape, self.value, device=t.device)


@dataclass(frozen=True)
class Signal:
    r"""$\lambda_t = \lambda \cdot$ `levels[t]`: as much as is left of the clean signal at time t.

    Levels `(T + 1,)`, from `t = 0`: $\bar\alpha_t$ for a Gaussian process, $1 - \bar\gamma_t$ (the share of unmasked
    tokens) for an absorbing one. When the input is nearly noise the neighbourhood cannot be told, and the term would
    only add gradient noise.

    Raises:
        ValueError: a negative or non-finite value or level.

    Source: ConPreDiff time weight
    Unstated: the schedule and its scale; the signal level, with a value about 0.1 [value, levels, Constant, Linear].
    """

    value: float
    levels: Levels

    def __post_init__(self) -> None:
        _require_weight(self.value)
        if not (torch.isfinite(self.levels).all() and (self.levels >= 0).all()):
            raise ValueError(
                f"levels {tuple(self.levels.shape)} has negative or non-finite values; give signal levels, as abar_t"
            )

    def __call__(self, t: Times) -> PerExample:
        return (self.value * self.levels.to(t.device)[t]).float()


@dataclass(frozen=True)
class Linear:
    r"""$\lambda_t = \lambda (1 - t / T)$ for t in 0 .. T: falls from the clean end to nothing at the last step.

    Source: ConPreDiff time weight
    """

    value: float
    T: int

    def __post_init__(self) -> None:
        _require_weight(self.value)
        if self.T < 1:
            raise ValueError(f"T is {self.T}: give the number of steps, at least 1")

    def __call__(self, t: Times) -> PerExample:
        return self.value * (1 - t.float() / self.T)


@dataclass(frozen=True)
class TotalLoss:
    """The loss of each example; and for a log, detached, the means of `loss`, `loss/base` and `loss/context`.

    The last is not weighted: it says how well the context is predicted, whatever the weight.
    """

    loss: PerExample
    terms: Mapping[str, Scalar]


def total_loss(
    base: PerExample | Scalar, context: PerExample, weights: PerExample, *, check_finite: bool = True
) -> TotalLoss:
    r"""Add the weighted context loss to that of the denoiser: $\mathcal L + \lambda_t \mathcal L_{\mathrm{context}}$.

    `base (b,)`, or its mean over the batch; `context (b,)` is `ContextLoss.loss`, `weights (b,)` a weight's values at
    the times of the batch. A weight of shape `(b, 1)`, which would mix the examples, is refused.

    Raises:
        ValueError: other shapes; weights that are negative or not finite (left unchecked with `check_finite=False`,
            which saves a GPU the wait for their values).

    Source: ConPreDiff discrete objective, continuous objective
    """
    if context.ndim != 1 or weights.shape != context.shape or base.shape not in (context.shape, ()):
        raise ValueError(
            f"base {tuple(base.shape)}, context {tuple(context.shape)} and weights {tuple(weights.shape)} must be one"
            " number per example, (b,); average each loss over the axes of an example, and give the weight times (b,)"
        )
    if check_finite:
        refused = weights[~(weights.isfinite() & (weights >= 0))]
        if len(refused):
            raise ValueError(
                f"weights {tuple(weights.shape)} holds {float(refused[0])}: a weight is finite and not negative; look"
                " at its formula, and whether the times are in its range"
            )
    loss = base + weights * context
    parts: dict[str, Tensor] = {"loss": loss, "loss/base": base, "loss/context": context}
    return TotalLoss(loss, {name: part.detach().mean() for name, part in parts.items()})


def _require_weight(value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"value is {value}: a weight is finite and not negative")
