r"""Sampling: from noise to image along any sub-sequence of the steps, by one loop and a solver's step.

$x_s = \sqrt{\bar\alpha_s}\,\hat x_0 + \sqrt{1 - \bar\alpha_s - \sigma^2}\,\hat\epsilon + \sigma z$,
$\sigma = \eta \sqrt{\frac{1 - \bar\alpha_s}{1 - \bar\alpha_t} (1 - \frac{\bar\alpha_t}{\bar\alpha_s})}$:
$\eta = 0$ is DDIM, $\eta = 1$ over all steps is DDPM.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from continuous_diffusion._types import Generators, Images
from continuous_diffusion.denoiser import Denoiser, Given
from continuous_diffusion.forward_process import ForwardProcess, times
from continuous_diffusion.guidance import Guided
from continuous_diffusion.noise import gaussian
from continuous_diffusion.predictor import Clip, Predictor
from continuous_diffusion.solvers import REMEMBERED, Leg, Seen, Solver, ddim, heun, plms
from continuous_diffusion.spacing import Spacing, evenly
from continuous_diffusion.target import EPSILON, Target, check_target


@dataclass(frozen=True)
class State:
    """Where the trajectory is: the step `t` that has been reached, `x` there, and the estimate of the clean image."""

    t: int
    x: Images
    estimate: Images


def sample(
    denoiser: Denoiser,
    shape: Sequence[int],
    condition: Given | None = None,
    *,
    process: ForwardProcess,
    target: Target = EPSILON,
    solver: Solver = ddim,
    steps: int | None = None,
    guidance: float = 1.0,
    eta: float = 0.0,
    clip: Clip | None = None,
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
        solver=solver,
        steps=steps,
        guidance=guidance,
        eta=eta,
        clip=clip,
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
    solver: Solver = ddim,
    steps: int | None = None,
    guidance: float = 1.0,
    eta: float = 0.0,
    clip: Clip | None = None,
    spacing: Spacing = evenly,
    until: int = 0,
    start: Images | None = None,
    generator: Generators = None,
) -> Iterator[State]:
    """The states from noise to image, one after each step.

    * `target` is the coordinate that the denoiser was trained in.
    * `solver` makes one step: `ddim`, `ancestral`, `plms`, `heun`, `dpm_solver`, or one of your own.
    * `steps` of the process's T, chosen by `spacing`; all of them when None.
    * `guidance` wraps the denoiser in `Guided`.
    * `eta` is the share of fresh noise in `ddim`: 0 none, 1 the posterior's (over all steps: DDPM).
    * `clip` bounds the estimate of the clean image, by a number or a function of it, and the noise is made to agree;
      not with `plms` and `heun`, which combine noises.
    * `until` is the step at which to stop; LDM's code stops at 1 although it calls that clean.
    * `start` is the noise to begin with, drawn when None.
    * `generator`: one, or one per image; with one per image, image i depends on its own generator alone.

    Raises ValueError for a number of steps that the process does not have, and for options that exclude each other.

    Source: DDPM Algorithm 2
    Source: DDIM Eq. 12, Eq. 16
    """
    visited = path(process.T, steps, spacing, until)
    check_options(solver, target, eta, clip, signal=float(process.schedule.signal[visited[-1]]))
    if start is not None and tuple(start.shape) != tuple(shape):
        raise ValueError(f"start: shape {tuple(start.shape)}, expected {tuple(shape)}")
    guided = denoiser if guidance == 1 else Guided(denoiser, guidance)
    x = gaussian(shape, device=process.levels.device, generator=generator) if start is None else start
    predictor = Predictor(guided, condition, process, target, clip)
    return walk(predictor, x, tuple(reversed(visited)), solver=solver, eta=eta, generator=generator)


@torch.no_grad()
def walk(
    predictor: Predictor,
    x: Images,
    visited: Sequence[int],
    *,
    solver: Solver,
    eta: float,
    before: Callable[[Images, int], Images] | None = None,
    generator: Generators,
) -> Iterator[State]:
    """The states along a path of steps, which may rise: a rise is the forward process's, a fall the solver's.

    `before(x, t)` changes the state at t before the denoiser sees it.
    """

    def draw() -> Images:
        return gaussian(x.shape, device=x.device, dtype=x.dtype, generator=generator)

    process, past, estimate = predictor.process, list[Seen](), x
    for t, s in pairwise(visited):
        if s > t:
            further = process.transition(x, times(len(x), t, x.device), times(len(x), s, x.device))
            x, past = further.mean + further.variance.sqrt() * draw(), []
            yield State(t=s, x=x, estimate=estimate)
            continue
        if before is not None:
            x = before(x, t)
        parts = predictor(x, t)
        arrival = solver(Leg(process, x, t, s, parts, tuple(past), eta, predictor, draw))
        past = [Seen(t, parts), *past][:REMEMBERED]
        x, estimate = arrival.x, arrival.estimate
        yield State(t=s, x=x, estimate=estimate)


def path(T: int, steps: int | None, spacing: Spacing, until: int = 0) -> tuple[int, ...]:
    """`until` and the steps to visit, rising.

    Raises ValueError for more steps than the process has, and for a spacing that does not rise or leaves until..T.
    """
    steps = T if steps is None else steps
    if not 1 <= steps <= T:
        raise ValueError(f"steps: {steps} asked for, the process has 1..{T}")
    chosen = tuple(spacing(T, steps))
    if list(chosen) != sorted(set(chosen)) or not until < chosen[0] <= chosen[-1] <= T or until < 0:
        raise ValueError(f"spacing gave {chosen}; expected rising steps above until={until} and up to {T}")
    return (until, *chosen)


def check_options(solver: Solver, target: Target, eta: float, clip: Clip | None, *, signal: float) -> None:
    """Raises ValueError for options that exclude each other; `signal` is the level of the first state."""
    check_target(target, signal)
    if eta < 0:
        raise ValueError(f"eta: {eta} is negative")
    if eta > 0 and solver is not ddim:
        raise ValueError(f"eta: {eta} is ddim's share of fresh noise; this solver has none, so leave eta at 0")
    if clip is not None and solver in (heun, plms):
        raise ValueError("clip: this solver combines noises, so its clean image is not bounded; leave clip at None")
