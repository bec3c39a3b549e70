r"""Weights $\lambda_t$ of the context loss over time. Any callable from times `(b,)` to weights `(b,)` is one."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch

from ._types import Levels, PerExample, Times


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
    Unstated: the schedule and its scale; the signal level, with a value about 0.1.
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
    r"""$\lambda_t = \lambda (1 - t / T)$: falls from the clean end to nothing at the last step.

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


def _require_weight(value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"value is {value}: a weight is finite and not negative")
