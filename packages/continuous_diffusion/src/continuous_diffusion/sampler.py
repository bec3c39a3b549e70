r"""Sampling: from noise to image along any sub-sequence of the steps, by one loop.

$x_s = \sqrt{\bar\alpha_s}\,\hat x_0 + \sqrt{1 - \bar\alpha_s - \sigma^2}\,\hat\epsilon + \sigma z$,
$\sigma = \eta \sqrt{\frac{1 - \bar\alpha_s}{1 - \bar\alpha_t} (1 - \frac{\bar\alpha_t}{\bar\alpha_s})}$:
$\eta = 0$ is DDIM, $\eta = 1$ over all steps is DDPM.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from continuous_diffusion._types import Generators, Images
from continuous_diffusion.denoiser import Denoiser, Given
from continuous_diffusion.forward_process import ForwardProcess, times
from continuous_diffusion.guidance import Guided
from continuous_diffusion.noise import gaussian
from continuous_diffusion.target import EPSILON, Clean, Epsilon, Target

Spacing = Callable[[int, int], Sequence[int]]

ADAMS_BASHFORTH = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


@dataclass(frozen=True)
class State:
    """Where the trajectory is: the step `t` that has been reached, `x` there, and the estimate of the clean image."""

    t: int
    x: Images
    estimate: Images


def evenly(T: int, steps: int) -> tuple[int, ...]:
    """`steps` of the steps 1..T, evenly spaced, T among them."""
    return tuple((T * i + steps - 1) // steps for i in range(1, steps + 1))


def strided(T: int, steps: int) -> tuple[int, ...]:
    """The rule of LDM's code: `range(0, T, T // steps) + 1` counted from 0, so 2, 2 + T // steps, ... here.

    There are more than `steps` of them where `steps` does not divide T. Raises ValueError where the rule leaves 1..T.
    """
    chosen = tuple(i + 2 for i in range(0, T, T // steps))
    if chosen[-1] > T:
        raise ValueError(f"steps: {steps} of {T} steps by this rule reach {chosen[-1]}; take fewer, or evenly")
    return chosen


def quadratic(T: int, steps: int) -> tuple[int, ...]:
    """LDM's "quad" rule: squares of evenly spaced numbers up to 0.8 T, dense near the clean end."""
    roots = torch.linspace(0, (0.8 * T) ** 0.5, steps, dtype=torch.float64)
    return tuple(int(i) + 2 for i in roots**2)


def sample(
    denoiser: Denoiser,
    shape: Sequence[int],
    condition: Given | None = None,
    *,
    process: ForwardProcess,
    target: Target = EPSILON,
    steps: int | None = None,
    guidance: float = 1.0,
    eta: float = 0.0,
    clip: float | None = None,
    order: int = 1,
    spacing: Spacing = evenly,
    until: int = 0,
    start: Images | None = None,
    generator: Generators = None,
) -> Images:
    """Samples of the given shape (b, c, h, w): the last state of `trajectory`, which has the same arguments."""
    states = trajectory(
        denoiser,
        shape,
        condition,
        process=process,
        target=target,
        steps=steps,
        guidance=guidance,
        eta=eta,
        clip=clip,
        order=order,
        spacing=spacing,
        until=until,
        start=start,
        generator=generator,
    )
    for state in states:
        last = state
    return last.x


def trajectory(
    denoiser: Denoiser,
    shape: Sequence[int],
    condition: Given | None = None,
    *,
    process: ForwardProcess,
    target: Target = EPSILON,
    steps: int | None = None,
    guidance: float = 1.0,
    eta: float = 0.0,
    clip: float | None = None,
    order: int = 1,
    spacing: Spacing = evenly,
    until: int = 0,
    start: Images | None = None,
    generator: Generators = None,
) -> Iterator[State]:
    """The states from noise to image, one after each step.

    * `target` is the coordinate that the denoiser was trained in.
    * `steps` of the process's T, chosen by `spacing`; all of them when None.
    * `guidance` wraps the denoiser in `Guided`.
    * `eta` is the share of fresh noise: 0 none (DDIM), 1 the posterior's (over all steps: DDPM).
    * `clip` bounds the estimate of the clean image, and the noise is made to agree with it.
    * `order` up to 4: so many noise predictions are combined (Adams-Bashforth); 4 is PLMS. Needs eta 0, no clip.
    * `until` is the step at which to stop; LDM's code stops at 1 although it calls that clean.
    * `start` is the noise to begin with, drawn when None.
    * `generator`: one, or one per image; with one per image, image i depends on its own generator alone.

    Raises ValueError for a number of steps that the process does not have, and for options that exclude each other.

    Source: DDPM Algorithm 2
    Source: DDIM Eq. 12, Eq. 16
    """
    visited = _path(process.T, steps, spacing, until)
    _check(shape, start, order, eta, clip)
    guided = denoiser if guidance == 1 else Guided(denoiser, guidance)
    x = gaussian(shape, device=process.levels.device, generator=generator) if start is None else start
    return _walk(_Predictor(guided, condition, process, target, clip), x, visited, eta, order, generator)


