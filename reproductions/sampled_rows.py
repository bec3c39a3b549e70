"""Rows of models that draw pictures, on one data set or several: their stages, their ceiling, their pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from reproductions.artefacts import Stage
from reproductions.data import Split
from reproductions.experiment import Family, Model, Row
from reproductions.gathering.splits import HELD_OUT
from reproductions.modelling import Ground
from reproductions.picture_tables import Planned, Run
from reproductions.reporting import neighbours
from reproductions.reporting.findings import Illustration
from reproductions.table_report import SHOWN, pictures, training_pictures, wall

OF_LATENTS = {Family.LDM, Family.DIT}
OF_TOKENS = set(Family) - OF_LATENTS - {Family.DDPM}


def plan(rows: Sequence[Row], grounds: Mapping[str, Ground], seeds: Sequence[int]) -> Planned:
    """The stages that measure `rows` on each data set: what they are, what they draw, and how it scores."""
    shown: list[Row] = []
    runs: dict[str, dict[int, Run]] = {}
    ceiling: dict[str, Stage] = {}
    selected = {row.approach for row in rows}
    for title, ground in grounds.items():
        for row in rows:
            baseline = on(row.baseline, title) if row.baseline in selected else None
            shown.append(replace(row, approach=on(row.approach, title), baseline=baseline))
            runs[shown[-1].approach] = {seed: run_of(ground, model_of(row), seed) for seed in seeds}
        ceiling |= ceiling_of(ground, {model_of(row).family for row in rows})
    return Planned(grounds, shown, runs, ceiling)


def on(approach: str | None, title: str) -> str:
    """What an approach is called on a data set."""
    return f"{approach}, {title}"


def model_of(row: Row) -> Model:
    """What a measured row trains."""
    assert isinstance(row.method, Model)
    return row.method


def run_of(ground: Ground, model: Model, seed: int) -> Run:
    """A model trained, sampled and scored."""
    images, trained = ground.images(model, seed), ground.trained(model, seed)
    return Run(trained.trainings, images, ground.scored(f"{ground.name_of(model)} seed {seed}", images))


def ceiling_of(ground: Ground, families: set[Family]) -> dict[str, Stage]:
    """Scores of held-out pictures, and of training pictures as the first stages of these models show them."""
    found = {f"held-out pictures of {ground.title}": ground.scored("held-out", None)}
    for kind, users in {"latents": OF_LATENTS, "tokens": OF_TOKENS}.items():
        if families & users:
            found[f"{ground.title} through {kind}"] = ground.scored(f"{kind} rebuilt", ground.rebuilt(kind))
    return found


def illustrate(planned: Planned, root: Path) -> list[Illustration]:
    """For each data set the first training pictures, and the first samples of each row under its first seed."""
    found: list[Illustration] = []
    for number, (title, ground) in enumerate(planned.grounds.items(), 1):
        drawn = {
            approach.removesuffix(on("", title)): pictures(next(iter(runs.values())).images, root, neighbours.COMPARED)
            for approach, runs in planned.runs.items()
            if approach.endswith(on("", title))
        }
        rows = {"training pictures": training_pictures(ground, root)}
        rows |= {name: images[:SHOWN] for name, images in drawn.items()}
        words = (
            f"The first training pictures of {title}, and the first samples of each model under the first seed, not a "
            "choice of the best."
        )
        found.append(wall(f"samples-{number}", f"Samples, {title}", words, rows))
        found.append(nearest(f"nearest-{number}", ground, root, drawn))
    return found


def nearest(name: str, ground: Ground, root: Path, drawn: Mapping[str, Tensor]) -> Illustration:
    """The training pictures that what was drawn is nearest to."""
    training = training_pictures(ground, root, neighbours.TRAINING)
    held_out = Split.load(ground.data.folder(root) / HELD_OUT).images
    return neighbours.illustration(name, f"{neighbours.TITLE}, {ground.title}", training, held_out, drawn)
