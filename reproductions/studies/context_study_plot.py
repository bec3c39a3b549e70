"""All differences of the study of the context loss in one plot: a dot and an interval for each, and the seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproductions.reporting.charts import COLOURS, png

SHOWN = {"better": COLOURS[2], "worse": COLOURS[1]}
ROW, HEAD = 0.27, 1.0


def draw(sections: Sequence[Mapping[str, Any]]) -> bytes:
    """PNG of the differences of the first metric: a panel for each model of each data set, a line for each pair.

    Coloured is what the corrected test shows.
    """
    families = [list(dict.fromkeys(row["family"] for row in each["rows"])) for each in sections]
    lines = [
        max(sum(row["family"] == name for row in each["rows"]) for name in names)
        for each, names in zip(sections, families, strict=True)
    ]
    heights = [ROW * number + HEAD for number in lines]
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(9.6, sum(heights)), layout="constrained")
        grid = figure.subplots(len(sections), 2, squeeze=False, gridspec_kw={"height_ratios": heights})
        for each, names, places in zip(sections, families, grid, strict=True):
            for i, (name, axes) in enumerate(zip(names, places, strict=True)):
                _panel(axes, each, [row for row in each["rows"] if row["family"] == name], named=i == 0)
                axes.set_title(f"{name} on {each['data']}", loc="left", fontsize=10, fontweight="bold")
    return png(figure)


def _panel(axes: Axes, found: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], *, named: bool) -> None:
    metric, (better, _) = next(iter(found["metrics"].items()))
    axes.axvline(0, color="#1c1c1e", lw=0.8)
    for place, row in enumerate(rows):
        said = row["differences"][metric]
        colour = SHOWN.get(said["reading"], "#6e6e73")
        values = list(said["by seed"].values())
        axes.plot(values, [place + 0.24] * len(values), "o", color=colour, alpha=0.4, markersize=3, mec="none")
        if said["low"] is not None:
            axes.plot([said["low"], said["high"]], [place, place], color=colour, lw=1.8, solid_capstyle="round")
        axes.plot(said["mean"], place, "D" if place < 2 else "o", color=colour, markersize=5.5, mec="white", mew=0.7)
    if len(rows) > 2:
        axes.axhline(1.5, color="#d8d8dc", lw=0.8, ls=(0, (4, 3)))
    axes.set_yticks(range(len(rows)), [row["pair"] for row in rows] if named else [""] * len(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#ececf0", lw=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    helps = "← context loss helps" if better == "lower" else "context loss helps →"
    axes.set_xlabel(f"difference in {metric}   ({helps})")
