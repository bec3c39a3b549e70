"""Routes from T to 0: the times at which the denoiser is asked, and how the next tokens follow from what it says."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from discrete_diffusion._types import Generators, LogCodes, Times, Tokens
from discrete_diffusion.drawing import gumbel_max
from discrete_diffusion.forward_process import ForwardProcess


@runtime_checkable
class Draw(Protocol):
    """The next tokens (b, n), drawn given `log p(x_0 | x_t)` (b, n, k) and the present ones."""

    def __call__(self, log_x0: Tensor, x_t: Tensor, *, generator: Generators = None) -> Tensor:
        """Draw."""
        ...


@dataclass(frozen=True)
class Leg:
    """One call of the denoiser on a route.

    Attributes:
        t: times it is told, (b,) in 1..T.
        s: time reached.
        draw: how the tokens at `s` are drawn.
    """

    t: Times
    s: int
    draw: Draw


@runtime_checkable
class Route(Protocol):
    """A way from noise to tokens."""

    def first(self, process: ForwardProcess, shape: tuple[int, int], *, generator: Generators = None) -> Tensor:
        """The tokens (b, n) at T."""
        ...

    def legs(self, process: ForwardProcess, x: Tensor, t: int, steps: int | None) -> Iterator[Leg]:
        """The legs from tokens x at time t to time 0, `steps` of them where the route leaves the number open."""
        ...


@runtime_checkable
class PosteriorDraw(Protocol):
    """Draws from `p(x_s | x_t)`."""

    def __call__(
        self, process: ForwardProcess, log_x0: Tensor, x_t: Tensor, t: Tensor, s: Tensor, *, generator: Generators
    ) -> Tensor:
        """Draw tokens (b, n)."""
        ...


def by_gumbel_noise(
    process: ForwardProcess, log_x0: LogCodes, x_t: Tokens, t: Times, s: Times, *, generator: Generators = None
) -> Tokens:
    """Draw from the posterior by Gumbel-max over all states, as the released code does.

    Source: VQ-Diffusion reverse process
    """
    return gumbel_max(process.log_posterior(log_x0, x_t, t, s), generator=generator)


def directly(
    process: ForwardProcess, log_x0: LogCodes, x_t: Tokens, t: Times, s: Times, *, generator: Generators = None
) -> Tokens:
    """Draw from the same posterior, many times faster: see `ForwardProcess.sample_posterior`."""
    return process.sample_posterior(log_x0, x_t, t, s, generator=generator)


@dataclass(frozen=True)
class Exact:
    """Strides over evenly spread times with the exact posterior between them; ancestral where `steps` is T.

    Args:
        draw: `directly`, or `by_gumbel_noise`: the same law from the random numbers of the released code, in more
            the time.

    Source: VQ-Diffusion reverse process, stride inference
    Unstated: the spacing of the strides; evenly spread times, rounded [fixed].
    """

    draw: PosteriorDraw = directly

    def first(self, process: ForwardProcess, shape: tuple[int, int], *, generator: Generators = None) -> Tokens:
        """A draw from the prior."""
        return process.prior(shape, generator=generator)

    def legs(self, process: ForwardProcess, x: Tokens, t: int, steps: int | None) -> Iterator[Leg]:
        """One leg for each stride; `steps` is t unless given."""
        for now, then in pairwise(times(t, t if steps is None else steps)):
            yield _leg(partial(self.draw, process), x, now, now, then)


@dataclass(frozen=True)
class ReleasedStride:
    """The stride of the released code (`sample_fast`), for comparison: it unmasks too slowly, then much at once.

    The denoiser is asked at t, but the step taken is the one-step posterior at t - skip, as if the tokens stood there
    already (at t itself once t <= skip + 1). With skip 3 and T = 100, a quarter of all tokens is drawn last.

    Args:
        skip: steps left out between two calls of the denoiser; 0 is ancestral.

    Deviation: stride inference of the paper takes the exact posterior between the two times, as `Exact` does [Exact].
    """

    skip: int

    def __post_init__(self) -> None:
        if self.skip < 0:
            raise ValueError(f"skip must be at least 0, got {self.skip}")

    def first(self, process: ForwardProcess, shape: tuple[int, int], *, generator: Generators = None) -> Tokens:
        """Nothing but masks."""
        return masked(process, shape)

    def legs(self, process: ForwardProcess, x: Tokens, t: int, steps: int | None) -> Iterator[Leg]:
        """One leg for each of t, t - skip - 1, ... and 1.

        Raises:
            ValueError: if `steps` is given.
        """
        if steps is not None:
            raise ValueError(f"steps: skip = {self.skip} settles how many steps are taken; leave steps out")
        asked = list(range(t, 0, -1 - self.skip))
        for now in asked + [1] * (asked[-1] != 1):
            step_from = now - self.skip if now > self.skip + 1 else now
            yield _leg(partial(by_gumbel_noise, process), x, now, step_from, step_from - 1)


def times(T: int, steps: int) -> list[int]:
    """Times from T to 0 in `steps` strides, evenly spread and rounded.

    Raises:
        ValueError: unless 1 <= steps <= T.
    """
    if not 1 <= steps <= T:
        raise ValueError(f"steps must be in 1..{T}, got {steps}")
    return [round(T * (steps - i) / steps) for i in range(steps + 1)]


def masked(process: ForwardProcess, shape: tuple[int, int]) -> Tokens:
    """Tokens (b, n) that are all masks, on the device of the process."""
    return torch.full(shape, process.codes, device=process.schedule.keep.device)


def _leg(draw: PosteriorDraw | partial[Tensor], x: Tokens, now: int, step_from: int, step_to: int) -> Leg:
    def at(t: int) -> Times:
        return torch.full((len(x),), t, device=x.device)

    return Leg(at(now), step_to, partial(draw, t=at(step_from), s=at(step_to)))
