"""Every table of a report for other programs: CSV in full precision, LaTeX (booktabs) for a paper."""

import csv
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from reproductions.reporting.findings import Better, Measurement, MetricInfo, Report, differences
from reproductions.reporting.numerals import figure, signed

ARROWS = {Better.LOWER: r" $\downarrow$", Better.HIGHER: r" $\uparrow$"}
ESCAPED = {
    **{letter: "\\" + letter for letter in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "–": "--",
    "λ": r"$\lambda$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "\N{NO-BREAK SPACE}": "~",
}
Plain = str | float | int | None


@dataclass(frozen=True)
class Sheet:
    """A table: the name of its files, what it shows, and its lines, heads first, as values and as LaTeX."""

    name: str
    caption: str
    values: Sequence[Sequence[Plain]]
    cells: Sequence[Sequence[str]]
    words: int

    def csv(self) -> str:
        """As CSV (RFC 4180) in full precision; what is not there, or not finite, is empty."""
        buffer = io.StringIO()
        writer = csv.writer(buffer)
        for line in self.values:
            writer.writerow(["" if isinstance(v, float) and not math.isfinite(v) else v for v in line])
        return buffer.getvalue()

    def latex(self) -> str:
        """As a LaTeX table that needs booktabs; its first `words` columns are text."""
        columns = "l" * self.words + "r" * (len(self.cells[0]) - self.words)
        head, *rows = (" & ".join(line) + r" \\" for line in self.cells)
        body = ["\\toprule", head, "\\midrule", *rows, "\\bottomrule"]
        return "\n".join(
            [
                "% \\usepackage{booktabs}",
                "\\begin{table}",
                "\\centering",
                f"\\caption{{{escaped(self.caption)}}}",
                f"\\label{{tab:{self.name}}}",
                f"\\begin{{tabular}}{{{columns}}}",
                *body,
                "\\end{tabular}",
                "\\end{table}",
                "",
            ]
        )


def escaped(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    return re.sub("|".join(map(re.escape, ESCAPED)), lambda found: ESCAPED[found.group()], text)


def files(report: Report) -> dict[str, bytes]:
    """The content of `<name>.csv` and `<name>.tex` for each table of the report."""
    written: dict[str, bytes] = {}
    for sheet in sheets(report):
        written |= {f"{sheet.name}.csv": sheet.csv().encode(), f"{sheet.name}.tex": sheet.latex().encode()}
    return written


def sheets(report: Report) -> list[Sheet]:
    """The tables of the report that have rows."""
    found = [_rows(report), _differences(report), _ceiling(report), _costs(report)]
    return [sheet for sheet in found if len(sheet.values) > 1]


def _rows(report: Report) -> Sheet:
    metrics = report.measured_metrics
    rows = [*report.run_rows, *report.cited_rows]
    head: list[Plain] = ["approach", "kind", *(f"{name} (paper)" for name in report.paper_metrics)]
    head += [part for metric in metrics for part in _parts(metric.name)]
    values = [
        [row.approach, row.kind, *map(row.paper.get, report.paper_metrics), *_spreads(row.measured, metrics)]
        for row in rows
    ]
    titles = [*(f"{escaped(name)} (paper)" for name in report.paper_metrics)]
    titles += [escaped(metric.name) + ARROWS[metric.better] for metric in metrics]
    cells = [
        [
            escaped(row.approach),
            escaped(row.kind),
            *(escaped(figure(row.paper.get(name))) for name in report.paper_metrics),
            *(_with_interval((row.measured or {}).get(metric.name)) for metric in metrics),
        ]
        for row in rows
    ]
    caption = f"{report.title}. Profile {report.profile}, data {report.data}."
    if not report.comparable:
        caption += " Measured numbers are not comparable with the paper's."
    return Sheet(report.table, caption, [head, *values], [["Approach", "Kind", *titles], *cells], 2)


def _differences(report: Report) -> Sheet:
    found = list(differences(report))
    head: list[Plain] = ["row", "minus", "metric", "difference", "low", "high", "seeds", "reading"]
    values = [
        [d.row, d.baseline, d.metric.name, d.by_seed.mean, d.by_seed.low, d.by_seed.high, len(d.by_seed.seeds)]
        + [d.verdict]
        for d in found
    ]
    cells = [
        [escaped(d.row), escaped(d.baseline), escaped(d.metric.name) + ARROWS[d.metric.better], escaped(d.verdict)]
        + [_with_interval(d.by_seed, signed), str(len(d.by_seed.seeds))]
        for d in found
    ]
    caption = f"{report.title}: rows with the context loss minus the same rows without, paired by seed."
    titles = ["Row", "Minus", "Metric", "Reading", r"Difference (95\,\% interval)", "Seeds"]
    return Sheet(f"{report.table}-differences", caption, [head, *values], [titles, *cells], 4)


def _ceiling(report: Report) -> Sheet:
    head: list[Plain] = ["measured on", "value", "images"]
    values = [[name, m.mean, m.n_fake] for name, m in report.ceiling.items()]
    cells = [[escaped(name), _with_interval(m), _whole(m.n_fake)] for name, m in report.ceiling.items()]
    caption = f"{report.title}: scores without any diffusion model."
    sheet = [["Measured on", "Value", "Images"], *cells]
    return Sheet(f"{report.table}-ceiling", caption, [head, *values], sheet, 1)


def _costs(report: Report) -> Sheet:
    head: list[Plain] = ["stage", "seconds", "peak MiB", "steps", "parameters"]
    values = [[c.stage, c.seconds, c.peak_mib, c.steps, c.parameters] for c in report.costs]
    cells = [
        [escaped(c.stage), f"{c.seconds:.1f}", _whole(c.peak_mib), _whole(c.steps), _whole(c.parameters)]
        for c in report.costs
    ]
    caption = f"{report.title}: what each stage took on one machine; stages may have run side by side."
    titles = ["Stage", "Seconds", "Peak MiB", "Steps", "Parameters"]
    return Sheet(f"{report.table}-costs", caption, [head, *values], [titles, *cells], 1)


def _parts(name: str) -> list[str]:
    return [name, f"{name} low", f"{name} high", f"{name} seeds"]


def _spreads(measured: Mapping[str, Measurement] | None, metrics: Sequence[MetricInfo]) -> list[Plain]:
    found = [(measured or {}).get(metric.name) for metric in metrics]
    return [v for m in found for v in ((m.mean, m.low, m.high, len(m.seeds)) if m else (None,) * 4)]


def _with_interval(measurement: Measurement | None, written: Callable[[float], str] = figure) -> str:
    if measurement is None:
        return "--"
    value = escaped(written(measurement.mean))
    low, high = measurement.low, measurement.high
    if measurement.sampled is not None:
        low, high = measurement.sampled
    return value if low is None or high is None else f"{value} ({escaped(figure(low))} to {escaped(figure(high))})"


def _whole(value: float | None) -> str:
    return "--" if value is None else f"{value:,.0f}".replace(",", "\\,")
