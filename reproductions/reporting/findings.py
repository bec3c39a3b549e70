"""What a run of a table found: measurements, pictures, curves, costs, and the differences between its own rows."""

import enum
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean, stdev
from typing import Any

import torch
from scipy.special import stdtrit  # type: ignore[import-untyped]
from torch import Tensor

from reproductions.reporting.energy import Energy

CONFIDENCE = 0.95


class Better(enum.Enum):
    """Which way a metric improves."""

    LOWER = "lower"
    HIGHER = "higher"


@dataclass(frozen=True)
class MetricInfo:
    """A metric: its name with its feature space in it, which way it improves, and one sentence on what it means."""

    name: str
    better: Better
    meaning: str


@dataclass(frozen=True)
class Measurement:
    """One metric of one row, over seeds.

    `std`, `low` and `high` (a Student-t 95 % interval of the mean) are None for a single seed. `values` are those of
    `seeds`, in their order; rows are compared by them, seed by seed. `sampled` is the 95 % interval over samples of a
    single seed, where there is one: it says nothing of another training, and no difference is claimed by it.
    """

    mean: float
    std: float | None
    low: float | None
    high: float | None
    seeds: tuple[int, ...]
    n_real: int | None
    n_fake: int | None
    values: tuple[float, ...] = ()
    sampled: tuple[float, float] | None = None


@dataclass(frozen=True)
class RowResult:
    """A row: the paper's numbers, ours where it was run (else None), and the row that it adds the context loss to."""

    approach: str
    kind: str
    paper: Mapping[str, float | None]
    measured: Mapping[str, Measurement] | None
    note: str = ""
    baseline: str | None = None


@dataclass(frozen=True)
class Curve:
    """Loss terms of one training stage as (step, value); curves of one stage and several seeds are drawn together."""

    stage: str
    series: Mapping[str, Sequence[tuple[int, float]]]
    seed: int | None = None


@dataclass(frozen=True)
class Cost:
    """What one stage took: seconds, peak memory in MiB, steps, parameters; `reused` if it was there already."""

    stage: str
    seconds: float
    peak_mib: float | None
    steps: int | None
    parameters: int | None
    reused: bool


@dataclass(frozen=True)
class Samples:
    """Samples of an approach, uint8 `(b, 3, H, W)`, one a caption; `right (b,)`: whether a judge reads the caption."""

    approach: str
    images: Tensor
    right: Tensor | None = None


@dataclass(frozen=True)
class Illustration:
    """A picture of its own: the name of its file, its title, the same in words, and PNG bytes."""

    name: str
    title: str
    words: str
    png: bytes


@dataclass(frozen=True)
class Report:
    """All that the files of a table are written from.

    `captions`, `real` and every `Samples.images` are in one order; `reconstructions` are of the first images of `real`.
    `manifest` holds no times: they are in `costs`, so that equal runs give equal tables. `energy` is that of all runs
    of the command, None where the machine does not report it.
    """

    table: str
    title: str
    profile: str
    comparable: bool
    data: str
    data_note: str
    rows: Sequence[RowResult]
    metrics: Sequence[MetricInfo]
    captions: Sequence[str]
    real: Tensor
    reconstructions: Mapping[str, Tensor]
    samples: Sequence[Samples]
    curves: Sequence[Curve]
    costs: Sequence[Cost]
    ceiling: Mapping[str, Measurement]
    environment: Mapping[str, Any]
    manifest: Mapping[str, Any]
    notes: Sequence[str]
    command: str
    illustrations: Sequence[Illustration] = ()
    energy: Energy | None = None

    def __post_init__(self) -> None:
        _check_pictures(self)
        _check_rows(self)

    @property
    def paper_metrics(self) -> list[str]:
        """The paper's columns, in the order in which the rows name them."""
        return list(dict.fromkeys(name for row in self.rows for name in row.paper))

    @property
    def measured_metrics(self) -> list[MetricInfo]:
        """The metrics that some row was measured by."""
        measured = {name for row in self.rows for name in row.measured or {}}
        return [metric for metric in self.metrics if metric.name in measured]

    @property
    def meanings(self) -> list[list[MetricInfo]]:
        """The measured metrics, neighbours that mean the same together."""
        return [list(group) for _, group in groupby(self.measured_metrics, key=lambda metric: metric.meaning)]

    @property
    def run_rows(self) -> list[RowResult]:
        """The rows that were run, each after its baseline."""
        run = [row for row in self.rows if row.measured is not None]
        place = {row.approach: i for i, row in enumerate(run)}
        return sorted(run, key=lambda row: (place.get(row.baseline or "", place[row.approach]), row.baseline in place))

    @property
    def paired_samples(self) -> list[Samples]:
        """The samples in the order of the run rows, any others after them."""
        place = {row.approach: i for i, row in enumerate(self.run_rows)}
        return sorted(self.samples, key=lambda samples: place.get(samples.approach, len(place)))

    @property
    def cited_rows(self) -> list[RowResult]:
        """The rows that were not run."""
        return [row for row in self.rows if row.measured is None]


