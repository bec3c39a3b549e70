"""Schedules of the scales: how likely a token still is that of the image, from all of them to none."""

from collections.abc import Sequence
from itertools import pairwise

import torch

from discrete_diffusion.schedule import Schedule

FFHQ_KEEP = {2: (1.0, 0.636, 0.0), 3: (1.0, 0.7576, 0.4904, 0.0), 4: (1.0, 0.8182, 0.636, 0.4091, 0.0)}
"""Published `abar_0 .. abar_n` on FFHQ by number of scales, equidistant in a perceptual similarity; four digits."""

IMAGENET_KEEP = {
    3: (1.0, 0.8483, 0.6526, 0.0),
    4: (1.0, 0.8871, 0.7619, 0.5747, 0.0),
    5: (1.0, 0.9099, 0.8151, 0.7016, 0.515, 0.0),
}
"""The same on ImageNet, also used for LSUN."""


def explicit(keep: Sequence[float], codes: int) -> Schedule:
    """The schedule with the cumulative probabilities `keep = (abar_0 = 1, abar_1, .., abar_n)`.

    Raises:
        ValueError: unless they fall from 1 at every scale, and not below 0.

    Source: ImageBART scale schedules
    """
    values = [float(p) for p in keep]
    if len(values) < 2 or values[0] != 1:
        raise ValueError(f"keep must start with 1, the clean tokens, and have a value for every scale, got {values}")
    if any(after >= before for before, after in pairwise(values)) or values[-1] < 0:
        raise ValueError(f"keep must fall at every scale, and not below 0, got {values}")
    with torch.device("cpu"):
        kept = torch.tensor(values, dtype=torch.float64)
        return Schedule(kept, torch.zeros_like(kept), codes)


def geometric(scales: int, codes: int) -> Schedule:
    """Redraw with probability `beta_t = 1 / (n - t + 1)`, which makes `abar_t = 1 - t / n`.

    Raises:
        ValueError: unless there is a scale.

    Source: ImageBART scale schedules
    """
    if scales < 1:
        raise ValueError(f"scales must be at least 1, got {scales}")
    return explicit([1 - t / scales for t in range(scales + 1)], codes)


def equidistant(keep: Sequence[float], metric: Sequence[float], *, scales: int, codes: int) -> Schedule:
    """The schedule whose scales are equally far apart in a metric that was measured on noised tokens.

    Args:
        keep: where it was measured, falling from 1 to 0.
        metric: what was measured there, strictly rising or strictly falling; linear in between.
        scales: n; the metric at scale t is `t / n` of the way from the first measurement to the last.
        codes: number of codes, K.

    Raises:
        ValueError: if there are not as many values of one as of the other, or either is not monotone.

    Source: ImageBART scale schedules
    """
    places, values = (torch.tensor([float(v) for v in row], dtype=torch.float64) for row in (keep, metric))
    if places.shape != values.shape or len(places) < 2:
        raise ValueError(f"metric: one value for each of keep, and two at least; got {len(values)} for {len(places)}")
    if places[0] != 1 or places[-1] != 0 or bool((places.diff() >= 0).any()):
        raise ValueError(f"keep must fall from 1 to 0, got {list(keep)}")
    steps = values.diff() * (values[-1] - values[0]).sign()
    if not bool((steps > 0).all()):
        raise ValueError(f"metric must rise throughout, or fall throughout, as keep falls; got {list(metric)}")
    if scales < 1:
        raise ValueError(f"scales must be at least 1, got {scales}")
    way = (values - values[0]) / (values[-1] - values[0])
    inner = [_interpolate(way, places, t / scales) for t in range(1, scales)]
    return explicit([1.0, *inner, 0.0], codes)


def _interpolate(x: torch.Tensor, y: torch.Tensor, at: float) -> float:
    """`y` at `at`, linear between the rising points `x`."""
    right = int(torch.searchsorted(x, torch.tensor(at, dtype=x.dtype)).clamp(1, len(x) - 1))
    share = (at - x[right - 1]) / (x[right] - x[right - 1])
    return float(torch.lerp(y[right - 1], y[right], share))
