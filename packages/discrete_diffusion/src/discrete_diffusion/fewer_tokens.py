"""Fewer tokens per step: the positions are drawn in an order, few at a time, the surest ones rather first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from discrete_diffusion._types import Generators, LogCodes, PerExample, PerToken, Times, TokenMask, Tokens
from discrete_diffusion.drawing import categorical, uniform
from discrete_diffusion.forward_process import ForwardProcess
from discrete_diffusion.routes import Leg, masked

RELEASED_TOKENS = 1024
REPLACED = 1e-3
"""Most of the tokens that a schedule may replace, at any time, for masks to say what is noise."""


@runtime_checkable
class Choice(Protocol):
    """How likely each position is to be drawn next, in (0, 1], given `log p(x_0 | x_t)`."""

    def __call__(self, log_x0: Tensor) -> Tensor:
        """Weights (b, n)."""
        ...


def purity(log_x0: LogCodes) -> PerToken:
    r"""`max_j p(x_0 = j | x_t)` of every position over the largest of the image, (b, n).

    Source: Improved VQ-Diffusion purity prior
    """
    peak = log_x0.amax(-1)
    return (peak - peak.amax(-1, keepdim=True)).exp()


def evenly(log_x0: LogCodes) -> PerToken:
    """One for every position, (b, n)."""
    return torch.ones_like(log_x0[..., 0])


@dataclass(frozen=True)
class Round:
    """One call of the denoiser at time `t`, and how many positions are drawn then (None: all that are left)."""

    t: int
    tokens: int | None


@dataclass(frozen=True)
class FewerTokens:
    r"""A route on which every step draws some of the masked positions for good, and leaves the others masked.

    Positions are drawn without replacement in proportion to their weight, and their codes from
    `softmax((1 + sharpness * purity) log p(x_0 | x_t))`. The masked positions are shared out evenly among `steps`
    rounds, min(T, n) unless given; the denoiser is told, image by image, the time whose rate of masks is nearest to
    that in the image, `argmin_t |gbar_t - |A_t| / n|`.

    With one position per step and no sharpening the joint law is exact, whatever the order, for a perfect denoiser.

    Args:
        choice: weights of the positions; `purity`, or `evenly` for none.
        sharpness: r >= 0; 1 in the released code, 0 for none.
        rounds: times and numbers of positions instead of even ones, see `released_rounds`; tokens given as kept or
            drawn before count for nothing in them.

    Raises:
        ValueError: if sharpness is negative, or the last round does not draw all that is left.

    Source: Improved VQ-Diffusion fewer tokens per step, purity prior
    Deviation: purities are those of the truncated law, normalised; the released code does not normalise it [fixed].
    Unstated: how many positions a step draws where they are no multiple of the steps; as evenly as can be [rounds].
    """

    choice: Choice = purity
    sharpness: float = 1.0
    rounds: Sequence[Round] | None = None

    def __post_init__(self) -> None:
        if self.sharpness < 0:
            raise ValueError(f"sharpness must be at least 0, got {self.sharpness}")
        if self.rounds is not None and (not self.rounds or self.rounds[-1].tokens is not None):
            raise ValueError("rounds: the last round draws all that is left; give it None for its number of tokens")

    def first(self, process: ForwardProcess, shape: tuple[int, int], *, generator: Generators = None) -> Tokens:
        """Nothing but masks."""
        return masked(process, shape)

    def legs(self, process: ForwardProcess, x: Tokens, t: int, steps: int | None) -> Iterator[Leg]:
        """One leg per round.

        Raises:
            ValueError: if the schedule replaces tokens, if steps are not in 1..n, or given beside `rounds`.
        """
        replaced = (process.schedule.replace * process.codes).max().item()
        if replaced > REPLACED:
            raise ValueError(f"route: fewer tokens per step need noise that only masks, this replaces {replaced:.0%}")
        left = (x == process.codes).sum(1)
        if self.rounds is None:
            return self._even(process, left, x.shape[1], min(t, x.shape[1]) if steps is None else steps)
        if steps is not None:
            raise ValueError(f"steps: the {len(self.rounds)} rounds settle it; leave steps out")
        return self._given([given for given in self.rounds if given.t <= t], left, process.codes)

    def _even(self, process: ForwardProcess, left: Tensor, n: int, steps: int) -> Iterator[Leg]:
        if not 1 <= steps <= n:
            raise ValueError(f"steps must be in 1..{n}, the number of tokens, got {steps}")
        before = left
        for i in range(1, steps + 1):
            after = left - left * i // steps
            nominal = torch.tensor([(steps - i) / steps], device=left.device)
            s = int(_time_of(process, nominal)) if i < steps else 0
            yield Leg(_time_of(process, before / n), s, self._draw(process.codes, before - after))
            before = after

    def _given(self, rounds: Sequence[Round], left: Tensor, codes: int) -> Iterator[Leg]:
        for given, s in zip(rounds, [*(later.t for later in rounds[1:]), 0], strict=True):
            number = left if given.tokens is None else left.clamp_max(given.tokens)
            yield Leg(torch.full_like(left, given.t), s, self._draw(codes, number))
            left = left - number

    def _draw(self, codes: int, number: Tensor) -> partial[Tensor]:
        return partial(self.reveal, codes=codes, number=number)

    def reveal(
        self, log_x0: LogCodes, x_t: Tokens, *, codes: int, number: Times, generator: Generators = None
    ) -> Tokens:
        """x_t with `number` (b,) of its masked positions drawn.

        Source: Improved VQ-Diffusion fewer tokens per step, purity prior
        """
        chosen = choose(self.choice(log_x0), x_t == codes, number, generator=generator)
        u = uniform(tuple(x_t.shape), device=x_t.device, generator=generator)
        b, n = torch.nonzero(chosen, as_tuple=True)
        law = self.sharpen(log_x0)[b, n].double().exp()
        return x_t.index_put((b, n), categorical(law, u[b, n]))

    def sharpen(self, log_x0: LogCodes) -> LogCodes:
        """`(1 + sharpness * purity) log p(x_0 | x_t)`, normalised, (b, n, k)."""
        if self.sharpness == 0:
            return log_x0
        sharpened: Tensor = ((1 + self.sharpness * purity(log_x0))[..., None] * log_x0).log_softmax(-1)
        return sharpened


def choose(weight: PerToken, available: TokenMask, number: Times, *, generator: Generators = None) -> TokenMask:
    """Choose `number` (b,) of the available positions of each image, without replacement, in proportion to `weight`."""
    u = uniform(tuple(weight.shape), device=weight.device, generator=generator)
    arrival = -torch.log1p(-u) / weight.double().clamp_min(torch.finfo(torch.float32).tiny)
    order = arrival.masked_fill(~available, torch.inf).argsort(-1).argsort(-1)
    return (order < number[:, None]) & available


def released_rounds(T: int, *, per_call: int = RELEASED_TOKENS) -> tuple[Round, ...]:
    """The rounds of the released code, for 1024 tokens: so many tokens at each time from T to 2, the rest at t = 1.

    Args:
        T: 100, 50, 25 or 10.
        per_call: most tokens of one call; more calls are made at the same time then (`prior_ps`).

    Raises:
        ValueError: if there is no table for T, or `per_call` is below 1.

    Source: Improved VQ-Diffusion fewer tokens per step
    """
    if per_call < 1:
        raise ValueError(f"per_call must be at least 1, got {per_call}")
    tables = {
        100: [6 if per_call <= 10 else 10, *[11, 10, 10] * 32, 11, 15 if per_call <= 10 else 11],
        50: [*[21, 20] * 24, 30],
        25: [*[41] * 23, 60],
        10: [*[102] * 8, 139],
    }
    if T not in tables:
        raise ValueError(f"T: the released code has tables for T in {sorted(tables)}, got {T}; leave rounds out")
    calls = [
        Round(t, calls)
        for t, tokens in zip(range(2, T + 1), tables[T], strict=True)
        for calls in _calls(tokens, per_call)
    ]
    return (*sorted(calls, key=lambda one: -one.t), Round(1, None))


def _calls(tokens: int, per_call: int) -> list[int]:
    """Numbers of tokens of the calls that draw `tokens`; one that would be left over is drawn with those before it."""
    calls = []
    while tokens > 0:
        now = min(tokens, per_call)
        calls.append(tokens if tokens - now == 1 else now)
        tokens -= calls[-1]
    return calls


def _time_of(process: ForwardProcess, fraction: PerExample) -> Times:
    """The times at which a fraction of the tokens nearest to these is masked, (b,) in 1..T."""
    rates = process.schedule.mask[1:]
    return (rates - fraction[:, None]).abs().argmin(-1) + 1
