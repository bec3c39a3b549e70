"""Sampling: ancestral, or in exact strides. The loop is a generator, and the sample its last state."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from discrete_diffusion._types import Condition, Generators, LogCodes, Tokens
from discrete_diffusion.denoiser import Denoiser
from discrete_diffusion.drawing import gumbel_max
from discrete_diffusion.forward_process import ForwardProcess
from discrete_diffusion.guidance import Guided


@dataclass(frozen=True)
class State:
    """Where a trajectory stands.

    Attributes:
        t: time, 0 at the end.
        x: tokens (b, n) at that time.
        estimate: the `log p(x_0 | x_t)` that led here, (b, n, k), guided and truncated; None at a start.
    """

    t: int
    x: Tokens
    estimate: LogCodes | None = None


def sample(
    denoiser: Denoiser,
    shape: tuple[int, int],
    condition: Condition | None = None,
    *,
    process: ForwardProcess,
    steps: int | None = None,
    guidance: float = 1.0,
    truncation: float | None = None,
    temperature: float = 1.0,
    start: State | None = None,
    generator: Generators = None,
) -> Tokens:
    """Draw tokens (b, n); see `trajectory`.

    Source: VQ-Diffusion reverse process
    """
    states = trajectory(
        denoiser,
        shape,
        condition,
        process=process,
        steps=steps,
        guidance=guidance,
        truncation=truncation,
        temperature=temperature,
        start=start,
        generator=generator,
    )
    return list(states)[-1].x


@torch.no_grad()
def trajectory(
    denoiser: Denoiser,
    shape: tuple[int, int],
    condition: Condition | None = None,
    *,
    process: ForwardProcess,
    steps: int | None = None,
    guidance: float = 1.0,
    truncation: float | None = None,
    temperature: float = 1.0,
    start: State | None = None,
    generator: Generators = None,
) -> Iterator[State]:
    """The states after each step of the reverse process, the last at t = 0.

    Fewer `steps` than T take the exact posterior of longer strides, over times evenly spread.

    Args:
        denoiser: predicts the clean tokens.
        shape: (b, n).
        condition: for the denoiser.
        process: the forward process that is reversed.
        steps: number of steps, and of calls of the denoiser; T unless given.
        guidance: scale of classifier-free guidance; 1 is none.
        truncation: r in (0, 1], see `truncate`; None for none.
        temperature: divides `log p(x_0 | x_t)`.
        start: state to go on from (its `t` and `x`), instead of a draw of the prior at T.
        generator: one for the batch, or a sequence of one per example, which then depends on its own alone.

    Raises:
        ValueError: on steps, truncation, temperature or a number of generators out of range.

    Source: VQ-Diffusion reverse process, stride inference
    Unstated: the spacing of the strides; evenly spread times, rounded.
    """
    guided = denoiser if guidance == 1 else Guided(denoiser, guidance)
    state = State(process.T, process.prior(shape, generator=generator)) if start is None else start
    if tuple(state.x.shape) != tuple(shape):
        raise ValueError(f"start: tokens of shape {tuple(state.x.shape)} do not fit shape {tuple(shape)}")
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    for s in times(state.t, state.t if steps is None else steps)[1:]:
        t = torch.full((shape[0],), state.t, device=state.x.device)
        log_x0 = (guided(state.x, t, condition).value.float() / temperature).log_softmax(-1)
        if truncation is not None:
            log_x0 = truncate(log_x0, truncation)
        log_p = process.log_posterior(log_x0, state.x, t, torch.full_like(t, s))
        state = State(s, gumbel_max(log_p, generator=generator), log_x0)
        yield state


def times(T: int, steps: int) -> list[int]:
    """Times from T to 0 in `steps` strides, evenly spread and rounded.

    Raises:
        ValueError: unless 1 <= steps <= T.
    """
    if not 1 <= steps <= T:
        raise ValueError(f"steps must be in 1..{T}, got {steps}")
    return [round(T * (steps - i) / steps) for i in range(steps + 1)]


def truncate(log_x0: LogCodes, r: float) -> LogCodes:
    """Keep the most probable codes: those before which, in falling order, the probabilities sum to less than r.

    The rest get probability 0 and what is kept is normalised, (b, n, k).

    Raises:
        ValueError: unless 0 < r <= 1.

    Source: VQ-Diffusion truncation sampling
    Deviation: the released code leaves what is kept unnormalised (sum >= r); the law of the next state is the same.
    """
    if not 0 < r <= 1:
        raise ValueError(f"truncation must be in (0, 1], got {r}")
    falling, order = log_x0.sort(-1, descending=True)
    p = falling.exp()
    dropped = torch.zeros_like(order, dtype=torch.bool).scatter(-1, order, p.cumsum(-1) - p >= r)
    kept: Tensor = log_x0.masked_fill(dropped, -torch.inf).log_softmax(-1)
    return kept
