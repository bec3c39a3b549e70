"""Paired comparisons over seeds: differences with intervals, a paired t-test, Holm's correction for their number."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import stdtr  # type: ignore[import-untyped]

from reproductions.reporting.findings import Measurement, MetricInfo, summarise

LEVEL = 0.05


@dataclass(frozen=True)
class Compared:
    """One of a family of comparisons by one metric.

    difference: by seed, with its interval; p: of the paired t-test (None: one seed, or no spread); holm: the same,
    corrected for the number of comparisons.
    """

    difference: Measurement
    p: float | None
    holm: float | None

    def reading(self, metric: MetricInfo) -> str:
        """What the corrected test supports."""
        if self.p is None or self.holm is None:
            return "no test"
        if self.holm >= LEVEL:
            return "not shown"
        return "better" if (self.difference.mean < 0) == (metric.better.value == "lower") else "worse"


def compared(pairs: Sequence[tuple[Mapping[int, float], Mapping[int, float]]]) -> list[Compared]:
    """Compare ours with theirs, each seed -> value, over the seeds that both have; all of them are one family.

    Raises:
        ValueError: where a pair has no seed in common.
    """
    differences = []
    for i, (ours, theirs) in enumerate(pairs):
        shared = {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}
        if not shared:
            raise ValueError(f"pair {i}: seeds {sorted(ours)} and {sorted(theirs)} have none in common; run both alike")
        differences.append(summarise(shared))
    raw = [probability(each) for each in differences]
    tested = [p for p in raw if p is not None]
    corrected = iter(holm(tested))
    return [
        Compared(difference, p, None if p is None else next(corrected))
        for difference, p in zip(differences, raw, strict=True)
    ]


def probability(difference: Measurement) -> float | None:
    """Two-sided p of a t-test that the mean difference is zero; None for one seed, no spread, or no finite value."""
    number, spread = len(difference.values), difference.std
    if spread is None or not math.isfinite(spread) or spread == 0:
        return None
    return float(2 * stdtr(number - 1, -abs(difference.mean) * math.sqrt(number) / spread))


def holm(probabilities: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the k-th smallest of n times n - k + 1, not below smaller ones, at most 1."""
    number = len(probabilities)
    corrected = [0.0] * number
    highest = 0.0
    for rank, i in enumerate(sorted(range(number), key=probabilities.__getitem__)):
        highest = max(highest, min(1.0, (number - rank) * probabilities[i]))
        corrected[i] = highest
    return corrected
