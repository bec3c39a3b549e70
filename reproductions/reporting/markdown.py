"""The report as Markdown: the table, the differences, the ceiling, the costs."""

import re
from collections.abc import Iterable

from reproductions.reporting.findings import Better, Measurement, Report, RowResult, differences
from reproductions.reporting.numerals import count, duration, energy, figure, interval, sample_counts, signed

ARROWS = {Better.LOWER: "↓", Better.HIGHER: "↑"}


def markdown(report: Report) -> str:
    """Write the report as Markdown, without its pictures."""
    lines = [
        f"# {_cell(report.title)}",
        "",
        f"Profile `{report.profile}`, data `{report.data}`. {_cell(report.data_note)}",
        "",
    ]
    if not report.comparable:
        lines += ["**Not comparable with the paper.** Only differences between our own rows are claimed.", ""]
    lines += _table_of_rows(report)
    for group in report.meanings:
        names = ", ".join(f"`{metric.name}`" for metric in group)
        counts = sample_counts(report, group[0].name)
        lines.append(
            f"- {names} {ARROWS[group[0].better]} {_cell(group[0].meaning)}" + (f" {counts}." if counts else "")
        )
    lines += [*_illustrations(report), *_differences(report), *_ceiling(report), *_costs(report), *_notes(report)]
    return "\n".join([*lines, "", "## Again", "", "```", report.command, "```", ""])


def table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    """Write a table, its cells escaped."""
    lines = [[_cell(cell) for cell in head], ["---"] * len(head), *([_cell(cell) for cell in row] for row in rows)]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _cell(text: str) -> str:
    return re.sub(r"([\\`*<>|\[\]])", r"\\\1", " ".join(text.split()))


def _table_of_rows(report: Report) -> list[str]:
    metrics = report.measured_metrics
    head = ["approach", "kind", *[f"{name} (paper)" for name in report.paper_metrics]]
    head += [f"{metric.name} {ARROWS[metric.better]} (measured)" for metric in metrics]
    rows = [
        [
            row.approach,
            row.kind,
            *[figure(row.paper.get(name)) for name in report.paper_metrics],
            *_measured(report, row),
        ]
        for row in [*report.run_rows, *report.cited_rows]
    ]
    return [*table(head, rows), ""]


def _measured(report: Report, row: RowResult) -> list[str]:
    if row.measured is None:
        return ["cited, not run", *[""] * len(report.measured_metrics)][: len(report.measured_metrics)]
    found = [row.measured.get(metric.name) for metric in report.measured_metrics]
    return ["–" if m is None else _with_interval(m) for m in found]


def _with_interval(measurement: Measurement) -> str:
    return f"{figure(measurement.mean)} ({interval(measurement)})"


def _illustrations(report: Report) -> list[str]:
    return [line for each in report.illustrations for line in ("", f"![{_cell(each.words)}]({each.name}.png)")]


def _differences(report: Report) -> list[str]:
    rows = [
        [d.row, d.baseline, d.metric.name, signed(d.by_seed.mean), interval(d.by_seed), d.verdict]
        for d in differences(report)
    ]
    head = ["row", "minus", "metric", "difference", "95 % interval over seeds", "reading"]
    return ["", "## Differences between our own rows", "", *table(head, rows)] if rows else []


def _ceiling(report: Report) -> list[str]:
    rows = [[name, figure(m.mean), interval(m)] for name, m in report.ceiling.items()]
    return ["", "## Ceiling", "", *table(["measured on", "value", "95 % interval"], rows)] if rows else []


def _costs(report: Report) -> list[str]:
    rows = [
        [
            c.stage,
            duration(c.seconds),
            count(c.peak_mib, "MiB"),
            count(c.steps),
            count(c.parameters),
            "yes" if c.reused else "",
        ]
        for c in report.costs
    ]
    head = ["stage", "time", "peak memory", "steps", "parameters", "reused"]
    said = ["", f"Energy: {energy(report.energy)}."]
    return ["", "## Time, memory and energy", "", *table(head, rows), *said] if rows else []


def _notes(report: Report) -> list[str]:
    return ["", "## Notes", "", *[f"- {_cell(note)}" for note in report.notes]] if report.notes else []
