"""Sampling from coarse to fine: scale after scale, each token by token, and every network pass only once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from discrete_diffusion._types import Generators, Tokens
from discrete_diffusion.drawing import categorical, uniform
from discrete_diffusion.imagebart._types import GivenGuide, Labels, OneLogits, OneToken, PerTime, Prefix
from discrete_diffusion.imagebart.denoiser import ScaleDenoiser
from discrete_diffusion.imagebart.forward_process import Multinomial
from discrete_diffusion.sampler import State


@dataclass(frozen=True)
class Filter:
    """Which codes may be drawn: from logits (b, k) to log-probabilities (b, k), normalised over what is left.

    Args:
        temperature: divides the logits; above 0.
        top_k: keep the k most probable codes, and those equal to the last of them; None for all.
        top_p: of those, keep the most probable ones before which the probabilities sum to less than p; None for all.

    Raises:
        ValueError: if one of them is out of range.

    Source: ImageBART sampling
    Unstated: top-k and temperature of the published samples; all codes, and 1 [top_k, temperature].
    Deviation: `top_p` is not in the released code, which also takes no temperature at the encoder-decoder scales
        [top_p, temperature].
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, or None for all codes, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], or None for all codes, got {self.top_p}")

    def __call__(self, logits: OneLogits) -> OneLogits:
        """Log-probabilities, float32, -inf where a code may not be drawn."""
        logits = logits.float() / self.temperature
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            least = logits.topk(self.top_k, -1).values[:, -1:]
            logits = logits.masked_fill(logits < least, -torch.inf)
        if self.top_p is not None and self.top_p < 1:
            falling, order = logits.softmax(-1).sort(-1, descending=True)
            beyond = falling.cumsum(-1) - falling >= self.top_p
            logits = logits.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), -torch.inf)
        return logits.log_softmax(-1)


ALL_CODES = Filter()
"""Draw from the model's law as it is."""


def sample(
    denoisers: Sequence[ScaleDenoiser],
    shape: tuple[int, int],
    condition: Labels | Prefix | None = None,
    *,
    process: Multinomial,
    filters: Filter | Sequence[Filter] = ALL_CODES,
    start: State | None = None,
    generator: Generators = None,
) -> Tokens:
    """Draw clean tokens (b, n); see `trajectory`.

    Source: ImageBART sampling
    """
    states = trajectory(denoisers, shape, condition, process=process, filters=filters, start=start, generator=generator)
    return list(states)[-1].x


@torch.no_grad()
def trajectory(
    denoisers: Sequence[ScaleDenoiser],
    shape: tuple[int, int],
    condition: Labels | Prefix | None = None,
    *,
    process: Multinomial,
    filters: Filter | Sequence[Filter] = ALL_CODES,
    start: State | None = None,
    generator: Generators = None,
) -> Iterator[State]:
    """The states after each scale, from the coarsest to the clean tokens at t = 0.

    Args:
        denoisers: that of scale t at t - 1; one that serves several scales stands there several times.
        shape: (b, n).
        condition: labels (b,) or prefixes (b, p), for every denoiser.
        process: the forward process that is reversed.
        filters: one for all scales, or one for each, that of scale t at t - 1.
        start: state to go on from (its `t` and `x`), instead of a draw of pure noise at n.
        generator: one for the batch, or a sequence of one per example, which then depends on its own alone.

    Raises:
        ValueError: if there are not as many denoisers or filters as scales, the coarsest scale is not pure noise, or
            `start` has another shape or no such scale.

    Source: ImageBART sampling
    """
    chosen = check_scales(denoisers, process, filters)
    if start is None:
        start = State(process.scales, process.prior(shape, generator=generator))
    if tuple(start.x.shape) != tuple(shape) or not 1 <= start.t <= process.scales:
        raise ValueError(
            f"start: expected tokens {tuple(shape)} at a scale in 1 .. {process.scales}, "
            f"got {tuple(start.x.shape)} at {start.t}"
        )
    x = start.x
    for t in range(start.t, 0, -1):
        times = torch.full((shape[0],), t, device=x.device)
        x = draw_scale(denoisers[t - 1], x, times, condition, filter=chosen[t - 1], generator=generator)
        yield State(t - 1, x)


@torch.no_grad()
def draw_scale(
    denoiser: ScaleDenoiser,
    x_t: Tokens,
    t: Tensor,
    condition: Labels | Prefix | None = None,
    *,
    filter: Filter = ALL_CODES,
    guide: GivenGuide | None = None,
    generator: Generators = None,
) -> Tokens:
    """Draw `x_{t-1}` given `x_t`, in raster order, (b, n).

    Args:
        denoiser: of this scale.
        x_t: the coarser tokens, (b, n).
        t: scales (b,).
        condition: labels (b,) or prefixes (b, p).
        filter: which codes may be drawn.
        guide: added to the logits, (b, n, k); -inf forbids a code. A code that alone is not forbidden is drawn.
        generator: gives one uniform number for each token, all at once.

    Raises:
        ValueError: if `guide` has another shape, or forbids all codes somewhere.

    Source: ImageBART sampling, local editing
    """
    if guide is not None and guide.shape[:2] != x_t.shape:
        raise ValueError(f"guide: expected (b, n, k) with (b, n) = {tuple(x_t.shape)}, got {tuple(guide.shape)}")
    if guide is not None and bool((guide == -torch.inf).all(-1).any()):
        raise ValueError("guide: at some tokens it forbids every code; leave one at least")
    u = uniform(tuple(x_t.shape), device=x_t.device, generator=generator)
    step, drawn = denoiser.decode(x_t, t, condition), torch.empty_like(x_t)
    previous = None
    for i in range(x_t.shape[1]):
        logits = step(previous)
        if guide is not None:
            logits = logits.float().clamp_min(torch.finfo(torch.float32).min / 2) + guide[:, i]
        previous = inverse_cumulative(filter(logits), u[:, i])
        drawn[:, i] = previous
    return drawn


def inverse_cumulative(log_p: OneLogits, u: PerTime) -> OneToken:
    """The code at which the cumulative probability first exceeds u in [0, 1), (b,), summed in float64.

    A code of probability 0 is never drawn.
    """
    return categorical(log_p.double().exp(), u.double())


def check_scales(
    denoisers: Sequence[ScaleDenoiser], process: Multinomial, filters: Filter | Sequence[Filter]
) -> list[Filter]:
    """The filter of each scale, once there are as many denoisers and filters as scales.

    Raises:
        ValueError: if there are not, or the coarsest scale is not pure noise.
    """
    if len(denoisers) != process.scales:
        raise ValueError(f"denoisers: {len(denoisers)} for a process of {process.scales} scales; give one for each")
    chosen = [filters] * process.scales if isinstance(filters, Filter) else list(filters)
    if len(chosen) != process.scales:
        raise ValueError(f"filters: {len(chosen)} for {process.scales} scales; give one for all, or one for each")
    if process.schedule.keep[-1] > 0:
        raise ValueError(
            f"process: the coarsest scale keeps a share of {process.schedule.keep[-1].item():.3g} of the tokens, so it "
            "cannot start from pure noise; end the schedule with 0"
        )
    return chosen
