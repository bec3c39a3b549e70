"""The study of metrics as JSON, Markdown and one picture."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from reproductions.commands.evaluate import write
from reproductions.drawn.degradations import DROPPING, PER_PICTURE, RISING, UNMOVED, ranks_as_it_should

UNITS = {d.name: d.unit for d in PER_PICTURE} | {DROPPING: "classes of the labels left out"}
LINE, BAND, WRONG = "#1f6f8b", "#1f6f8b33", "#b3432b"


def write_report(out: Path, measured: dict[str, Any]) -> str:
    """Write corruptions.json, corruptions.md and corruptions.png; returns the Markdown."""
    report = {**measured, "ranks": ranks(measured)}
    write(out / "corruptions.json", report)
    draw(out / "corruptions.png", measured, report["ranks"])
    text = markdown(report)
    (out / "corruptions.md").write_text(text)
    return text


def series(measured: dict[str, Any], corruption: str, metric: str) -> list[dict[str, Any]]:
    """The scores of a metric from the untouched pictures to the strongest corruption, with their strengths."""
    chosen = [row for row in measured["rows"] if row["corruption"] in (corruption, "none")]
    found = []
    for row in sorted(chosen, key=lambda row: row["strength"]):
        (score,) = (score for score in row["scores"] if score["name"].startswith(f"{metric}["))
        found.append({**score, "strength": row["strength"]})
    return found


def ranks(measured: dict[str, Any]) -> dict[str, dict[str, bool | None]]:
    """Of each metric and corruption: whether every strength lies beyond the one before it; None where none should."""

    def verdict(metric: str, name: str) -> bool | None:
        values = [score["value"] for score in series(measured, name, metric)]
        return None if (metric, name) in UNMOVED else ranks_as_it_should(values, rising=RISING[metric])

    return {metric: {name: verdict(metric, name) for name in UNITS} for metric in RISING}


def markdown(report: dict[str, Any]) -> str:
    """Which metric ranks which corruption as it should, and all lines."""
    verdicts = {True: "yes", False: "**no**", None: "not meant to"}
    lines = [
        f"# Do scores follow how bad pictures are? {report['space']['name']}",
        "",
        f"`{report['fake']}`, made worse, against `{report['real']}`. A metric passes where each of the five strengths "
        "lies beyond the one before it, and the first beyond the untouched pictures: FID and KID should rise, "
        "precision and recall fall.",
        "",
        "![Scores over strengths, a row for each metric, a column for each corruption](corruptions.png)",
        "",
        "| | " + " | ".join(UNITS) + " |",
        "|---|" + "---|" * len(UNITS),
    ]
    for metric, verdict in report["ranks"].items():
        lines.append(f"| {metric} | " + " | ".join(verdicts[verdict[name]] for name in UNITS) + " |")
    for metric in RISING:
        (start,) = (row for row in report["rows"] if row["corruption"] == "none")
        (plain,) = (score for score in start["scores"] if score["name"].startswith(f"{metric}["))
        lines += ["", f"Untouched: {plain['line']}", "", "| corruption | strengths | scores |", "|---|---|---|"]
        for name, unit in UNITS.items():
            found = series(report, name, metric)[1:]
            strengths = ", ".join(f"{score['strength']:g}" for score in found)
            values = ", ".join(f"{score['value']:.3g}" for score in found)
            lines.append(f"| {name} ({unit}) | {strengths} | {values} |")
    return "\n".join(lines) + "\n"


def draw(path: Path, measured: dict[str, Any], verdicts: dict[str, dict[str, bool | None]]) -> None:
    """One small plot for each metric and corruption; what does not rank the strengths is in another colour."""
    with matplotlib.rc_context({"font.size": 8}):
        figure = Figure(figsize=(11, 7.2), layout="constrained")
        axes = figure.subplots(len(RISING), len(UNITS), squeeze=False)
        for row, metric in enumerate(RISING):
            for column, (name, unit) in enumerate(UNITS.items()):
                _plot(axes[row, column], series(measured, name, metric), verdicts[metric][name])
                if row == 0:
                    axes[row, column].set_title(name)
                if column == 0:
                    axes[row, column].set_ylabel(metric)
                if row == len(RISING) - 1:
                    axes[row, column].set_xlabel(unit)
        figure.suptitle(f"{measured['space']['name']}: {_counts(measured)}; red: strengths out of order")
        figure.savefig(path, dpi=110, metadata={"Software": None})


def _plot(axes: Any, found: list[dict[str, Any]], right: bool | None) -> None:
    places = [score["strength"] for score in found]
    if all(score["low"] is not None for score in found):
        axes.fill_between(
            places, *([score[end] for score in found] for end in ("low", "high")), color=BAND, linewidth=0
        )
    axes.plot(places, [score["value"] for score in found], "o-", markersize=3, color=WRONG if right is False else LINE)
    axes.spines[["top", "right"]].set_visible(False)


def _counts(measured: dict[str, Any]) -> str:
    score = measured["rows"][0]["scores"][0]
    return f"N = {score['n_real']:,} / {score['n_fake']:,}"
