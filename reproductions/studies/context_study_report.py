"""The study of the context loss as `study.json`, `study.md`, `manifest.json`, and a plot of all differences."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from reproductions.artefacts import Stage, plain, write_json, write_whole
from reproductions.collect import over_seeds, read
from reproductions.commands.denoiser_report import again
from reproductions.data import DIGITS
from reproductions.drawn.shapes import SETS
from reproductions.experiment import Family, Model
from reproductions.picture_tables import Run
from reproductions.reporting.findings import Better, MetricInfo
from reproductions.reporting.markdown import ARROWS, table
from reproductions.reporting.numerals import duration, figure, interval, signed
from reproductions.reporting.paired import Compared, compared
from reproductions.reporting.provenance import provenance
from reproductions.studies.context_pairs import SECONDS, STEPS, WITHOUT, Pair, Studied
from reproductions.studies.context_study_plot import draw
from reproductions.table_report import MEANINGS

LOSS = MetricInfo("denoising loss", Better.LOWER, "Mean loss of the denoiser alone, over the last tenth of training.")
Values = Mapping[str, Mapping[int, float]]
Section = Mapping[str, Any]


def section(
    studied: Studied,
    pairs: Mapping[Family, Sequence[Pair]],
    runs: Mapping[Model, Mapping[int, Run]],
    receipts: Mapping[str, Mapping[str, Any]],
    root: Path,
) -> Section:
    """All that was found on one data set, as JSON-able data."""
    values = {model: values_of(by_seed, root) for model, by_seed in runs.items()}
    metrics = metrics_of(next(iter(values.values())))
    flat = [(family, pair) for family, each in pairs.items() for pair in each]
    rows = [_row(studied, family, pair, runs, receipts, root) for family, pair in flat]
    for metric in metrics:
        found = compared([(values[pair.ours][metric.name], values[pair.theirs][metric.name]) for _, pair in flat])
        for row, one in zip(rows, found, strict=True):
            row["differences"][metric.name] = _said(one, metric)
    facts = read(studied.ground.data, root, "facts.json")
    return {
        "data": studied.ground.title,
        "note": facts["note"],
        "digest": facts["digest"],
        "seeds": list(studied.seeds),
        "samples": studied.case.sizes.profile.samples,
        "comparisons": len(rows),
        "metrics": {metric.name: [metric.better.value, metric.meaning] for metric in metrics},
        "rows": rows,
        "values": {studied.ground.name_of(model): _means(found) for model, found in values.items()},
        "ceiling": {
            name: {metric: found.mean for metric, found in over_seeds({0: read(stage, root, "scores.json")}).items()}
            for name, stage in studied.ceiling.items()
        },
        "timing": {str(family): studied.took(family, root) for family in studied.case.families},
        "stages": {stage.name: stage.digest for stage in _stages(studied, runs)},
        "sizes": plain(studied.case.sizes),
    }


def _row(
    studied: Studied,
    family: Family,
    pair: Pair,
    runs: Mapping[Model, Mapping[int, Run]],
    receipts: Mapping[str, Mapping[str, Any]],
    root: Path,
) -> dict[str, Any]:
    both = pair.ours, pair.theirs
    ours, theirs = map(studied.ground.name_of, both)
    return {
        "family": str(family),
        "pair": pair.name,
        "ours": ours,
        "theirs": theirs,
        "step ratio": step_ratio(studied.took(family, root), pair.name),
        "steps": [steps_of(runs[model]) for model in both],
        "seconds": [seconds_of(runs[model], receipts) for model in both],
        "differences": {},
    }


def values_of(runs: Mapping[int, Run], root: Path) -> Values:
    """Every score of a model by its name, and the loss of its denoiser, under each seed."""
    found: dict[str, dict[int, float]] = {}
    for seed, run in runs.items():
        for name, score in read(run.scores, root, "scores.json").items():
            found.setdefault(name, {})[seed] = score["value"]
        curve = read(run.trainings[0], root, "curves.json")
        last = [row.get("loss/base", row["loss"]) for row in curve[-max(1, len(curve) // 10) :]]
        found.setdefault(LOSS.name, {})[seed] = fmean(last)
    return found


def metrics_of(values: Values) -> list[MetricInfo]:
    """What the scores mean, the first of them being what the study is about."""
    known = [MetricInfo(name, *meaning) for start, *meaning in MEANINGS for name in values if name.startswith(start)]
    return [*known, LOSS]


def step_ratio(took: Mapping[str, Mapping[str, float]], name: str) -> float:
    """Time of a step with a context loss over that of a step without; at equal seconds the loss is the default's."""
    return took.get(name, took[STEPS])["milliseconds"] / took[WITHOUT]["milliseconds"]


def steps_of(runs: Mapping[int, Run]) -> int:
    """Steps of a training."""
    settings = next(iter(runs.values())).trainings[0].settings
    steps: int = getattr(settings, "training", settings).denoiser.training.steps
    return steps


def seconds_of(runs: Mapping[int, Run], receipts: Mapping[str, Mapping[str, Any]]) -> float:
    """Mean seconds that a training took, whatever ran beside it."""
    return fmean(receipts[run.trainings[0].digest]["cost"]["seconds"] for run in runs.values())


def _stages(studied: Studied, runs: Mapping[Model, Mapping[int, Run]]) -> list[Stage]:
    trained = [stage for by_seed in runs.values() for run in by_seed.values() for stage in (*run.trainings, run.scores)]
    return [studied.ground.data, *studied.timings.values(), *trained]


