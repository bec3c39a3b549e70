r"""What the network is asked for: the noise, the clean image, or the velocity between them.

Each says the same thing in other coordinates; `signal` is $\bar\alpha_t$, (b,), and below
$\alpha = \sqrt{\bar\alpha_t}$, $\sigma = \sqrt{1 - \bar\alpha_t}$, $x_t = \alpha x_0 + \sigma \epsilon$.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from continuous_diffusion._types import Images, Signal
from continuous_diffusion.schedule import coefficients


@runtime_checkable
class Target(Protocol):
    """A coordinate in which the network answers."""

    def of(self, x_0: Images, noise: Images, signal: Signal) -> Images:
        """The value that the network should give."""

    def estimate(self, x_t: Images, value: Images, signal: Signal) -> Images:
        """The clean image that the network's value stands for."""

    def noise(self, x_t: Images, value: Images, signal: Signal) -> Images:
        """The noise that the network's value stands for."""


@dataclass(frozen=True)
class Epsilon:
    r"""The noise $\epsilon$.

    Source: DDPM Eq. 14
    """

    def of(self, x_0: Images, noise: Images, signal: Signal) -> Images:
        r"""$\epsilon$."""
        return noise

    def estimate(self, x_t: Images, value: Images, signal: Signal) -> Images:
        r"""$(x_t - \sigma \epsilon) / \alpha$."""
        alpha, sigma = coefficients(signal, x_t)
        return (x_t - sigma * value) / alpha

    def noise(self, x_t: Images, value: Images, signal: Signal) -> Images:
        r"""$\epsilon$."""
        return value


@dataclass(frozen=True)
class Clean:
    """The clean image $x_0$."""

    def of(self, x_0: Images, noise: Images, signal: Signal) -> Images:
        """$x_0$."""
        return x_0

    def estimate(self, x_t: Images, value: Images, signal: Signal) -> Images:
        """$x_0$."""
        return value

    def noise(self, x_t: Images, value: Images, signal: Signal) -> Images:
        r"""$(x_t - \alpha x_0) / \sigma$."""
        alpha, sigma = coefficients(signal, x_t)
        return (x_t - alpha * value) / sigma


@dataclass(frozen=True)
class Velocity:
    r"""The velocity $v = \alpha \epsilon - \sigma x_0$.

    Source: Progressive Distillation v-prediction
    """

    def of(self, x_0: Images, noise: Images, signal: Signal) -> Images:
        r"""$\alpha \epsilon - \sigma x_0$."""
        alpha, sigma = coefficients(signal, x_0)
        return alpha * noise - sigma * x_0

    def estimate(self, x_t: Images, value: Images, signal: Signal) -> Images:
        r"""$\alpha x_t - \sigma v$."""
        alpha, sigma = coefficients(signal, x_t)
        return alpha * x_t - sigma * value

    def noise(self, x_t: Images, value: Images, signal: Signal) -> Images:
        r"""$\sigma x_t + \alpha v$."""
        alpha, sigma = coefficients(signal, x_t)
        return sigma * x_t + alpha * value


EPSILON: Target = Epsilon()
