"""Plots of measurements as PNG: bars side by side with their intervals, and a line beside them."""

import io
from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproductions.reporting.findings import Measurement

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a6458f")
DPI = 130
Bars = Mapping[str, Sequence[Measurement | None]]


def png(figure: Figure) -> bytes:
    """Encode a plot; equal plots give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def panels(number: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A plot of so many panels, one below the other."""
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(width, height * number), layout="constrained")
        axes = list(figure.subplots(number, 1, squeeze=False)[:, 0])
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def bars(axes: Axes, groups: Sequence[str], series: Bars, label: str) -> None:
    """Bars of each series in each group, with the 95 % interval where there is one and a dot for every seed.

    Of a single seed, the interval over samples stands in grey.
    """
    width = 0.8 / max(1, len(series))
    for i, (name, measured) in enumerate(series.items()):
        there = [(g, m) for g, m in enumerate(measured) if m is not None]
        places = [g + (i - (len(series) - 1) / 2) * width for g, _ in there]
        axes.bar(places, [m.mean for _, m in there], 0.92 * width, color=COLOURS[i], label=name, alpha=0.75)
        for place, (_, m) in zip(places, there, strict=True):
            if m.low is not None and m.high is not None:
                axes.errorbar(place, m.mean, [[m.mean - m.low], [m.high - m.mean]], color="#222222", capsize=3, lw=1)
                axes.plot([place] * len(m.values), m.values, ".", color="#222222", markersize=3)
            elif m.sampled is not None:
                apart = [[max(0.0, m.mean - m.sampled[0])], [max(0.0, m.sampled[1] - m.mean)]]
                axes.errorbar(place, m.mean, apart, color="#999999", capsize=2, lw=0.8)
    axes.set_xticks(range(len(groups)), list(groups))
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, 1.18), ncols=len(series))


def lines(axes: Axes, groups: Sequence[str], series: Bars, label: str) -> None:
    """The same groups as lines on an axis of their own at the right."""
    other = axes.twinx()
    other.spines["top"].set_visible(False)
    for i, (name, measured) in enumerate(series.items()):
        there = [(g, m.mean) for g, m in enumerate(measured) if m is not None]
        other.plot(*zip(*there, strict=True), "o--", color=COLOURS[i], label=name, lw=1.3, markersize=5, mec="white")
    other.set_ylabel(label)
    other.set_ylim(bottom=0)
