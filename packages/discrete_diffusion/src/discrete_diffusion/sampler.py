"""Sampling along a route from noise to tokens. The loop is a generator, and the sample its last state."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from discrete_diffusion._types import Condition, Generators, LogCodes, Tokens
from discrete_diffusion.denoiser import Denoiser
from discrete_diffusion.forward_process import ForwardProcess
from discrete_diffusion.guidance import Guided
from discrete_diffusion.masks import Kept
from discrete_diffusion.routes import Exact, Route

HALVINGS = 36
"""Of the interval that holds the least probability that truncation keeps: to 1.5e-11 of the greatest."""


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
    route: Route | None = None,
    start: State | None = None,
    kept: Kept | None = None,
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
        route=route,
        start=start,
        kept=kept,
        generator=generator,
    )
    return deque(states, maxlen=1)[0].x


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
    route: Route | None = None,
    start: State | None = None,
    kept: Kept | None = None,
    generator: Generators = None,
) -> Iterator[State]:
    """The states after each step of the reverse process, the last at t = 0.

    Fewer `steps` than T take the exact posterior of longer strides, over times evenly spread; `route` has other ways.

    Args:
        denoiser: predicts the clean tokens.
        shape: (b, n).
        condition: for the denoiser.
        process: the forward process that is reversed.
        steps: number of steps, and of calls of the denoiser; T unless given.
        guidance: scale of classifier-free guidance with the denoiser's null condition; 1 is none. For another null
            condition give a `Guided` denoiser.
        truncation: r in (0, 1], see `truncate`; None for none.
        temperature: divides `log p(x_0 | x_t)`.
        route: `Exact()` unless given; `FewerTokens()` draws the positions in an order, few at a time;
            `ReleasedStride(skip)` is the stride of the released code.
        start: state to go on from (its `t` and `x`), instead of a draw of the prior at T. To edit tokens, noise them to
            some t: `State(t, process.sample(tokens, times))`.
        kept: tokens that are kept, put back after every step, for inpainting.
        generator: one for the batch, or a sequence of one per example, which then depends on its own alone.

    Raises:
        ValueError: on steps, truncation, temperature, tokens or a number of generators out of range, or if the denoiser
            has another number of codes than the process.

    Source: VQ-Diffusion reverse process, stride inference
    """
    guided = denoiser if guidance == 1 else Guided(denoiser, guidance)
    route = Exact() if route is None else route
    t, x = (process.T, route.first(process, shape, generator=generator)) if start is None else (start.t, start.x)
    _agree(getattr(denoiser, "codes", process.codes), process.codes)
    _check(x, shape, process.codes, temperature)
    if kept is not None:
        kept.check(shape, process.codes)
        x = kept.impose(x)
    for leg in route.legs(process, x, t, steps):
        log_x0 = _predict(guided(x, leg.t, condition).value, process.codes, temperature, truncation)
        x = leg.draw(log_x0, x, generator=generator)
        x = x if kept is None else kept.impose(x)
        yield State(leg.s, x, log_x0)


def truncate(log_x0: LogCodes, r: float) -> LogCodes:
    """Keep the most probable codes: those before which, in falling order, the probabilities sum to less than r.

    The rest get probability 0 and what is kept is normalised, (b, n, k). Nothing is sorted: the least probability that
    is kept is found by halving; codes as probable as that are all kept.

    Raises:
        ValueError: unless 0 < r <= 1.

    Source: VQ-Diffusion truncation sampling
    Deviation: the released code leaves what is kept unnormalised (sum >= r); the law of the next state is the same
        [fixed].
    """
    if not 0 < r <= 1:
        raise ValueError(f"truncation must be in (0, 1], got {r}")
    p = log_x0.exp()
    least, most = torch.zeros_like(p[..., :1]), p.amax(-1, keepdim=True)
    for _ in range(HALVINGS):
        bar = (least + most) / 2
        enough = F.threshold(p / bar, 1.0, 0.0, inplace=True).sum(-1, keepdim=True) * bar >= r
        least, most = torch.where(enough, bar, least), torch.where(enough, most, bar)
    kept: Tensor = log_x0.masked_fill(p <= least, -torch.inf).log_softmax(-1)
    return kept


def _predict(value: Tensor, codes: int, temperature: float, truncation: float | None) -> LogCodes:
    _agree(value.shape[-1], codes)
    log_x0: Tensor = (value.float() / temperature).log_softmax(-1)
    return log_x0 if truncation is None else truncate(log_x0, truncation)


def _agree(predicted: int, codes: int) -> None:
    if predicted != codes:
        raise ValueError(f"denoiser: it predicts {predicted} codes, the process has {codes}; make them agree")


def _check(x: Tensor, shape: tuple[int, int], codes: int, temperature: float) -> None:
    if tuple(x.shape) != tuple(shape):
        raise ValueError(f"start: tokens of shape {tuple(x.shape)} do not fit shape {tuple(shape)}")
    if bool(((x < 0) | (x > codes)).any()):
        raise ValueError(f"start: tokens must be in 0..{codes}, the mask being {codes}; got {x.min()}..{x.max()}")
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
