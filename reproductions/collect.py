"""From finished stages to the report: scores into rows, pictures, curves and costs."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from reproductions.artefacts import Stage, plain, upstream
from reproductions.data import DataSettings, Split
from reproductions.experiment import Row, Table
from reproductions.gathering.splits import HELD_OUT, TRAIN
from reproductions.loop.steps import TrainingSettings
from reproductions.pipeline import Plan, Run
from reproductions.profiles import Profile
from reproductions.reporting import neighbours
from reproductions.reporting.findings import (
    Better,
    Cost,
    Curve,
    Illustration,
    Measurement,
    MetricInfo,
    Report,
    RowResult,
    Samples,
    summarise,
)
from reproductions.reporting.provenance import commit, environment, versions

Receipts = Mapping[str, Mapping[str, Any]]
SHOWN = 64


def collect(
    table: Table,
    profile: Profile,
    data: DataSettings,
    planned: Plan,
    receipts: Receipts,
    out: Path,
    command: Sequence[str],
) -> Report:
    """Everything that the report of a finished table says."""
    root = out / "stages"
    facts = json.loads((planned.data.folder(root) / "facts.json").read_text())
    held_out = Split.load(planned.data.folder(root) / HELD_OUT)
    rows = [_row(row, planned.runs.get(row.approach, {}), root) for row in table.rows]
    metrics = metrics_of(rows)
    first = {name: next(iter(runs.values())) for name, runs in planned.runs.items()}
    scored = [stage for runs in planned.runs.values() for run in runs.values() for stage in run.scores]
    shown = min(SHOWN, profile.samples, len(held_out.captions))
    return Report(
        table=table.name,
        title=table.title,
        profile=profile.name,
        comparable=profile.comparable,
        data=data.name,
        data_note=facts["note"],
        rows=rows,
        metrics=metrics,
        captions=[captions[0] for captions in held_out.captions[:shown]],
        real=held_out.images[:shown],
        reconstructions={
            name: load_file(stage.folder(root) / "reconstructions.safetensors")["images"][:shown]
            for name, stage in planned.autoencoders.items()
        },
        samples=[_samples(name, run, root, shown) for name, run in first.items()],
        curves=_curves(planned, root),
        costs=[cost_of(stage, receipts) for stage in upstream(planned.goals)],
        ceiling=_ceiling(planned, root),
        environment=environment(),
        manifest=_manifest(profile, data, facts, planned, root),
        notes=[*table.notes, *notes_of(facts, held_out, metrics), *notes_of_scores(scored, root)],
        command=f"nox -s reproduce_{table.name} -- {' '.join(command[1:])}".removesuffix(" -- "),
        illustrations=[_nearest(planned, held_out, first, root)],
    )


def _nearest(planned: Plan, held_out: Split, first: Mapping[str, Run], root: Path) -> Illustration:
    """The training pictures that the samples of each row are nearest to."""
    training = Split.load(planned.data.folder(root) / TRAIN).images
    samples = {name: load_file(run.images.folder(root) / "images.safetensors")["images"] for name, run in first.items()}
    return neighbours.illustration("nearest", neighbours.TITLE, training, held_out.images, samples)


def _row(row: Row, runs: Mapping[int, Run], root: Path) -> RowResult:
    scores = {seed: scores_of(run, root) for seed, run in runs.items()}
    measured = over_seeds(scores) if scores else None
    return RowResult(row.approach, str(row.kind), row.paper, measured, row.note, row.baseline)


def scores_of(run: Run, root: Path) -> dict[str, Any]:
    """All scores of a run, by name."""
    return {name: score for stage in run.scores for name, score in read(stage, root, "scores.json").items()}


def notes_of_scores(stages: Iterable[Stage], root: Path) -> list[str]:
    """What stages of scores have to say, each thing once."""
    said: dict[str, None] = {}
    for stage in stages:
        path = stage.folder(root) / "notes.json"
        said |= dict.fromkeys(json.loads(path.read_text()) if path.is_file() else [])
    return list(said)


def over_seeds(scores: Mapping[int, Mapping[str, Any]]) -> dict[str, Measurement]:
    """Scores by name over seeds; of a single one, with its interval over samples."""
    names = next(iter(scores.values()))
    found = {}
    for name, score in names.items():
        values = {seed: each[name]["value"] for seed, each in scores.items()}
        measured = summarise(values, n_real=score["n_real"], n_fake=score["n_fake"])
        if len(scores) == 1 and score.get("low") is not None:
            measured = replace(measured, sampled=(score["low"], score["high"]))
        found[name] = measured
    return found


def _ceiling(planned: Plan, root: Path) -> dict[str, Measurement]:
    """What even perfect samples could not exceed: the judge on fresh drawings, every score on reconstructions."""
    found: dict[str, Measurement] = {}
    if planned.judge is not None:
        judged = read(planned.judge, root, "scores.json")
        found["judge on fresh drawings: caption accuracy"] = summarise(
            {0: judged["right"] / judged["of"]}, n_fake=judged["of"]
        )
    for name, stage in planned.reconstructions.items():
        for metric, measurement in over_seeds({0: read(stage, root, "scores.json")}).items():
            found[f"{name} reconstructions: {metric}"] = measurement
    return found


MEANINGS = (
    (
        "FID[",
        Better.LOWER,
        "Fréchet distance between features of samples and of held-out pictures; of drawings, by the judge network.",
    ),
    (
        "caption accuracy",
        Better.HIGHER,
        "Share of samples in which the judge reads the whole caption: layout, every colour, every shape.",
    ),
    (
        "SWD",
        Better.LOWER,
        "Sliced Wasserstein distance (x1000) between patches of samples and of held-out images (Karras et al., 2018).",
    ),
    (
        "CLIP score[",
        Better.HIGHER,
        "100 times the mean cosine of the embeddings of samples and of their captions, where that is negative 0.",
    ),
    ("PSNR", Better.HIGHER, "Peak signal-to-noise ratio of reconstructions, in dB."),
)


def metrics_of(rows: Sequence[RowResult]) -> list[MetricInfo]:
    names = dict.fromkeys(name for row in rows for name in row.measured or {})
    return [MetricInfo(name, *meaning_of(name)) for name in names]


def meaning_of(name: str) -> tuple[Better, str]:
    """Which way a metric improves, and what it means."""
    return next((better, meaning) for start, better, meaning in MEANINGS if name.startswith(start))


def _samples(approach: str, run: Run, root: Path, shown: int) -> Samples:
    images = load_file(run.images.folder(root) / "images.safetensors")["images"]
    path = run.scores[0].folder(root) / "right.safetensors"
    right: Tensor | None = load_file(path)["right"][:shown] if path.exists() else None
    return Samples(approach, images[:shown], right)


def _curves(planned: Plan, root: Path) -> list[Curve]:
    trained: list[tuple[str, Stage, int | None]] = [
        (f"{n} autoencoder", s, None) for n, s in planned.autoencoders.items()
    ]
    if planned.judge is not None:
        trained.insert(0, ("judge", planned.judge, None))
    for runs in planned.runs.values():
        for seed, run in runs.items():
            trained += [(stage.name.partition(" seed ")[0], stage, seed) for stage in run.trainings]
    trained = list({stage.digest: (name, stage, seed) for name, stage, seed in trained}.values())
    return [Curve(name, series_of(read(stage, root, "curves.json")), seed) for name, stage, seed in trained]


def series_of(rows: Sequence[Mapping[str, float]]) -> dict[str, list[tuple[int, float]]]:
    series: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name != "step":
                series.setdefault(name, []).append((int(row["step"]), value))
    return series


def cost_of(stage: Stage, receipts: Receipts) -> Cost:
    noted = receipts[stage.digest]
    size = stage.size() if stage.size is not None else {}
    cost = noted["cost"]
    return Cost(
        stage.name, cost["seconds"], cost["peak_mib"], size.get("steps"), size.get("parameters"), noted["reused"]
    )


def _manifest(
    profile: Profile, data: DataSettings, facts: Mapping[str, Any], planned: Plan, root: Path
) -> dict[str, Any]:
    sampling = {
        "discrete": {"sampler": "exact strided posterior", "truncation": profile.discrete.truncation},
        "continuous": {"sampler": "DDIM", "eta": 0.0, "clip": profile.continuous.clip},
    }
    for name, denoiser in (("discrete", profile.discrete), ("continuous", profile.continuous)):
        sampling[name] |= {"steps": denoiser.steps, "guidance": denoiser.guidance}
    trained = {name: getattr(profile, name).training for name in ("vq", "kl", "discrete", "continuous")}
    if profile.cascade is not None:
        for name, denoiser in (
            ("cascade base", profile.cascade.base),
            ("cascade enlarging", profile.cascade.enlarging),
        ):
            sampling[name] = {what: getattr(denoiser, what) for what in ("solver", "eta", "clip", "steps", "guidance")}
            trained[name] = denoiser.training
    spaces = {}
    for runs in planned.runs.values():
        for run in runs.values():
            spaces |= {name: score["space"] for name, score in scores_of(run, root).items() if score["space"]}
    return {
        "commit": commit(),
        "packages": versions(),
        "seeds": sorted({seed for runs in planned.runs.values() for seed in runs}),
        "data": {**plain(asdict(data)), "digest": facts["digest"], "split": facts["note"], "bad": facts["bad"]},
        "preprocessing": f"short side to {data.resolution} px (antialiased bicubic), centre crop",
        "sampling": sampling,
        "precision": {name: precision(training) for name, training in trained.items()},
        "feature spaces": spaces,
        "profile": plain(asdict(profile)),
        "stages": digests(planned.goals),
    }


def digests(goals: Iterable[Stage]) -> dict[str, str]:
    """The hash of every stage by its name; of several with one name the later ones by the names of their folders."""
    found: dict[str, str] = {}
    for stage in upstream(goals):
        found[stage.folder(Path()).name if stage.name in found else stage.name] = stage.digest
    return found


def precision(training: TrainingSettings) -> str:
    """What a training computed in."""
    return "bf16 autocast, float32 weights" if training.precision == "bf16" else "float32"


def notes_of(facts: Mapping[str, Any], held_out: Split, metrics: Sequence[MetricInfo]) -> list[str]:
    bad = facts["bad"]
    notes = [f"{len(bad)} of the data's pictures or captions were left out: {'; '.join(bad[:10])}"] if bad else []
    if len(held_out.captions) < 2_000 and held_out.attributes is None:
        given = any(metric.name.startswith("FID[") for metric in metrics)
        said = "what is given is far from that of many" if given else "none is given"
        notes.append(f"{len(held_out.captions)} held-out images are far too few for a Fréchet distance; {said}.")
    return notes


def read(stage: Stage, root: Path, name: str) -> Any:
    """A JSON file of a finished stage."""
    return json.loads((stage.folder(root) / name).read_text())