def _said(one: Compared, metric: MetricInfo) -> Mapping[str, Any]:
    found = one.difference
    by_seed = dict(zip(found.seeds, found.values, strict=True))
    return {
        "mean": found.mean,
        "low": found.low,
        "high": found.high,
        "by seed": by_seed,
        "p": one.p,
        "holm": one.holm,
        "reading": one.reading(metric),
        "words": f"{signed(found.mean)} ({interval(found)})",
    }


def _means(values: Values) -> Mapping[str, Any]:
    return {name: {"mean": fmean(by_seed.values()), "by seed": dict(by_seed)} for name, by_seed in values.items()}


def write(out: Path, profile: str, sections: Sequence[Section], command: Sequence[str]) -> str:
    """Write all files of the study so far; returns its Markdown."""
    asked = again(command)
    found = {"study": "context", "profile": profile, "command": asked, "data": sections}
    notes = {"command": asked, **provenance(), "data": [{k: each[k] for k in KEPT} for each in sections]}
    write_json(out / "manifest.json", notes)
    dropped = ("stages", "sizes")
    slim = [{key: value for key, value in each.items() if key not in dropped} for each in sections]
    write_json(out / "study.json", {**found, "data": slim})
    write_whole(out / "differences.png", draw(sections))
    text = markdown(profile, sections, asked)
    write_whole(out / "study.md", text.encode())
    return text


KEPT = ("data", "note", "digest", "seeds", "sizes", "stages")


def markdown(profile: str, sections: Sequence[Section], command: str) -> str:
    """The study as Markdown."""
    return "\n".join(
        [
            "# Does context prediction help?",
            "",
            f"Size `{profile}`. Differences are with the context loss minus without it, by seed: the mean, its 95 % "
            "interval (Student's t), then p of the paired t-test and the same after Holm's correction for all "
            "comparisons of that metric on that data set.",
            "",
            "![Differences of the first metric, with the context loss minus without it: means, intervals, a dot for "
            "each seed; coloured where the corrected test shows one](differences.png)",
            *(line for each in sections for line in _of_data(each)),
            "",
            *_absent(sections),
            "```",
            command,
            "```",
            "",
        ]
    )


def _absent(sections: Sequence[Section]) -> list[str]:
    if any(each["data"] not in (DIGITS, *SETS) for each in sections):
        return []
    return ["No photographs were given: `--data digits,shapes,PATH` adds them.", ""]


def _of_data(found: Section) -> list[str]:
    metrics = {name: MetricInfo(name, Better(better), said) for name, (better, said) in found["metrics"].items()}
    lines = [
        "",
        f"## {found['data']}",
        "",
        f"{found['note']} {len(found['seeds'])} seeds, {found['samples']} samples each; {found['comparisons']} "
        "comparisons by each metric. Scores are in the space that their name says and compare with no others.",
        "",
        *(f"- `{name}` {ARROWS[metric.better]} {metric.meaning}" for name, metric in metrics.items()),
        "",
        _counted(found),
    ]
    for family in dict.fromkeys(row["family"] for row in found["rows"]):
        rows = [row for row in found["rows"] if row["family"] == family]
        lines += ["", f"### {family} on {found['data']}", "", *_budget(rows), ""]
        head = [
            "with the context loss",
            "step",
            *(f"{name} {ARROWS[metric.better]}" for name, metric in metrics.items()),
        ]
        lines += table(head, [_cells(row, metrics) for row in rows])
        lines += ["", *_without(found, rows[0]["theirs"])]
    return [*lines, "", *_ceiling(found)]


def _counted(found: Section) -> str:
    """How many differences are shown, by each metric."""
    said = []
    for name in found["metrics"]:
        readings = [row["differences"][name]["reading"] for row in found["rows"]]
        said.append(f"by `{name}` {readings.count('better')} better and {readings.count('worse')} worse")
    return f"Shown after correction, of {found['comparisons']} comparisons with the context loss: {', '.join(said)}."


def _cells(row: Mapping[str, Any], metrics: Mapping[str, MetricInfo]) -> list[str]:
    cells = [row["pair"], f"{row['step ratio']:.2f}x"]
    for name in metrics:
        said = row["differences"][name]
        tested = "" if said["p"] is None else f", p {said['p']:.2g}, Holm {said['holm']:.2g}: {said['reading']}"
        cells.append(said["words"] + tested)
    return cells


def _budget(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the budgets were, in steps and in seconds."""
    by_name = {row["pair"]: row for row in rows}
    steps, seconds = by_name[STEPS], by_name[SECONDS]
    with_loss, without = (duration(each) for each in steps["seconds"])
    return [
        f"A step with the context loss takes {steps['step ratio']:.3f} times as long as without it (medians of steps "
        f"taken in turn, nothing else of the study running), so {steps['steps'][0]:,} steps with it stand against "
        f"{seconds['steps'][1]:,} without it at equal seconds. Trainings took {with_loss} with it, {without} without, "
        f"and {duration(seconds['seconds'][1])} at equal seconds, means over seeds, with others beside them.",
    ]


def _without(found: Section, name: str) -> list[str]:
    said = ", ".join(f"`{metric}` {figure(value['mean'])}" for metric, value in found["values"][name].items())
    return [f"Without it at equal steps: {said}."]


def _ceiling(found: Section) -> list[str]:
    said = [
        f"{name}: " + ", ".join(f"`{metric}` {figure(value)}" for metric, value in scores.items())
        for name, scores in found["ceiling"].items()
    ]
    return ["For comparison, " + "; ".join(said) + "."]
