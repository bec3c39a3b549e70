r"""What the network is asked for: the noise, the clean image, or the velocity between them.

Each says the same thing in other coordinates; `at` holds the $\alpha$ and $\sigma$ of $x_t = \alpha x_0 + \sigma
\epsilon$, and $r = \sqrt{\alpha^2 + \sigma^2}$, which is 1 where the variance is kept.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from continuous_diffusion._types import Images, PerExample
from continuous_diffusion.schedule import Coefficients


@runtime_checkable
class Target(Protocol):
    """A coordinate in which the network answers."""

    def of(self, x_0: Images, noise: Images, at: Coefficients) -> Images:
        """The value that the network should give."""

    def estimate(self, x_t: Images, value: Images, at: Coefficients) -> Images:
        """The clean image that the network's value stands for."""

    def noise(self, x_t: Images, value: Images, at: Coefficients) -> Images:
        """The noise that the network's value stands for."""

    def clean_error(self, at: Coefficients) -> PerExample:
        """The squared error of the clean image for a squared error of 1 in the value, (b,)."""


@dataclass(frozen=True)
class Epsilon:
    r"""The noise $\epsilon$.

    Source: DDPM Eq. 14
    """

    def of(self, x_0: Images, noise: Images, at: Coefficients) -> Images:
        r"""$\epsilon$."""
        return noise

    def estimate(self, x_t: Images, value: Images, at: Coefficients) -> Images:
        r"""$(x_t - \sigma \epsilon) / \alpha$."""
        return (x_t - at.sigma * value) / at.alpha

    def noise(self, x_t: Images, value: Images, at: Coefficients) -> Images:
        r"""$\epsilon$."""
        return value

    def clean_error(self, at: Coefficients) -> PerExample:
        r"""$\sigma^2 / \alpha^2$."""
        return ((at.sigma / at.alpha) ** 2).flatten()


@dataclass(frozen=True)
class Clean:
    """The clean image $x_0$."""

    def of(self, x_0: Images, noise: Images, at: Coefficients) -> Images:
        """$x_0$."""
        return x_0

    def estimate(self, x_t: Images, value: Images, at: Coefficients) -> Images:
        """$x_0$."""
        return value

    def noise(self, x_t: Images, value: Images, at: Coefficients) -> Images:
        r"""$(x_t - \alpha x_0) / \sigma$."""
        return (x_t - at.alpha * value) / at.sigma

    def clean_error(self, at: Coefficients) -> PerExample:
        r"""1."""
        return torch.ones_like(at.sigma).flatten()


@dataclass(frozen=True)
class Velocity:
    r"""The velocity $v = (\alpha \epsilon - \sigma x_0) / r$.

    Source: Progressive Distillation v-prediction
    """

    def of(self, x_0: Images, noise: Images, at: Coefficients) -> Images:
        r"""$(\alpha \epsilon - \sigma x_0) / r$."""
        return at.alpha / at.scale * noise - at.sigma / at.scale * x_0

    def estimate(self, x_t: Images, value: Images, at: Coefficients) -> Images:
        r"""$(\alpha x_t / r - \sigma v) / r$."""
        return at.alpha / at.scale**2 * x_t - at.sigma / at.scale * value

    def noise(self, x_t: Images, value: Images, at: Coefficients) -> Images:
        r"""$(\sigma x_t / r + \alpha v) / r$."""
        return at.sigma / at.scale**2 * x_t + at.alpha / at.scale * value

    def clean_error(self, at: Coefficients) -> PerExample:
        r"""$\sigma^2 / r^2$."""
        return ((at.sigma / at.scale) ** 2).flatten()


@dataclass(frozen=True)
class Displacement:
    r"""The way from the image to the noise, $\epsilon - x_0$: the direction of the straight path of a rectified flow.

    Source: Rectified Flow straight path
    """

    def of(self, x_0: Images, noise: Images, at: Coefficients) -> Images:
        r"""$\epsilon - x_0$."""
        return noise - x_0

    def estimate(self, x_t: Images, value: Images, at: Coefficients) -> Images:
        r"""$(x_t - \sigma v) / (\alpha + \sigma)$."""
        return (x_t - at.sigma * value) / (at.alpha + at.sigma)

    def noise(self, x_t: Images, value: Images, at: Coefficients) -> Images:
        r"""$(x_t + \alpha v) / (\alpha + \sigma)$."""
        return (x_t + at.alpha * value) / (at.alpha + at.sigma)

    def clean_error(self, at: Coefficients) -> PerExample:
        r"""$\sigma^2 / (\alpha + \sigma)^2$."""
        return ((at.sigma / (at.alpha + at.sigma)) ** 2).flatten()


def check_target(target: Target, signal: float) -> None:
    """Raises ValueError where the noise is asked for at a level that holds nothing else."""
    if isinstance(target, Epsilon) and signal == 0:
        raise ValueError(
            "target: Epsilon where the last step has no signal: it cannot tell the image there; take Velocity"
        )


EPSILON: Target = Epsilon()
