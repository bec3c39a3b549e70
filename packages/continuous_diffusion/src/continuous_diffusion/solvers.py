r"""One step of each solver, from the state at step t to the state at step s < t; the loop is in `sampler`.

Every one of them ends in $x_s = \alpha_s \hat x_0 + \sigma_s \hat\epsilon$, with a clean image and a noise of its own.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from continuous_diffusion._types import Images
from continuous_diffusion.forward_process import ForwardProcess, times
from continuous_diffusion.learned_variance import log_variance
from continuous_diffusion.schedule import Schedule
from continuous_diffusion.target import Epsilon

ADAMS_BASHFORTH = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
REMEMBERED = len(ADAMS_BASHFORTH) - 1
LARGEST_GROWTH = 10.0


@dataclass(frozen=True)
class Components:
    """What a noisy state is predicted to be made of: the clean image and the noise.

    `variance`, of the same shape, is what a denoiser that learned its variance says of it, None otherwise.
    """

    estimate: Images
    noise: Images
    variance: Images | None = None


@dataclass(frozen=True)
class Seen:
    """What was predicted at an earlier step."""

    t: int
    parts: Components


@dataclass(frozen=True)
class Leg:
    """One step to be made, and what is known before it.

    The state `x` at `t`, to be brought to `s`; the `parts` predicted there, and those of earlier steps, the latest
    first, in `past`; `ask(x, t)` is one more call of the denoiser, `draw()` fresh noise of the shape of `x`.
    """

    process: ForwardProcess
    x: Images
    t: int
    s: int
    parts: Components
    past: Sequence[Seen]
    eta: float
    ask: Callable[[Images, int], Components]
    draw: Callable[[], Images]


@dataclass(frozen=True)
class Arrival:
    """The state at s, and the clean image that it was computed from."""

    x: Images
    estimate: Images


Solver = Callable[[Leg], Arrival]


def ddim(leg: Leg) -> Arrival:
    """DDIM, first order; with `eta` above 0 fresh noise is added, and over all steps `eta` 1 is DDPM.

    Source: DDIM Eq. 12, Eq. 16
    """
    noise = leg.draw() if leg.eta > 0 and leg.s > 0 else None
    return Arrival(ddim_step(leg.process, leg.parts, leg.t, leg.s, eta=leg.eta, noise=noise), leg.parts.estimate)


def ddim_step(
    process: ForwardProcess, parts: Components, t: int, s: int, *, eta: float = 0.0, noise: Images | None = None
) -> Images:
    """The state at step s < t, from the components of the state at t; `noise` is the fresh one, none when not given.

    Source: DDIM Eq. 12, Eq. 16
    """
    b, device = len(parts.estimate), parts.estimate.device
    alpha, sigma, scale = process.coefficients(times(b, s, device), parts.estimate)
    if noise is None:
        return alpha * parts.estimate + sigma * parts.noise
    now, then = process.signal(times(b, t, device)), process.signal(times(b, s, device))
    variance = eta**2 * (1 - then) / (1 - now) * (1 - now / then)
    kept = (1 - then - variance).clamp(min=0).sqrt()[:, None, None, None].to(alpha.dtype)
    added = variance.sqrt()[:, None, None, None].to(alpha.dtype)
    return alpha * parts.estimate + scale * kept * parts.noise + scale * added * noise


def ancestral(leg: Leg) -> Arrival:
    r"""DDPM's own step, a draw of $q(x_s \mid x_t, \hat x_0)$; with a learned variance where the denoiser has one.

    Source: DDPM Algorithm 2
    """
    steps = [times(len(leg.x), one, leg.x.device) for one in (leg.t, leg.s)]
    posterior = leg.process.posterior(leg.parts.estimate, leg.x, *steps)
    if leg.s == 0:
        return Arrival(posterior.mean, leg.parts.estimate)
    spread = posterior.variance.sqrt()
    if leg.parts.variance is not None:
        spread = log_variance(leg.process, leg.parts.variance, *steps).div(2).exp()
    return Arrival(posterior.mean + spread * leg.draw(), leg.parts.estimate)


def heun(leg: Leg) -> Arrival:
    r"""Second order, two calls: the mean of the noises predicted at t and, one DDIM step ahead, at s.

    Heun's rule for $x / \alpha$ as a function of $\sigma / \alpha$. The step to the clean image is a DDIM step. So is
    one out of noise, where an error of the noise at s is multiplied by $\alpha_s / \alpha_t$, a thousand in the
    first step of a cosine schedule; one step of first order leaves the whole of second.

    Source: EDM Algorithm 1
    Unstated: what to do where $\alpha$ is all but zero; a DDIM step where it grows over tenfold. [fixed]
    """
    if leg.s == 0 or leaves_noise(leg.process.schedule, leg.t, leg.s):
        return ddim(leg)
    ahead = leg.ask(ddim_step(leg.process, leg.parts, leg.t, leg.s), leg.s)
    return _by_noise(leg, (leg.parts.noise + ahead.noise) / 2)


def leaves_noise(schedule: Schedule, t: int, s: int) -> bool:
    r"""Whether a step from t to s < t begins in noise so pure that $\alpha$ grows over tenfold in it.

    `heun`, and `plms` where it begins, make a DDIM step of such a one, with a single call of the denoiser.
    """
    return bool(schedule.signal[s] > LARGEST_GROWTH**2 * schedule.signal[t])


def plms(leg: Leg) -> Arrival:
    r"""One call: the latest four noise predictions, extrapolated by the weights of Adams and Bashforth.

    Before there are four, two or three; the first step is Heun's, with its second call. The weights are those of
    equal steps in $\sigma / \alpha$. Along such steps the method is of third order at least (its start is no better),
    along any others of second.

    Source: PNDM linear multi-step
    """
    if not leg.past and leg.s > 0:
        return heun(leg)
    noises = [leg.parts.noise, *(seen.parts.noise for seen in leg.past)]
    weights = ADAMS_BASHFORTH[min(len(noises), len(ADAMS_BASHFORTH)) - 1]
    noise = sum((w * e for w, e in zip(weights, noises, strict=False)), torch.zeros_like(leg.x))
    return _by_noise(leg, noise)


def dpm_solver(leg: Leg) -> Arrival:
    r"""DPM-Solver++ (2M), second order, one call: the latest two clean images, extrapolated.

    With $\lambda = \log(\alpha / \sigma)$, $h = \lambda_s - \lambda_t$ and $h'$ the same of the step before,
    $D = \hat x_0 + \frac{h}{2 h'} (\hat x_0 - \hat x_0')$ and $x_s = \frac{\sigma_s}{\sigma_t} x_t
    + \alpha_s (1 - e^{-h}) D$. The first step, and the one to the clean image, have $D = \hat x_0$.

    Source: DPM-Solver++ Algorithm 2
    """
    clean = leg.parts.estimate
    log_snr = leg.process.schedule.log_snr
    step = float(log_snr[leg.s] - log_snr[leg.t]) / 2
    if leg.past and leg.s > 0:
        share = step / float(log_snr[leg.t] - log_snr[leg.past[0].t])
        clean = clean + share * (clean - leg.past[0].parts.estimate)
    now, then = (leg.process.coefficients(times(len(leg.x), one, leg.x.device), leg.x) for one in (leg.t, leg.s))
    return Arrival(then.sigma / now.sigma * leg.x - then.alpha * math.expm1(-step) * clean, clean)


def _by_noise(leg: Leg, noise: Tensor) -> Arrival:
    at = leg.process.coefficients(times(len(leg.x), leg.t, leg.x.device), leg.x)
    parts = Components(Epsilon().estimate(leg.x, noise, at), noise)
    return Arrival(ddim_step(leg.process, parts, leg.t, leg.s), parts.estimate)
