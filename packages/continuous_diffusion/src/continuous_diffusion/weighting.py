r"""Weights of the steps in the loss, each a function of the process, the target and the step.

All are said of the squared error of the clean image, and turned into the target's coordinate by its `clean_error`;
with $SNR_t = \bar\alpha_t / (1 - \bar\alpha_t)$. No weight at all is the "simple" loss of DDPM.
"""

from collections.abc import Callable
from dataclasses import dataclass

from continuous_diffusion._types import PerExample, Signal, Times
from continuous_diffusion.forward_process import ForwardProcess
from continuous_diffusion.target import Target

Weight = Callable[[ForwardProcess, Target, Times], PerExample]


def snr(process: ForwardProcess, t: Times) -> Signal:
    """The signal-to-noise ratio of each example, float64, (b,); infinite at t = 0."""
    signal = process.signal(t)
    return signal / (1 - signal)


def by_snr(process: ForwardProcess, target: Target, t: Times) -> PerExample:
    r"""$SNR_t$ on the clean image: the simple loss of the noise, whatever the target."""
    return snr(process, t) * _clean_error(process, target, t)


@dataclass(frozen=True)
class MinSnr:
    r"""$\min(SNR_t, \gamma)$ on the clean image, so that nearly clean steps do not outweigh the others.

    Source: Min-SNR weighting
    """

    largest: float = 5.0

    def __call__(self, process: ForwardProcess, target: Target, t: Times) -> PerExample:
        """The weight of each example, (b,)."""
        return snr(process, t).clamp(max=self.largest) * _clean_error(process, target, t)


def of_the_bound(process: ForwardProcess, target: Target, t: Times) -> PerExample:
    r"""$\frac12 (SNR_{t-1} - SNR_t)$ on the clean image: the term of the variational bound, in nats per unit.

    The term of t = 1 is infinite for squared errors; it is weighted as that of t = 2, as in LDM's code.

    Raises ValueError for a process of one step.

    Source: Variational Diffusion Eq. 13
    Deviation: LDM's code weighs predictions of the clean image by a formula of its own, which is not the bound's
        [Objective.weight].
    """
    if process.T < 2:
        raise ValueError("the bound needs a process of at least two steps")
    t = t.clamp(min=2)
    return (snr(process, t - 1) - snr(process, t)) / 2 * _clean_error(process, target, t)


def _clean_error(process: ForwardProcess, target: Target, t: Times) -> PerExample:
    like = process.levels.new_zeros(len(t), 1, 1, 1).double()
    return target.clean_error(process.coefficients(t, like))
