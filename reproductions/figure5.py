"""Figure 5 of ConPreDiff: published models with and without context prediction, everything else the same.

Source: ConPreDiff Figure 5
Unstated: which models the figure shows, on what data, and all of its numbers; none of them could be recovered.
"""

from functools import partial
from pathlib import Path

from reproductions import sampled_rows
from reproductions.experiment import Context, Family, Kind, Model, Row, Table
from reproductions.picture_tables import Planned, reproduce
from reproductions.reporting import charts
from reproductions.reporting.findings import Illustration, Measurement
from reproductions.sampled_rows import on
from reproductions.table_options import TableOptions
from reproductions.table_report import measured_of, report_of

KINDS = {Family.DDPM: Kind.CONTINUOUS, Family.LDM: Kind.CONTINUOUS, Family.DIT: Kind.CONTINUOUS}
WITH = " + context"


def _pair(family: Family, context: Context) -> tuple[Row, Row]:
    kind = KINDS.get(family, Kind.DISCRETE)
    name = str(family)
    return Row(name, kind, method=Model(family)), Row(name + WITH, kind, method=Model(family, context), baseline=name)


TABLE = Table(
    name="figure5",
    title="Models equipped with context prediction (ConPreDiff, Figure 5)",
    columns=(),
    rows=tuple(row for family in Family for row in _pair(family, Context())),
    notes=(
        "The paper's figure could not be read: its numbers, its models and its data are not cited here.",
        "Each pair has the same network, first weights, data order, noise, steps and sampler; the pair differs in the "
        "context loss alone, and its head is in no file that samples.",
        "Improved VQ-Diffusion draws with the purity prior, and where models are told classes under guidance, from the "
        "denoisers that VQ-Diffusion's rows trained.",
    ),
)


def illustrate(planned: Planned, root: Path) -> list[Illustration]:
    """The plot, then samples."""
    titles = list(planned.grounds)
    figure, axes = charts.panels(len(titles), 8.0, 3.3)
    said = []
    for title, place in zip(titles, axes, strict=True):
        families = [family for family in Family if {on(family, title), on(family + WITH, title)} & set(planned.runs)]
        pairs = {
            "without context prediction": [_first(planned, on(family, title), root) for family in families],
            "with": [_first(planned, on(family + WITH, title), root) for family in families],
        }
        found = [each for measured in pairs.values() for each in measured if each is not None]
        metric = found[0][0]
        series = {name: [each and each[1] for each in measured] for name, measured in pairs.items()}
        charts.bars(place, [family.replace(" VQ", "\nVQ") for family in families], series, f"{metric}, lower is better")
        said.append(f"{metric} on {title}")
    words = f"{'; '.join(said)}: each model without and with context prediction; bars are means over seeds, grey lines "
    words += "the 95 % interval over the samples of one seed."
    return [
        Illustration("figure5", "The figure", words, charts.png(figure)),
        *sampled_rows.illustrate(planned, root),
    ]


def _first(planned: Planned, approach: str, root: Path) -> tuple[str, Measurement] | None:
    """The first metric of a row by name, where it was run."""
    runs = planned.runs.get(approach)
    if runs is None:
        return None
    return next(iter(measured_of(runs, root).items()))


def figure5(options: TableOptions) -> int:
    """Measure Figure 5's pairs on each data set and write the report; returns the exit code."""
    return reproduce(TABLE, options, sampled_rows.plan, partial(report_of, illustrate=illustrate), repeats=1)
