"""From the finished stages of a table of models of pictures to its report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from reproductions.artefacts import Stage, plain, upstream
from reproductions.collect import Receipts, cost_of, digests, notes_of_scores, over_seeds, read, series_of
from reproductions.data import Split
from reproductions.experiment import Row, Table
from reproductions.gathering.splits import TRAIN
from reproductions.modelling import Ground
from reproductions.picture_tables import Planned, Run
from reproductions.reporting import grids
from reproductions.reporting.findings import Better, Curve, Illustration, Measurement, MetricInfo, Report, RowResult
from reproductions.reporting.provenance import commit, environment, versions
from reproductions.table_profiles import Sizes

SHOWN = 10
MEANINGS = (
    ("FID[", Better.LOWER, "Fréchet distance between features of samples and of training pictures."),
    ("KID[", Better.LOWER, "Kernel distance between features of samples and of training pictures."),
    (
        "precision[",
        Better.HIGHER,
        "Share of samples among the training pictures, by distance to their k-th neighbours.",
    ),
    ("recall[", Better.HIGHER, "Share of training pictures among the samples, likewise."),
)
Meanings = Sequence[tuple[str, Better, str]]
Also = Callable[[Planned, Path], Mapping[str, Mapping[str, Measurement]]]
Illustrate = Callable[[Planned, Path], Sequence[Illustration]]


def report_of(
    table: Table,
    sizes: Sizes,
    planned: Planned,
    receipts: Receipts,
    out: Path,
    command: Sequence[str],
    *,
    illustrate: Illustrate,
    meanings: Meanings = MEANINGS,
    order: Sequence[str] = (),
    also: Also = lambda planned, root: {},
) -> Report:
    """Everything that the report of a finished table says.

    order: how names of scores end, in their order; also: what was measured of rows besides their scores.
    """
    root = out / "stages"
    more = also(planned, root)
    facts = {title: read(ground.data, root, "facts.json") for title, ground in planned.grounds.items()}
    rows = [_row(row, planned.runs.get(row.approach, {}), root, more.get(row.approach, {})) for row in planned.rows]
    ceiling = {
        f"{name}: {metric}": measurement
        for name, stage in planned.ceiling.items()
        for metric, measurement in over_seeds({0: read(stage, root, "scores.json")}).items()
    }
    scored = [run.scores for runs in planned.runs.values() for run in runs.values()]
    return Report(
        table=table.name,
        title=table.title,
        profile=sizes.name,
        comparable=sizes.profile.comparable,
        data=", ".join(facts),
        data_note=" ".join(fact["note"] for fact in facts.values()),
        rows=rows,
        metrics=metrics_of(rows, meanings, order),
        captions=[],
        real=torch.zeros(0, 3, 8, 8, dtype=torch.uint8),
        reconstructions={},
        samples=[],
        curves=curves_of(planned, root),
        costs=[cost_of(stage, receipts) for stage in upstream(planned.goals)],
        ceiling=ceiling,
        environment=environment(),
        manifest=_manifest(sizes, planned, facts, root),
        notes=[*table.notes, *notes_of_scores(scored, root)],
        command=f"nox -s reproduce_{table.name} -- {' '.join(command[1:])}".removesuffix(" -- "),
        illustrations=illustrate(planned, root),
    )


def metrics_of(rows: Sequence[RowResult], meanings: Meanings, order: Sequence[str] = ()) -> list[MetricInfo]:
    """What every measured score means, in the order of the meanings, then of how the names end."""

    def place(name: str) -> tuple[int, int]:
        kind = next(i for i, (start, _, _) in enumerate(meanings) if name.startswith(start))
        return kind, next((i for i, end in enumerate(order) if name.endswith(end)), 0)

    names = dict.fromkeys(name for row in rows for name in row.measured or {})
    return [MetricInfo(name, *meanings[place(name)[0]][1:]) for name in sorted(names, key=place)]


def _row(row: Row, runs: Mapping[int, Run], root: Path, more: Mapping[str, Measurement]) -> RowResult:
    measured = {**measured_of(runs, root), **more} if runs else None
    return RowResult(row.approach, str(row.kind), row.paper, measured, row.note, row.baseline)


def measured_of(runs: Mapping[int, Run], root: Path) -> dict[str, Measurement]:
    """The scores of a row over its seeds."""
    return over_seeds({seed: read(run.scores, root, "scores.json") for seed, run in runs.items()})


def curves_of(planned: Planned, root: Path) -> list[Curve]:
    """Loss curves of every training that the rows have, each once."""
    found = {
        stage.digest: Curve(named(stage, seed), series_of(read(stage, root, "curves.json")), seed)
        for runs in planned.runs.values()
        for seed, run in runs.items()
        for stage in run.trainings
    }
    return list(found.values())


def named(stage: Stage, seed: int) -> str:
    """What a training is called, whatever its seed."""
    return stage.name.removesuffix(" train").replace(f" seed {seed}", "")


def pictures(stage: Stage | None, root: Path, number: int = SHOWN) -> Tensor:
    """The first pictures that a stage wrote."""
    assert stage is not None
    return load_file(stage.folder(root) / "images.safetensors")["images"][:number]


def training_pictures(ground: Ground, root: Path, number: int = SHOWN) -> Tensor:
    """The first pictures that the models of a data set learned from."""
    return Split.load(ground.data.folder(root) / TRAIN).images[:number]


def wall(name: str, title: str, words: str, rows: Mapping[str, Tensor]) -> Illustration:
    """Rows of pictures behind their labels."""
    return Illustration(name, title, words, grids.png(grids.labelled_rows(rows)))


def _manifest(sizes: Sizes, planned: Planned, facts: Mapping[str, Any], root: Path) -> dict[str, Any]:
    spaces = {}
    for runs in planned.runs.values():
        for run in runs.values():
            scores = read(run.scores, root, "scores.json")
            spaces |= {name: score["space"] for name, score in scores.items() if score.get("space")}
    data = {
        title: {
            **plain(asdict(ground.settings)),
            "name": title,
            "told": plain(asdict(ground.told)),
            "digest": facts[title]["digest"],
            "split": facts[title]["note"],
            "bad": facts[title]["bad"],
        }
        for title, ground in planned.grounds.items()
    }
    return {
        "commit": commit(),
        "packages": versions(),
        "seeds": sorted({seed for runs in planned.runs.values() for seed in runs}),
        "data": data,
        "preprocessing": f"short side to {sizes.profile.resolution} px (antialiased bicubic), centre crop",
        "feature spaces": spaces,
        "sizes": plain(asdict(sizes)),
        "stages": digests(planned.goals),
    }
