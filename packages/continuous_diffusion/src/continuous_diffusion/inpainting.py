r"""Filling in: what is known is noised and put in before each step; RePaint goes back and forth besides.

Masks: 1 = fill in, 0 = keep (the papers and their code have it the other way round). The same on pixels and latents.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from continuous_diffusion._types import Generators, Images
from continuous_diffusion.denoiser import Denoiser, Given
from continuous_diffusion.forward_process import ForwardProcess, times
from continuous_diffusion.guidance import Guided
from continuous_diffusion.masks import holes
from continuous_diffusion.noise import gaussian
from continuous_diffusion.predictor import Clip, Predictor
from continuous_diffusion.sampler import State, check_options, path, walk
from continuous_diffusion.solvers import Solver, ddim
from continuous_diffusion.spacing import Spacing, evenly
from continuous_diffusion.target import EPSILON, Target


@dataclass(frozen=True)
class Jump:
    """Go back by `length` steps, so that each stretch of that length is gone down `passes` times in all."""

    length: int = 10
    passes: int = 10

    def __post_init__(self) -> None:
        if self.length < 1 or self.passes < 1:
            raise ValueError(f"length and passes must be at least 1, got {self}")


@dataclass(frozen=True)
class Resampling:
    """How RePaint goes back and forth; the default is the paper's, made for 250 steps.

    * `jumps`, the longest first: a jump of one starts the counts of those after it anew.
    * `shakes`: so many times, at every step but the first two, one step back and forth.
    * `below`: only at and below this one of the steps visited, counted from 1; None is everywhere.

    Source: RePaint jump schedule
    """

    jumps: tuple[Jump, ...] = field(default_factory=lambda: (Jump(),))
    shakes: int = 0
    below: int | None = None

    def path(self, steps: int) -> tuple[int, ...]:
        """The levels from `steps` to 0, each next to the one before; a rise adds noise again.

        Source: RePaint jump schedule
        """
        below = steps if self.below is None else self.below
        left = [self._passes(jump, steps) for jump in self.jumps]
        visited = [steps]
        while visited[-1] > 0:
            level = visited[-1]
            if level < steps - 1 and level <= below:
                visited += [level + 1, level] * self.shakes
            for i, jump in reversed(list(enumerate(self.jumps))):
                if left[i].get(visited[-1], 0) > 0 and visited[-1] <= below - jump.length:
                    left[i][visited[-1]] -= 1
                    left[i + 1 :] = [self._passes(inner, steps) for inner in self.jumps[i + 1 :]]
                    visited += range(visited[-1] + 1, visited[-1] + jump.length + 1)
            visited.append(visited[-1] - 1)
        return tuple(visited)

    @staticmethod
    def _passes(jump: Jump, steps: int) -> dict[int, int]:
        return dict.fromkeys(range(1, steps - jump.length + 1, jump.length), jump.passes - 1)


def inpaint(
    denoiser: Denoiser,
    known: Images,
    mask: Tensor,
    condition: Given | None = None,
    *,
    process: ForwardProcess,
    target: Target = EPSILON,
    solver: Solver = ddim,
    steps: int | None = None,
    resampling: Resampling | None = None,
    paste: bool = True,
    guidance: float = 1.0,
    eta: float = 0.0,
    clip: Clip | None = None,
    spacing: Spacing = evenly,
    until: int = 0,
    start: Tensor | None = None,
    generator: Generators = None,
) -> Images:
    """Images (b, c, h, w), `known` where `mask` is 0: the last state of `inpainting_trajectory`, with its arguments."""
    states = inpainting_trajectory(
        denoiser,
        known,
        mask,
        condition,
        process=process,
        target=target,
        solver=solver,
        steps=steps,
        resampling=resampling,
        paste=paste,
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


def inpainting_trajectory(
    denoiser: Denoiser,
    known: Images,
    mask: Tensor,
    condition: Given | None = None,
    *,
    process: ForwardProcess,
    target: Target = EPSILON,
    solver: Solver = ddim,
    steps: int | None = None,
    resampling: Resampling | None = None,
    paste: bool = True,
    guidance: float = 1.0,
    eta: float = 0.0,
    clip: Clip | None = None,
    spacing: Spacing = evenly,
    until: int = 0,
    start: Tensor | None = None,
    generator: Generators = None,
) -> Iterator[State]:
    """The states from noise to a filled-in image, one after each step down or up; options as for `trajectory`.

    * `known` (b, c, h, w) and `mask` (b, 1, h, w), 1 = fill in: images, or latents with `latent_mask`.
    * `resampling` None is LDM's mixing, in one pass. `Resampling()` with `solver=ancestral`, `spacing=spanning`,
      `steps=250`, `clip=1.0` is RePaint as published; there the first state is left as noise.
    * `paste` puts the known part in at the end, as in RePaint's Algorithm 1, whose last state is clean.

    A mask of ones is plain sampling, from the same draws where it is all ones; one of zeros gives `known` back.

    Raises ValueError for a mask of another size or with values other than 0 and 1, and as `trajectory` does.

    Source: RePaint Algorithm 1, Eq. 8
    Source: LDM inpainting by mixing
    Deviation: the paper prints the deviation of the known part as 1 - abar_t, and takes it at the level before the
    state it joins; here, as in the released code, its square root, at the level of that state [fixed].
    Deviation: the released code leaves the known part as the model repainted it at the end; so does `paste=False`
        [paste].
    """
    fill = holes(mask, known).to(known.device)
    visited = path(process.T, steps, spacing, until)
    levels = range(len(visited) - 1, -1, -1) if resampling is None else resampling.path(len(visited) - 1)
    check_options(solver, target, eta, clip, signal=float(process.schedule.signal[visited[-1]]))
    if start is not None and start.shape != known.shape:
        raise ValueError(f"start: shape {tuple(start.shape)}, expected that of known, {tuple(known.shape)}")
    guided = denoiser if guidance == 1 else Guided(denoiser, guidance)
    x = gaussian(known.shape, device=known.device, dtype=known.dtype, generator=generator) if start is None else start
    states = walk(
        Predictor(guided, condition, process, target, clip),
        x,
        [visited[level] for level in levels],
        solver=solver,
        eta=eta,
        before=_mixing(known, fill, process, generator, at_once=resampling is None),
        generator=generator,
    )
    return _pasted(states, known, fill) if paste and until == 0 else states


def _mixing(
    known: Images, fill: Tensor, process: ForwardProcess, generator: Generators, *, at_once: bool
) -> Callable[[Images, int], Images]:
    """What puts the known part, noised, into a state; into the first one too if `at_once`.

    Only images with a known part draw noise for it, so each depends on its own mask and generator alone.
    """
    rows = [i for i, unknown in enumerate(fill.flatten(1).all(1).tolist()) if not unknown]
    if isinstance(generator, Sequence) and len(generator) != len(known):
        raise ValueError(f"generator: {len(generator)} generators for a batch of {len(known)}; pass one per image")
    own = [generator[i] for i in rows] if isinstance(generator, Sequence) else generator
    now = at_once

    def mixed(x: Images, t: int) -> Images:
        nonlocal now
        if now and rows:
            noise = gaussian(known[rows].shape, device=x.device, dtype=x.dtype, generator=own)
            noised = process.sample(known[rows].to(x.dtype), times(len(rows), t, x.device), noise)
            x = x.index_copy(0, torch.tensor(rows, device=x.device), torch.where(fill[rows], x[rows], noised))
        now = True
        return x

    return mixed


def _pasted(states: Iterator[State], known: Images, fill: Tensor) -> Iterator[State]:
    for state in states:
        if state.t > 0:
            yield state
        else:
            yield State(t=0, x=torch.where(fill, state.x, known.to(state.x.dtype)), estimate=state.estimate)