@dataclass(frozen=True)
class Difference:
    """A row minus its baseline by one metric, paired by seed."""

    row: str
    baseline: str
    metric: MetricInfo
    by_seed: Measurement

    @property
    def verdict(self) -> str:
        """Say what the interval supports: nothing without one, or with zero inside it."""
        low, high = self.by_seed.low, self.by_seed.high
        if low is None or high is None:
            return "one seed: no spread, no claim"
        if not (math.isfinite(low) and math.isfinite(high)):
            return "not finite: no claim"
        if low <= 0 <= high:
            return "no difference shown"
        return "better" if (high < 0) == (self.metric.better is Better.LOWER) else "worse"


def summarise(values: Mapping[int, float], n_real: int | None = None, n_fake: int | None = None) -> Measurement:
    """The mean of `values` (seed -> value) with, from two seeds on, its sample deviation and Student-t 95 % interval.

    `mean -+ t std / sqrt(n)`, t being the 97.5 % quantile with n - 1 degrees of freedom.

    Raises:
        ValueError: for no values.
    """
    if not values:
        raise ValueError("summarise: `values` is empty; give one seed's value at least, or leave the row unmeasured")
    seeds = tuple(sorted(values))
    ordered = tuple(float(values[seed]) for seed in seeds)
    mean = fmean(ordered)
    if len(ordered) == 1:
        return Measurement(mean, None, None, None, seeds, n_real, n_fake, ordered)
    std = stdev(ordered) if all(map(math.isfinite, ordered)) else math.nan
    half = float(stdtrit(len(ordered) - 1, (1 + CONFIDENCE) / 2)) * std / math.sqrt(len(ordered))
    return Measurement(mean, std, mean - half, mean + half, seeds, n_real, n_fake, ordered)


def differences(report: Report) -> Iterator[Difference]:
    """Every run row minus its run baseline, metric by metric, over the seeds that both have."""
    run = {row.approach: row.measured for row in report.rows if row.measured is not None}
    for row in report.run_rows:
        baseline = run.get(row.baseline or "")
        if row.baseline is None or baseline is None or row.measured is None:
            continue
        for metric in report.measured_metrics:
            ours, theirs = _by_seed(row.measured.get(metric.name)), _by_seed(baseline.get(metric.name))
            if shared := {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}:
                yield Difference(row.approach, row.baseline, metric, summarise(shared))


def _by_seed(measurement: Measurement | None) -> dict[int, float]:
    return {} if measurement is None else dict(zip(measurement.seeds, measurement.values, strict=False))


def _check_pictures(report: Report) -> None:
    captioned = {"real": report.real} | {f"samples of {some.approach}": some.images for some in report.samples}
    others = {f"reconstructions {name}": images for name, images in report.reconstructions.items()}
    for name, images in (captioned | others).items():
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"{name}: images must be uint8 (b, 3, H, W), not {images.dtype} {tuple(images.shape)}")
    captions = len(report.captions)
    for name, images in captioned.items():
        if len(images) != captions:
            raise ValueError(f"{name}: {len(images)} images for {captions} captions; give one a caption, in one order")
    for name, images in others.items():
        if len(images) > captions:
            raise ValueError(f"{name}: {len(images)} images, but `real` has {captions}; give the first of them")
    for some in report.samples:
        if some.right is not None and tuple(some.right.shape) != (captions,):
            raise ValueError(f"samples of {some.approach}: `right` is {tuple(some.right.shape)}, must be ({captions},)")


def _check_rows(report: Report) -> None:
    known = {metric.name for metric in report.metrics}
    approaches = {row.approach for row in report.rows}
    for row in report.rows:
        if unknown := sorted(set(row.measured or {}) - known):
            raise ValueError(
                f"row {row.approach}: `metrics` does not say what {', '.join(unknown)} means; add it there"
            )
        if row.baseline is not None and row.baseline not in approaches:
            raise ValueError(
                f"row {row.approach}: its baseline {row.baseline!r} is no row; rows are {', '.join(sorted(approaches))}"
            )
