"""Which of a process's steps 1..T a sampler visits: rules `(T, steps) -> rising steps`."""

from collections.abc import Callable, Sequence

import torch

from continuous_diffusion.schedule import Schedule

Spacing = Callable[[int, int], Sequence[int]]


def evenly(T: int, steps: int) -> tuple[int, ...]:
    """`steps` of the steps 1..T, evenly spaced, T among them."""
    return tuple((T * i + steps - 1) // steps for i in range(1, steps + 1))


def trailing(T: int, steps: int) -> tuple[int, ...]:
    """T, T - T / steps, ..., rounded to the nearest (ties to even): what others call "trailing"."""
    return tuple(round(T - i * T / steps) for i in reversed(range(steps)))


def leading(T: int, steps: int) -> tuple[int, ...]:
    """1, 1 + T // steps, ...: what others call "leading". T is not among them."""
    return tuple(1 + i * (T // steps) for i in range(steps))


def spanning(T: int, steps: int) -> tuple[int, ...]:
    """From 1 to T, both among them, evenly spaced, rounded to the nearest (ties to even): respacing as ADM does it."""
    return tuple(1 + round(i * ((T - 1) / max(steps - 1, 1))) for i in range(steps))


def strided(T: int, steps: int) -> tuple[int, ...]:
    """The rule of LDM's code: `range(0, T, T // steps) + 1` counted from 0, so 2, 2 + T // steps, ... here.

    There are more than `steps` of them where `steps` does not divide T. Raises ValueError where the rule leaves 1..T.

    Source: LDM sampling
    """
    chosen = tuple(i + 2 for i in range(0, T, T // steps))
    if chosen[-1] > T:
        raise ValueError(f"steps: {steps} of {T} steps by this rule reach {chosen[-1]}; take fewer, or evenly")
    return chosen


def quadratic(T: int, steps: int) -> tuple[int, ...]:
    """LDM's "quad" rule: squares of evenly spaced numbers up to 0.8 T, dense near the clean end.

    Source: LDM sampling
    """
    roots = torch.linspace(0, (0.8 * T) ** 0.5, steps, dtype=torch.float64)
    return tuple(int(i) + 2 for i in roots**2)


def evenly_in_log_snr(schedule: Schedule, *, first: int = 1, last: int | None = None) -> Spacing:
    """The rule for this schedule that spaces the log signal-to-noise ratio evenly between the steps first..last.

    `last` is T when None, or the one before where that is pure noise. The steps are the nearest whole ones; where
    `steps` asks for more than there are so, two coincide, and sampling says so.
    """
    ratio = schedule.log_snr
    if last is None:
        last = schedule.T if ratio[-1].isfinite() else schedule.T - 1

    def spaced(T: int, steps: int) -> tuple[int, ...]:
        levels = torch.linspace(float(ratio[first]), float(ratio[last]), steps, dtype=torch.float64)
        return tuple(schedule.at_log_snr(levels).round().int().tolist())

    return spaced
