"""Figure 4 of ConPreDiff: quality and cost against the stride of the neighbourhood, by either way of decoding.

Source: ConPreDiff Figure 4
Unstated: the numbers, the model and the data of the figure; none of them could be recovered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from reproductions import sampled_rows
from reproductions.artefacts import Stage
from reproductions.collect import read
from reproductions.experiment import AnyContext, Context, DirectContext, Family, Kind, Model, Row, Table
from reproductions.modelling import Ground
from reproductions.picture_tables import Planned, reproduce
from reproductions.reporting import charts
from reproductions.reporting.findings import Better, Illustration, Measurement
from reproductions.sampled_rows import model_of, on
from reproductions.stages import timing
from reproductions.table_options import TableOptions
from reproductions.table_report import MEANINGS, measured_of, report_of

STRIDES = (1, 2, 3, 4)
NONE = "stride 0"
TIME, HEAD = "ms per training step", "thousand parameters of the head"
DECODINGS: Mapping[str, type[AnyContext]] = {"distribution": Context, "direct": DirectContext}


def _row(decoding: str, stride: int) -> Row:
    model = Model(Family.LDM, DECODINGS[decoding](stride=stride))
    return Row(f"stride {stride}, {decoding} decoding", Kind.CONTINUOUS, method=model, baseline=NONE)


TABLE = Table(
    name="figure4",
    title="Stride and decoding of the context (ConPreDiff, Figure 4)",
    columns=(),
    rows=(
        Row(NONE, Kind.CONTINUOUS, method=Model(Family.LDM), note="LDM without context prediction"),
        *(_row(decoding, stride) for decoding in DECODINGS for stride in STRIDES),
    ),
    notes=(
        "The paper's figure could not be read: its numbers, its model and its data are not cited here.",
        "Times are of one machine, medians of steps that all variants took in turn, and are the one thing here that "
        "differs from run to run. A sample takes as long with any stride: the head is in no file that samples.",
    ),
)
MEANT = (
    *MEANINGS,
    (TIME, Better.LOWER, "Median time of a training step, forward, backward and update, of the smallest seed."),
    (HEAD, Better.LOWER, "Parameters that training has beside those of the denoiser."),
)


def plan(rows: Sequence[Row], grounds: Mapping[str, Ground], seeds: Sequence[int]) -> Planned:
    """The stages that train, sample and score each variant, and at the end time their training steps side by side."""
    planned = sampled_rows.plan(rows, grounds, seeds)
    extras = {}
    for title, ground in grounds.items():
        base = ground.trained(Model(Family.LDM), min(seeds))
        variants = {row.approach: model_of(row).context for row in rows}
        after = {
            f"after {approach} {seed}": run.scores
            for approach, runs in planned.runs.items()
            for seed, run in runs.items()
            if approach.endswith(on("", title))
        }
        settings = timing.Timing(base.training, variants, ground.sizes.timed)
        inputs = {name: stage for name, stage in base.inputs.items() if name != "model"}
        extras[title] = Stage(f"{ground.called}timing", timing.measure, settings, {**inputs, **after}, shared=True)
    return replace(planned, extras=extras)


def costs(planned: Planned, root: Path) -> Mapping[str, Mapping[str, Measurement]]:
    """Time of a training step and parameters of the head, by row; the interval is that of the middle half of steps."""
    found = {}
    for title, stage in planned.extras.items():
        for approach, facts in read(stage, root, "timing.json").items():
            took = facts["milliseconds"]
            found[on(approach, title)] = {
                TIME: Measurement(took, None, None, None, (), None, None),
                HEAD: Measurement(facts["head parameters"] / 1000, None, None, None, (), None, None),
            }
    return found


def illustrate(planned: Planned, root: Path) -> list[Illustration]:
    """The plot, then samples."""
    titles = list(planned.grounds)
    figure, axes = charts.panels(len(titles), 7.2, 3.6)
    took = costs(planned, root)
    said = []
    for title, place in zip(titles, axes, strict=True):
        scores = {approach: measured_of(runs, root) for approach, runs in planned.runs.items()}
        metric = next(iter(next(iter(scores.values()))))
        groups = ["0", *map(str, STRIDES)]
        names = {
            decoding: [on(NONE, title), *(on(f"stride {s}, {decoding} decoding", title) for s in STRIDES)]
            for decoding in DECODINGS
        }
        quality = {f"{d} decoding": [scores.get(n, {}).get(metric) for n in row] for d, row in names.items()}
        time = {d: [took.get(n, {}).get(TIME) for n in row] for d, row in names.items()}
        charts.bars(place, groups, quality, f"{metric} (bars)")
        charts.lines(place, groups, time, f"{TIME} (lines)")
        place.set_xlabel("stride of the neighbourhood; 0: no context prediction")
        said.append(f"{metric} on {title}")
    words = f"{'; '.join(said)} as bars, and the time of a training step as lines, over the stride."
    return [Illustration("figure4", "The figure", words, charts.png(figure)), *sampled_rows.illustrate(planned, root)]


def figure4(options: TableOptions) -> int:
    """Measure Figure 4's variants on each data set and write the report; returns the exit code."""
    return reproduce(
        TABLE, options, plan, partial(report_of, illustrate=illustrate, meanings=MEANT, also=costs), repeats=2
    )
