"""Loss curves as inline SVG, one panel a stage and loss term, in colours that follow the page's own."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.figure import Figure

from reproductions.reporting.findings import Curve

INK, LINES = "#010203", ("#010204", "#010205", "#010206", "#010207")
DASHES = ("-", "--", "-.", ":")
FADED = 0.28
SMOOTHED_FROM = 40
DRAWN = 300

Points = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Panel:
    """One loss term of one stage, drawn: inline SVG, and the same in words."""

    stage: str
    term: str
    svg: str
    words: str


def panels(curves: Sequence[Curve]) -> list[Panel]:
    """Each term of each stage drawn in a panel of its own; the seeds of a stage share it."""
    drawn: dict[tuple[str, str], list[tuple[int | None, Points]]] = {}
    for curve in curves:
        for term, points in curve.series.items():
            if points:
                drawn.setdefault((curve.stage, term), []).append((curve.seed, points))
    return [Panel(stage, term, _svg(stage, term, lines), _words(lines)) for (stage, term), lines in drawn.items()]


def smoothed(points: Points, width: int) -> list[tuple[int, float]]:
    """The running mean over `width` points, placed at the middle step of each window."""
    half = width // 2
    windows = (points[max(0, i - half) : i + half + 1] for i in range(len(points)))
    return [(points[i][0], sum(value for _, value in window) / len(window)) for i, window in enumerate(windows)]


def thinned(points: Points) -> Points:
    """At most about `DRAWN` of the points, evenly apart, the last one among them."""
    step = -(-len(points) // DRAWN)
    return points[::-step][::-1] if step > 1 else points


def _words(lines: Sequence[tuple[int | None, Points]]) -> str:
    first, last = lines[0][1][0], lines[0][1][-1]
    return f"from {first[1]:.4g} at step {first[0]} to {last[1]:.4g} at step {last[0]}"


def _svg(stage: str, term: str, lines: Sequence[tuple[int | None, Points]]) -> str:
    with matplotlib.rc_context({"svg.hashsalt": f"{stage}/{term}", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(4.4, 2.5))
        axes = figure.add_axes((0.17, 0.2, 0.8, 0.76))
        for i, (seed, points) in enumerate(lines):
            colour, dashes = LINES[i % len(LINES)], DASHES[i % len(DASHES)]
            many = len(points) >= SMOOTHED_FROM
            if many:
                axes.plot(*zip(*thinned(points), strict=True), color=colour, linewidth=0.8, alpha=FADED)
            line = thinned(smoothed(points, len(points) // 20 + 1)) if many else points
            axes.plot(
                *zip(*line, strict=True),
                dashes,
                color=colour,
                linewidth=1.6,
                label="" if seed is None else f"seed {seed}",
            )
        axes.set_yscale("log" if _spans_decades(lines) else "linear")
        axes.set_xlabel("step", color=INK)
        axes.set_ylabel(term, color=INK)
        axes.tick_params(colors=INK, which="both")
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["bottom", "left"]].set_color(INK)
        if len(lines) > 1:
            axes.legend(frameon=False, fontsize=9, labelcolor=INK)
        figure.patch.set_alpha(0.0)
        axes.patch.set_alpha(0.0)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _inlined(buffer.getvalue())


def _spans_decades(lines: Sequence[tuple[int | None, Points]]) -> bool:
    values = [value for _, points in lines for _, value in points]
    return min(values) > 0 and max(values) / min(values) > 30


def _inlined(svg: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg)
    svg = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", svg)
    svg = re.sub(
        r'<svg[^>]*viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true" focusable="false">', svg, count=1
    )
    svg = re.sub(r"(font: [^;\"]*?px)[^;\"]*", r"\1 system-ui, sans-serif", svg)
    for number, colour in enumerate(LINES, 1):
        svg = svg.replace(colour, f"var(--line-{number})")
    return re.sub(r"\n\s*", "\n", svg.replace(INK, "currentColor")).strip()
