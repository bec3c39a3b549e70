"""`conprediff train discrete --kind imagebart`: every scale is a stage; samples, edits, bits, scores."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from reproductions.artefacts import Stage
from reproductions.commands.denoiser_options import DiscreteOptions, ScaleOptions
from reproductions.commands.denoisers import (
    SAMPLING_BATCH,
    Plan,
    Scored,
    check_positive,
    command,
    default_out,
    goals_of,
    plan_of,
    source_of,
    token_coder,
    token_inputs,
    training_of,
)
from reproductions.commands.scale_report import write_training
from reproductions.conditioning import Kind
from reproductions.gathering.splits import TRAIN
from reproductions.recipes.scale_recipes import captions_of, chain, preset_of
from reproductions.stages import (
    denoiser_scores,
    denoising,
    preparing,
    scale_costs,
    scale_denoising,
    scale_editing,
)
from reproductions.stages.scale_walks import Walk

EDITED = 6


@dataclass(frozen=True)
class ScalePlan(Plan):
    """The stages of one ImageBART.

    trainings: of scale t at t - 1, or one of all jointly; bound: of the likelihood of held-out tokens; edited: held-out
    pictures whose upper half is drawn again. `filled` are a few pictures edited behind every mask.
    """

    trainings: tuple[Stage, ...]
    bound: Stage
    edited: Scored

    @property
    def goals(self) -> list[Stage]:
        """The stages that nothing reads."""
        return [*super().goals, self.bound, self.filled, self.edited.scores]


def train_imagebart(options: DiscreteOptions) -> int:
    """Train the scales, sample from coarse to fine and score the samples; returns the exit code."""

    def plan(options: DiscreteOptions) -> ScalePlan:
        return plan_imagebart(options, preset_of(options.preset, options.scales), jointly=options.jointly)

    return command(plan, options, default_out("imagebart", options), _report, goals_of)


def _report(planned: ScalePlan, options: ScaleOptions, out: Path, receipts: Mapping[str, Any]) -> str:
    return write_training(out, planned, receipts, sys.argv[1:])


def plan_imagebart(options: ScaleOptions, preset: str, *, jointly: bool = False) -> ScalePlan:
    """The stages of a recipe, as `preset_of` calls it; jointly: one network for all its scales."""
    for name in ("steps", "guidance"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name}: ImageBART has its scales instead of steps, and no guidance; leave it out")
    if options.text_encoder is not None:
        raise ValueError("--text-encoder: ImageBART reads the tokens of captions itself; leave it out")
    if options.text_encoder is not None:
        raise ValueError("--text-encoder: ImageBART reads captions as tokens of its own; leave it out")
    check_positive(options)
    coder = token_coder(options)
    source, told = source_of(options)
    inputs = token_inputs(options, source)
    side = options.resolution // coder.factor
    recipe = chain(preset, codes=coder.codes, grid=(side, side), classes=len(told.classes))
    walk = Walk(options.temperature, options.top_k, options.top_p)
    walk.filters(recipe.scales)
    recipe = replace(recipe.jointly() if jointly else recipe, training=training_of(recipe.training, options))
    if told.kind is Kind.CAPTION:
        told = replace(told, captions=captions_of(preset))
        inputs["captions"] = Stage("captions", preparing.tokenise, told.captions, {"data": source})
    training = scale_denoising.Training(recipe, told)
    scales = {scale_denoising.scale_name(scale): _scale(training, scale, inputs) for scale in recipe.trainings}
    name = f"imagebart {recipe.scales}"
    model = Stage(f"{name} model", scale_denoising.join, training, {**inputs, **scales})
    inputs = {**inputs, "model": model}

    def drawn(walk: Walk) -> Stage:
        drawing = denoising.Sampling(training, walk, options.generated, options.against, SAMPLING_BATCH, options.seed)
        cost = partial(scale_costs.sampling_cost, drawing)
        return Stage(f"{name} {walk.name} sample", scale_denoising.sample, drawing, inputs, cost=cost, shared=True)

    bounding = scale_denoising.Bounding(training, options.held_out, SAMPLING_BATCH, options.seed)
    bound = Stage(f"{name} bound", scale_denoising.bound, bounding, inputs)
    editing = scale_editing.Editing(training, walk, EDITED, options.seed)
    edits = Stage(f"{name} edits", scale_editing.edits, editing, inputs)
    plan = plan_of("imagebart", options, inputs, model, side * side, drawn, walk, edits)
    many = replace(editing, number=options.generated)
    halves = Stage(f"{name} upper halves", scale_editing.upper_halves, many, inputs)
    return ScalePlan(**vars(plan), trainings=tuple(scales.values()), bound=bound, edited=_scored(name, halves, plan))


def _scale(training: scale_denoising.Training, scale: int | None, inputs: Mapping[str, Stage]) -> Stage:
    settings = scale_denoising.ScaleTraining(training.chain, training.told, scale)
    return Stage(
        f"imagebart {training.chain.scales} {scale_denoising.scale_name(scale)} train",
        scale_denoising.train_scale,
        settings,
        inputs,
        size=partial(scale_costs.size, settings),
        cost=partial(scale_costs.cost, settings),
        shared=True,
    )


def _scored(name: str, images: Stage, plan: Plan) -> Scored:
    """Edits of held-out pictures against training pictures, of which no edit has seen a part."""
    featuring = plan.samples.scores.settings.features
    comparing = denoiser_scores.Comparing(featuring, TRAIN, metrics=("fid", "kid"))
    inputs = {name: plan.samples.scores.inputs[name] for name in ("data", "real")}
    return Scored(Stage(f"{name} edit scores", denoiser_scores.score, comparing, {**inputs, "images": images}), images)
