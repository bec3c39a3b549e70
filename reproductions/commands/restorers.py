"""`conprediff train continuous --task inpainting|super-resolution`: denoisers that restore, and their scores."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reproductions.artefacts import Stage
from reproductions.commands.denoiser_options import ContinuousOptions
from reproductions.commands.denoisers import (
    SAMPLING_BATCH,
    Scored,
    command,
    continuous_model,
    default_out,
    featuring_of,
    train_continuous,
)
from reproductions.commands.restoration_report import write_restoration
from reproductions.gathering.splits import HELD_OUT
from reproductions.recipes.tasks import Inpainting, SuperResolution, Task
from reproductions.stages import denoiser_scores, restoring
from reproductions.stages.continuous import UNet
from reproductions.stages.evaluating import REPAINT_MASKS
from reproductions.stages.latent_denoising import Training, Walk, kind_of
from reproductions.stages.restoring import Judging, Restoring

FACTOR = 4
ENLARGED = "enlarged"


@dataclass(frozen=True)
class Restoration:
    """The stages of one denoiser that restores.

    restored: pictures by row of the table, each from settings in `judging`; floor: real pictures.
    """

    kind: str
    data: Stage
    model: Stage
    walk: Walk
    restored: Mapping[str, Stage]
    judging: Judging
    judged: Stage
    floor: Scored

    @property
    def goals(self) -> Sequence[Stage]:
        """The stages that nothing reads."""
        return [self.judged, self.floor.scores]


def train(options: ContinuousOptions) -> int:
    """Train a denoiser of latents or pixels, for a task or to draw; returns the exit code."""
    if options.misplaced:
        print(f"error: {options.misplaced}: only --task super-resolution takes that", file=sys.stderr)
        return 2
    if options.task == "generate":
        return train_continuous(options)
    return command(plan, options, default_out(options.task, options), _report, lambda planned: planned.goals)


def _report(planned: Restoration, options: ContinuousOptions, out: Path, receipts: Mapping[str, Any]) -> str:
    return write_restoration(out, planned, receipts, sys.argv[1:])


def plan(options: ContinuousOptions) -> Restoration:
    """The stages of a denoiser that fills in or enlarges."""
    task = _task(options)
    made = continuous_model(options, task)
    _check_task(task, made.training, options.resolution, made.shape[-1])
    settings = Restoring(made.training, made.walk, options.generated, SAMPLING_BATCH, options.seed)
    rows = {ENLARGED: settings}
    if isinstance(task, Inpainting):
        rows = {kind.name: replace(settings, mask=kind) for kind in REPAINT_MASKS}
    reading = {**made.inputs, "model": made.model}
    restored = {name: Stage(f"{name} restored", restoring.restore, row, reading) for name, row in rows.items()}

    featuring, data = featuring_of(options), made.inputs["data"]
    real = Stage("real features", denoiser_scores.real_features, featuring, {"data": data})
    judging = Judging(rows, featuring, options.against)
    seen = {name: made.inputs[name] for name in ("autoencoder", "clean") if name in made.inputs}
    seen |= {"data": data, "real": real, **{f"row {name}": stage for name, stage in restored.items()}}
    floor = Stage(
        "real scores",
        denoiser_scores.score,
        denoiser_scores.Comparing(featuring, HELD_OUT),
        {"data": data, "real": real},
    )
    judged = Stage("restored scores", restoring.judge, judging, seen)
    return Restoration(options.task, data, made.model, made.walk, restored, judging, judged, Scored(floor))


def _task(options: ContinuousOptions) -> Task:
    """The task that is asked for.

    Raises:
        ValueError: for a factor that does not divide the side, or an augmentation below 0.
    """
    if options.task == "inpainting":
        return Inpainting()
    factor, augmentation = options.factor or FACTOR, options.augmentation or 0
    if factor < 2 or options.resolution % factor:
        raise ValueError(
            f"--factor: pictures of side {options.resolution} are to be made of ones {factor} times smaller; take a "
            "whole number from 2 that divides the side"
        )
    if augmentation < 0:
        raise ValueError(f"--augmentation is a step from 0, got {augmentation}")
    return SuperResolution(factor, augmentation)


def _check_task(task: Task, training: Training, resolution: int, side: int) -> None:
    if isinstance(task, Inpainting):
        return
    small, levels = resolution // task.factor, training.denoiser.levels
    if small > side:
        raise ValueError(
            f"--factor: small pictures of side {small} do not fit beside latents of side {side}; take --factor "
            f"{resolution // side} or an autoencoder that reduces less"
        )
    if task.augmentation > levels:
        raise ValueError(f"--augmentation: {task.augmentation} is not in 0..{levels}, the noise levels of the recipe")
    if task.augmentation and kind_of(training) is not UNet:
        raise ValueError("--augmentation: the network of this recipe reads no level of noise; leave it out")