@torch.no_grad()
def _walk(
    predictor: "_Predictor", x: Images, visited: Sequence[int], eta: float, order: int, generator: Generators
) -> Iterator[State]:
    history: list[Tensor] = []
    for t, s in pairwise(visited):
        parts = predictor.at(x, t)
        if order > 1:
            parts = predictor.extrapolated(x, t, s, parts, history, order)
        fresh = gaussian(x.shape, device=x.device, dtype=x.dtype, generator=generator) if eta > 0 and s > 0 else None
        x = ddim_step(predictor.process, parts, t, s, eta=eta, noise=fresh)
        yield State(t=s, x=x, estimate=parts.estimate)


@dataclass(frozen=True)
class Components:
    """What a noisy state is predicted to be made of: the clean image and the noise."""

    estimate: Images
    noise: Images


def ddim_step(
    process: ForwardProcess, parts: Components, t: int, s: int, *, eta: float = 0.0, noise: Images | None = None
) -> Images:
    """The state at step s < t, from the components of the state at t; `noise` is the fresh one, none when not given.

    Source: DDIM Eq. 12, Eq. 16
    """
    b, device = len(parts.estimate), parts.estimate.device
    now, then = process.signal(times(b, t, device)), process.signal(times(b, s, device))
    alpha, sigma, _ = process.coefficients(times(b, s, device), parts.estimate)
    if noise is None:
        return alpha * parts.estimate + sigma * parts.noise
    variance = eta**2 * (1 - then) / (1 - now) * (1 - now / then)
    kept = (1 - then - variance).clamp(min=0).sqrt()[:, None, None, None].to(alpha.dtype)
    added = variance.sqrt()[:, None, None, None].to(alpha.dtype)
    return alpha * parts.estimate + kept * parts.noise + added * noise


@dataclass(frozen=True)
class _Predictor:
    """The denoiser, asked in the coordinate of its target, answering with both components."""

    denoiser: Denoiser
    condition: Given | None
    process: ForwardProcess
    target: Target
    clip: float | None

    def at(self, x: Images, t: int) -> Components:
        steps = times(len(x), t, x.device)
        at = self.process.coefficients(steps, x)
        value = self.denoiser(x, steps, self.condition).value.to(x.dtype)
        estimate = self.target.estimate(x, value, at)
        if self.clip is None:
            return Components(estimate, self.target.noise(x, value, at))
        estimate = estimate.clamp(-self.clip, self.clip)
        return Components(estimate, Clean().noise(x, estimate, at))

    def extrapolated(
        self, x: Images, t: int, s: int, parts: Components, history: list[Tensor], order: int
    ) -> Components:
        r"""The noise predictions so far, extrapolated; in the first step improved Euler, $(e_t + e_s) / 2$.

        Source: PNDM linear multi-step
        """
        if not history and s > 0:
            ahead = self.at(ddim_step(self.process, parts, t, s), s)
            noise = (parts.noise + ahead.noise) / 2
        else:
            weights = ADAMS_BASHFORTH[min(len(history) + 1, order) - 1]
            noise = sum((w * e for w, e in zip(weights, [parts.noise, *history], strict=False)), torch.zeros_like(x))
        history.insert(0, parts.noise)
        del history[order - 1 :]
        at = self.process.coefficients(times(len(x), t, x.device), x)
        return Components(Epsilon().estimate(x, noise, at), noise)


def _path(T: int, steps: int | None, spacing: Spacing, until: int) -> tuple[int, ...]:
    """The steps to visit, from the noisiest down to `until`."""
    steps = T if steps is None else steps
    if not 1 <= steps <= T:
        raise ValueError(f"steps: {steps} asked for, the process has 1..{T}")
    chosen = tuple(spacing(T, steps))
    if list(chosen) != sorted(set(chosen)) or not until < chosen[0] <= chosen[-1] <= T or until < 0:
        raise ValueError(f"spacing gave {chosen}; expected rising steps above until={until} and up to {T}")
    return (*reversed(chosen), until)


def _check(shape: Sequence[int], start: Images | None, order: int, eta: float, clip: float | None) -> None:
    if start is not None and tuple(start.shape) != tuple(shape):
        raise ValueError(f"start: shape {tuple(start.shape)}, expected {tuple(shape)}")
    if not 1 <= order <= len(ADAMS_BASHFORTH):
        raise ValueError(f"order: {order}, expected 1..{len(ADAMS_BASHFORTH)}")
    if eta < 0:
        raise ValueError(f"eta: {eta} is negative")
    if order > 1 and (eta > 0 or clip is not None):
        raise ValueError(f"order: {order} combines noise predictions, which needs eta=0 and clip=None")
