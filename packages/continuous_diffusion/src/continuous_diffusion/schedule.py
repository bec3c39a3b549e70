r"""Noise schedules: how much of the clean image is left at each step.

$\bar\alpha_t = \prod_{s \le t} (1 - \beta_s)$, with $\bar\alpha_0 = 1$: step 0 is clean, steps count 1..T.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from continuous_diffusion._types import Levels


class Betas(Enum):
    r"""The first and last $\beta$ of LDM's models, to be unpacked: `Schedule.sqrt_linear(1000, *Betas.TEXT.value)`.

    Source: LDM noise schedule
    """

    FACES = (0.0015, 0.0195)
    """CelebA-HQ, FFHQ, bedrooms, ImageNet, and text at 256 pixels."""
    CHURCHES = (0.0015, 0.0155)
    """Churches and super-resolution."""
    INPAINTING = (0.0015, 0.0205)
    """Inpainting, layouts and semantic maps."""
    TEXT = (0.00085, 0.012)
    """The 1.45 B text-to-image model."""


@dataclass(frozen=True, eq=False)
class Schedule:
    r"""The signal levels $\bar\alpha_0 = 1 > \bar\alpha_1 > \dots > \bar\alpha_T \ge 0$, float64, shape (T + 1,).

    `scale`, of the same shape, is what the state is multiplied by,
    $x_t = r_t (\sqrt{\bar\alpha_t} x_0 + \sqrt{1 - \bar\alpha_t} \epsilon)$; None is 1, the variance kept.

    Raises ValueError when the levels do not start at 1, do not fall, or reach 0 before the end, and for a scale of
    another shape, that is not positive, or that changes the clean image.
    """

    signal: Levels
    scale: Levels | None = None

    def __post_init__(self) -> None:
        if self.signal.ndim != 1 or len(self.signal) < 2:
            raise ValueError(f"signal: shape {tuple(self.signal.shape)}; expected (T + 1,) with T at least 1")
        if self.signal[0] != 1:
            raise ValueError(f"signal[0] is {self.signal[0].item()}; index 0 is the clean image, so it must be 1")
        if not (self.signal.diff() < 0).all() or not self.signal[-1] >= 0:
            raise ValueError("signal must fall strictly and stay above 0, or end there")
        if self.scale is None:
            return
        if self.scale.shape != self.signal.shape:
            raise ValueError(f"scale: shape {tuple(self.scale.shape)} beside a signal {tuple(self.signal.shape)}")
        if self.scale[0] != 1 or not (self.scale > 0).all():
            raise ValueError("scale must be positive, and 1 at index 0, the clean image")

    @property
    def T(self) -> int:
        """Number of steps."""
        return len(self.signal) - 1

    @property
    def betas(self) -> Levels:
        r"""The variance added by each step, $\beta_t = 1 - \bar\alpha_t / \bar\alpha_{t-1}$, shape (T,)."""
        return 1 - self.signal[1:] / self.signal[:-1]

    @cached_property
    def log_snr(self) -> Levels:
        r"""$\lambda_t = \log \frac{\bar\alpha_t}{1 - \bar\alpha_t}$, falling, infinite at t = 0, shape (T + 1,)."""
        return torch.logit(self.signal)

    def at_log_snr(self, log_snr: Levels) -> Levels:
        """The steps that have these log signal-to-noise ratios: fractions of steps, between 1 and T, of any shape (_,).

        Between two steps the log signal-to-noise ratio is taken to be linear.
        """
        levels = -self.log_snr[1:]
        upper = torch.searchsorted(levels, -log_snr).clamp(1, max(self.T - 1, 1)).clamp(max=self.T - 1)
        lower = (upper - 1).clamp(min=0)
        share = ((-log_snr - levels[lower]) / (levels[upper] - levels[lower])).nan_to_num(0.0).clamp(0, 1)
        return lower + 1 + share

    @classmethod
    def from_betas(cls, betas: Levels) -> "Schedule":
        r"""The schedule of $\beta_1 \dots \beta_T$, each in (0, 1), float64, shape (T,)."""
        return cls(torch.cat([betas.new_ones(1), torch.cumprod(1 - betas, 0)]))

    @classmethod
    def sqrt_linear(cls, T: int = 1000, first: float = 0.0015, last: float = 0.0195) -> "Schedule":
        r"""Linear in $\sqrt{\beta}$, from `first` to `last`; the defaults are `Betas.FACES`.

        Published code calls this "linear" and others call it "scaled linear".

        Source: LDM noise schedule
        """
        return cls.from_betas(_line(math.sqrt(first), math.sqrt(last), T) ** 2)

    @classmethod
    def linear(cls, T: int = 1000, first: float = 1e-4, last: float = 0.02) -> "Schedule":
        r"""Linear in $\beta$, from `first` to `last`; the defaults are DDPM's."""
        return cls.from_betas(_line(first, last, T))

    @classmethod
    def sqrt(cls, T: int = 1000, first: float = 1e-4, last: float = 0.02) -> "Schedule":
        r"""$\beta = \sqrt{\cdot}$ of a line from `first` to `last`: LDM's fourth, "sqrt"; nearly all noise at once."""
        return cls.from_betas(_line(first, last, T).sqrt())

    @classmethod
    def cosine(cls, T: int = 1000, offset: float = 0.008, largest: float = 0.999) -> "Schedule":
        r"""$\bar\alpha_t = f(t) / f(0)$, $f(t) = \cos^2(\frac{t/T + s}{1 + s} \frac\pi2)$, $\beta_t \le$ `largest`.

        Source: Improved DDPM cosine schedule
        """
        wave = torch.cos((_line(0.0, 1.0, T + 1) + offset) / (1 + offset) * (math.pi / 2)) ** 2
        return cls.from_betas((1 - wave[1:] / wave[:-1]).clamp(max=largest))

    @classmethod
    def from_log_snr(cls, log_snr: Callable[[Levels], Levels], T: int = 1000) -> "Schedule":
        r"""T steps of a continuous schedule $\lambda(u)$, falling on $u$ in (0, 1]; step t stands at $u = t / T$."""
        levels = torch.sigmoid(log_snr(_line(0.0, 1.0, T + 1)[1:]))
        return cls(torch.cat([levels.new_ones(1), levels]))

    @classmethod
    def rectified_flow(cls, T: int = 1000, shift: float = 1.0) -> "Schedule":
        r"""The straight path $x_t = (1 - u) x_0 + u \epsilon$, $u = \frac{s t}{s t + T - t}$ with `shift` $s$.

        Its last step is pure noise, so the target cannot be `Epsilon`; published flows answer in `Displacement`.

        Source: Rectified Flow straight path
        """
        u = _line(0.0, 1.0, T + 1)
        u = shift * u / (shift * u + (1 - u))
        power = (1 - u) ** 2 + u**2
        return cls((1 - u) ** 2 / power, power.sqrt())

    def to_zero_snr(self) -> "Schedule":
        r"""The same with no signal left at T: $\sqrt{\bar\alpha}$ shifted to 0 there, and scaled to stay at t = 1.

        The target cannot be `Epsilon` then.

        Source: Zero Terminal SNR Algorithm 1
        """
        root = self.signal[1:].sqrt()
        if len(root) < 2:
            raise ValueError("a schedule of one step cannot keep it and lose it: it needs at least two")
        root = (root - root[-1]) * root[0] / (root[0] - root[-1])
        return Schedule(torch.cat([self.signal[:1], root**2]), self.scale)


def _line(first: float, last: float, length: int) -> Tensor:
    if length < 1:
        raise ValueError(f"T is {length}; a schedule needs at least one step")
    return torch.linspace(first, last, length, dtype=torch.float64)


class Coefficients(NamedTuple):
    r"""$x_t = \alpha x_0 + \sigma \epsilon$: the two and $r = \sqrt{\alpha^2 + \sigma^2}$, each (b, 1, 1, 1).

    `scale` $r$ is the number 1 where the variance is kept.
    """

    alpha: Tensor
    sigma: Tensor
    scale: Tensor | float = 1.0
