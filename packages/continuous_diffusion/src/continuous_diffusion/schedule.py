r"""Noise schedules: how much of the clean image is left at each step.

$\bar\alpha_t = \prod_{s \le t} (1 - \beta_s)$, with $\bar\alpha_0 = 1$: step 0 is clean, steps count 1..T.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from continuous_diffusion._types import Images, Levels, Signal


@dataclass(frozen=True, eq=False)
class Schedule:
    r"""The signal levels $\bar\alpha_0 = 1 > \bar\alpha_1 > \dots > \bar\alpha_T > 0$, float64, shape (T + 1,).

    Raises ValueError when the levels do not start at 1, do not fall, or reach 0.
    """

    signal: Levels

    def __post_init__(self) -> None:
        if self.signal.ndim != 1 or len(self.signal) < 2:
            raise ValueError(f"signal: shape {tuple(self.signal.shape)}; expected (T + 1,) with T at least 1")
        if self.signal[0] != 1:
            raise ValueError(f"signal[0] is {self.signal[0].item()}; index 0 is the clean image, so it must be 1")
        if not (self.signal.diff() < 0).all() or not self.signal[-1] > 0:
            raise ValueError("signal must fall strictly and stay above 0")

    @property
    def T(self) -> int:
        """Number of steps."""
        return len(self.signal) - 1

    @property
    def betas(self) -> Levels:
        r"""The variance added by each step, $\beta_t = 1 - \bar\alpha_t / \bar\alpha_{t-1}$, shape (T,)."""
        return 1 - self.signal[1:] / self.signal[:-1]

    @classmethod
    def from_betas(cls, betas: Levels) -> "Schedule":
        r"""The schedule of $\beta_1 \dots \beta_T$, each in (0, 1), float64, shape (T,)."""
        return cls(torch.cat([betas.new_ones(1), torch.cumprod(1 - betas, 0)]))

    @classmethod
    def sqrt_linear(cls, T: int = 1000, first: float = 0.0015, last: float = 0.0195) -> "Schedule":
        r"""Linear in $\sqrt{\beta}$, from `first` to `last`; the defaults are the faces', bedrooms' and ImageNet's.

        Published code calls this "linear" and others call it "scaled linear".

        Source: LDM noise schedule
        """
        return cls.from_betas(_line(math.sqrt(first), math.sqrt(last), T) ** 2)

    @classmethod
    def linear(cls, T: int = 1000, first: float = 1e-4, last: float = 0.02) -> "Schedule":
        r"""Linear in $\beta$, from `first` to `last`; the defaults are DDPM's."""
        return cls.from_betas(_line(first, last, T))

    @classmethod
    def cosine(cls, T: int = 1000, offset: float = 0.008, largest: float = 0.999) -> "Schedule":
        r"""$\bar\alpha_t = f(t) / f(0)$, $f(t) = \cos^2(\frac{t/T + s}{1 + s} \frac\pi2)$, $\beta_t \le$ `largest`.

        Source: Improved DDPM cosine schedule
        """
        wave = torch.cos((_line(0.0, 1.0, T + 1) + offset) / (1 + offset) * (math.pi / 2)) ** 2
        return cls.from_betas((1 - wave[1:] / wave[:-1]).clamp(max=largest))


def _line(first: float, last: float, length: int) -> Tensor:
    if length < 1:
        raise ValueError(f"T is {length}; a schedule needs at least one step")
    return torch.linspace(first, last, length, dtype=torch.float64)


class Coefficients(NamedTuple):
    r"""$\alpha = \sqrt{\bar\alpha}$ and $\sigma = \sqrt{1 - \bar\alpha}$, each (b, 1, 1, 1)."""

    alpha: Tensor
    sigma: Tensor


def coefficients(signal: Signal, like: Images) -> Coefficients:
    """The mixing coefficients of each example's signal level, computed in float64, given in the dtype of `like`."""
    signal = signal[:, None, None, None]
    return Coefficients(signal.sqrt().to(like.dtype), (1 - signal).sqrt().to(like.dtype))
