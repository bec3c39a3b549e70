"""`conprediff train discrete` and `conprediff train continuous`: denoisers from pictures to scored samples."""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from reproductions import ranks
from reproductions.artefacts import Stage, upstream
from reproductions.choices import chosen
from reproductions.commands.command import carry_out, describe, processes
from reproductions.commands.denoiser_options import DenoiserOptions
from reproductions.commands.denoiser_report import write_training
from reproductions.conditioning import Conditioning, Kind, Reading, check_readable, class_names
from reproductions.costs import Machine
from reproductions.data import DataSettings, fingerprint
from reproductions.frozen_texts import caption_stages, spoken_to
from reproductions.gathering.splits import HELD_OUT
from reproductions.located import Located
from reproductions.loop.steps import TrainingSettings
from reproductions.profiles import Denoiser, has_bf16
from reproductions.recipes.denoiser_recipes import LATENTS, TOKENS, told_by
from reproductions.recipes.tasks import Inpainting, SuperResolution, Task
from reproductions.runner import run
from reproductions.stages import (
    beside,
    coding,
    conditions,
    denoiser_scores,
    denoising,
    filling,
    latent_denoising,
    token_denoising,
)

Recipe = TypeVar("Recipe", bound=Denoiser)
Options = TypeVar("Options", bound=DenoiserOptions)
Planned = TypeVar("Planned")
SAMPLING_BATCH, FILLED = 100, 4


@dataclass(frozen=True)
class Scored:
    """Pictures and their scores; images: None where they are the training pictures themselves."""

    scores: Stage
    images: Stage | None = None


@dataclass(frozen=True)
class Plan:
    """The stages of one denoiser, and how it is sampled by default and otherwise.

    floor: real pictures; ceiling: coded and decoded ones (None: pixels); length: numbers that one example has.
    """

    kind: str
    data: Stage
    model: Stage
    samples: Scored
    floor: Scored
    ceiling: Scored | None
    length: int
    walk: Any
    sampled: Callable[[Any], Scored]
    filled: Stage

    @property
    def goals(self) -> list[Stage]:
        """The stages that nothing reads."""
        return [each.scores for each in (self.samples, self.floor, self.ceiling) if each is not None]


def train_discrete(options: DenoiserOptions) -> int:
    """Train a denoiser of tokens, sample it and score the samples; returns the exit code."""
    return command(plan_discrete, options, default_out("discrete", options), _report, goals_of)


def train_continuous(options: DenoiserOptions) -> int:
    """Train a denoiser of latents or pixels, sample it and score the samples; returns the exit code."""
    return command(plan_continuous, options, default_out("continuous", options), _report, goals_of)


def goals_of(planned: Plan) -> Sequence[Stage]:
    """The stages of a plan that nothing reads."""
    return planned.goals


def default_out(kind: str, options: DenoiserOptions) -> Path:
    """Where a run is written, unless told."""
    data = options.data.strip("./").replace("/", "-")
    return options.out or Path("outputs") / f"{kind}-{options.resolution}-{data}-{options.condition}"


def command(
    plan: Callable[[Options], Planned],
    options: Options,
    out: Path,
    report: Callable[[Planned, Options, Path, Mapping[str, Any]], str],
    goals: Callable[[Planned], Sequence[Stage]],
) -> int:
    """Plan, run, report; returns the exit code."""
    machine = Machine(options.devices, options.achieved)
    try:
        machine.check()
        planned = plan(options)
        wanted = goals(planned)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.dry_run:
        print(describe(upstream(wanted), out, machine))
        return 0
    workers, threads = processes(options.workers)

    def measure() -> None:
        receipts = run(wanted, out, workers=workers, threads=threads)
        if ranks.leads():
            print(report(planned, options, out, receipts))

    return carry_out(measure, out)


def _report(planned: Plan, options: DenoiserOptions, out: Path, receipts: Mapping[str, Any]) -> str:
    return write_training(out, planned, receipts, sys.argv[1:])


def plan_discrete(options: DenoiserOptions) -> Plan:
    """The stages of a denoiser of tokens."""
    coder = token_coder(options)
    source, told = source_of(options)
    recipe = _recipe(TOKENS, options.preset or "small", options, told)
    told = told_by(recipe, told)
    training = token_denoising.Training(recipe, told)
    inputs = {**token_inputs(options, source), **caption_stages(source, told.captions, options.text_encoder)}
    side = options.resolution // coder.factor
    model = Stage(
        "discrete train",
        token_denoising.train,
        training,
        inputs,
        size=partial(token_denoising.size, training, coder.codes, (side, side)),
        cost=partial(token_denoising.cost, training, coder.codes, (side, side)),
        shared=True,
    )

    def drawn(walk: token_denoising.Walk) -> Stage:
        walk.check(recipe.levels, side * side)
        drawing = denoising.Sampling(training, walk, options.generated, options.against, SAMPLING_BATCH, options.seed)
        cost = partial(token_denoising.sampling_cost, drawing, coder.codes, (side, side))
        return Stage(
            f"{walk.name} sample", token_denoising.sample, drawing, {**inputs, "model": model}, cost=cost, shared=True
        )

    drawing = drawn_by(recipe, options)
    walk = token_denoising.Walk(drawing.steps, told.guidance(drawing.guidance), recipe.truncation)
    filled = filling.Filling(training, walk.steps, walk.guidance, None, FILLED, options.seed)
    fill = Stage("inpainting", filling.tokens, filled, {**inputs, "model": model})
    return plan_of("discrete", options, inputs, model, side * side, drawn, walk, fill)


def token_coder(options: DenoiserOptions) -> coding.Coder:
    """What is known of the autoencoder whose tokens are to be denoised.

    Raises:
        ValueError: where none is given, or one that has no tokens.
    """
    if options.autoencoder is None:
        raise ValueError(
            "--autoencoder: a denoiser of tokens needs an autoencoder; train one (`conprediff train autoencoder "
            "--preset vq-f4-32 ...`) and give its folder `stages/*-train-*/autoencoder`"
        )
    return coding.coder_at(options.autoencoder, options.resolution, tokens=True)


def token_inputs(options: DenoiserOptions, source: Stage) -> dict[str, Stage]:
    """The stages that a denoiser of tokens reads: the data, the autoencoder, the tokens."""
    assert options.autoencoder is not None
    inputs = {"data": source, "autoencoder": borrowed(options.autoencoder)}
    return {**inputs, "clean": Stage("tokens", coding.encode_tokens, coding.Encoding(options.flip), inputs)}


@dataclass(frozen=True)
class ContinuousModel:
    """The stage that trains a denoiser of latents or pixels, and what goes with it.

    training: its settings; shape: of an example; inputs: the stages that it reads; walk: how it is sampled.
    """

    training: latent_denoising.Training
    shape: tuple[int, ...]
    inputs: Mapping[str, Stage]
    model: Stage
    walk: latent_denoising.Walk


def plan_continuous(options: DenoiserOptions) -> Plan:
    """The stages of a denoiser of latents, or of pixels where no autoencoder is given."""
    made = continuous_model(options)
    training, walk = made.training, made.walk
    reading = {**made.inputs, "model": made.model}

    def drawn(walk: latent_denoising.Walk) -> Stage:
        walk.check(training.denoiser.levels)
        drawing = denoising.Sampling(training, walk, options.generated, options.against, SAMPLING_BATCH, options.seed)
        cost = partial(latent_denoising.sampling_cost, drawing, made.shape)
        return Stage(f"{walk.name} sample", latent_denoising.sample, drawing, reading, cost=cost, shared=True)

    filled = filling.Filling(training, 2 * walk.steps, walk.guidance, walk.clip, FILLED, options.seed)
    fill = Stage("inpainting", filling.latents, filled, reading)
    return plan_of("continuous", options, made.inputs, made.model, math.prod(made.shape), drawn, walk, fill)


def continuous_model(options: DenoiserOptions, task: Task | None = None) -> ContinuousModel:
    """The training of a denoiser of latents or pixels: to draw, or for a task."""
    source, told = source_of(options)
    name = options.preset or ("latents" if options.autoencoder else "pixels")
    recipe = _recipe(LATENTS, name, options, told)
    _check_task(name, task)
    told = told_by(recipe, told)
    shape: tuple[int, ...] = (3, options.resolution, options.resolution)
    inputs = {"data": source}
    training = latent_denoising.Training(recipe, told, flip=options.flip, task=task)
    if options.autoencoder is not None:
        coder = coding.coder_at(options.autoencoder, options.resolution, tokens=False)
        side = options.resolution // coder.factor
        shape = (coder.width, side, side)
        inputs["autoencoder"] = borrowed(options.autoencoder)
        inputs["clean"] = Stage("latents", coding.encode_latents, coding.Encoding(options.flip), inputs.copy())
        training = replace(training, flip=False)
    _check_side(recipe.network.get("multipliers", (1,)), options.resolution, shape[-1])
    if isinstance(task, Inpainting):
        number = min(task.masks, recipe.training.samples)
        masking = beside.TrainingMasks(number, options.resolution, options.seed)
        inputs["masks"] = Stage("training masks", beside.draw_training_masks, masking)
    inputs = {**inputs, **caption_stages(source, told.captions, options.text_encoder)}
    size, cost = (partial(count, training, shape) for count in (latent_denoising.size, latent_denoising.cost))
    model = Stage("continuous train", latent_denoising.train, training, inputs, size=size, cost=cost, shared=True)
    drawing = drawn_by(recipe, options)
    walk = latent_denoising.Walk.of(drawing, told.guidance(drawing.guidance))
    walk.check(recipe.levels)
    return ContinuousModel(training, shape, inputs, model, walk)


def _check_task(name: str, task: Task | None) -> None:
    meant = {"ldm-inpainting": Inpainting, "ldm-super-resolution": SuperResolution}.get(name)
    if meant is not None and not isinstance(task, meant):
        raise ValueError(f"--preset: {name} was made for a task; give --task {name.removeprefix('ldm-')} with it")


def _check_side(multipliers: Sequence[int], resolution: int, side: int) -> None:
    halved = 2 ** (len(multipliers) - 1)
    if side % halved:
        raise ValueError(
            f"--resolution: {resolution} pixels give examples of side {side}, which the {len(multipliers)} levels of "
            f"the U-Net do not halve; take a multiple of {halved * resolution // side}"
        )


def plan_of(
    kind: str,
    options: DenoiserOptions,
    inputs: Mapping[str, Stage],
    model: Stage,
    length: int,
    drawn: Callable[[Any], Stage],
    walk: Any,
    filled: Stage,
) -> Plan:
    """The stages that follow the training, whatever it trains."""
    featuring = featuring_of(options)
    real = Stage("real features", denoiser_scores.real_features, featuring, {"data": inputs["data"]})
    reading = {"data": inputs["data"], "real": real}

    def scored(name: str, images: Stage | None, against: str, classes: tuple[str, ...] = ()) -> Scored:
        comparing = denoiser_scores.Comparing(featuring, against, classes)
        given = reading if images is None else {**reading, "images": images}
        return Scored(Stage(f"{name} scores", denoiser_scores.score, comparing, given), images)

    told: Conditioning = model.settings.told
    decoding = {name: inputs[name] for name in ("autoencoder", "clean") if name in inputs}

    def sampled(walk: Any) -> Scored:
        images = Stage(f"{walk.name} decode", coding.decode, None, {"samples": drawn(walk), **decoding})
        return scored(walk.name, images, options.against, told.classes)

    ceiling = None
    if decoding:
        rebuilding = coding.Rebuilding(options.generated)
        ceiling = scored("rebuilt", Stage("rebuilt", coding.rebuild, rebuilding, decoding), options.against)
    floor = scored("real", None, HELD_OUT, told.classes)
    return Plan(kind, inputs["data"], model, sampled(walk), floor, ceiling, length, walk, sampled, filled)


def featuring_of(options: DenoiserOptions) -> denoiser_scores.Featuring:
    """The features in which samples are compared with real pictures.

    Raises:
        FileNotFoundError: for weights that are not there.
    """
    if options.features is not None and not options.features.is_file():
        raise FileNotFoundError(f"--features: there is no file {options.features}")
    weights = None if options.features is None else Located(options.features)
    return denoiser_scores.Featuring(weights, options.held_out)


def source_of(options: DenoiserOptions) -> tuple[Stage, Conditioning]:
    """The stage that reads the data, and what there is to be told of its pictures."""
    for name in ("train_size", "held_out", "generated", "resolution"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(options, name)}")
    data = DataSettings(
        name=options.data,
        resolution=options.resolution,
        train_size=options.train_size,
        held_out_size=options.held_out,
        image_column=options.image_column,
        caption_column=options.caption_column,
        max_bad=options.max_bad,
        revision=options.revision,
    )
    kind = Kind(options.condition)
    check_readable(data, kind)
    classes = class_names(data, options.label_column) if kind is Kind.CLASS else ()
    reading = Reading(data, fingerprint(data), kind, options.label_column)
    return Stage("pictures", conditions.read, reading), Conditioning(kind, classes)


def borrowed(folder: Path) -> Stage:
    """The stage that takes an autoencoder over."""
    return Stage("autoencoder", coding.borrow, coding.Borrowed(Located(folder)))


def _recipe(recipes: Mapping[str, Recipe], name: str, options: DenoiserOptions, told: Conditioning) -> Recipe:
    """The recipe called `name`, with what the options say of its training instead.

    Raises:
        ValueError: naming the recipes that there are, or an option out of range.
    """
    recipe = spoken_to(chosen("--preset", "recipe", name, recipes), told, name, options.text_encoder)
    check_positive(options)
    if options.guidance not in (None, 1.0) and options.condition == "none":
        raise ValueError("--guidance: there is nothing to be guided by; give --condition class or caption")
    if options.guidance not in (None, 1.0) and recipe.dropout == 0:
        raise ValueError(f"--guidance: the recipe {name} trains no null condition to be guided from; leave it out")
    return replace(recipe, training=training_of(recipe.training, options))


def drawn_by(recipe: Recipe, options: DenoiserOptions) -> Recipe:
    """The recipe with what the options say of drawing samples instead; it trains nothing, so no training is of it."""
    return replace(recipe, steps=options.steps or recipe.steps, guidance=options.guidance or recipe.guidance)


def check_positive(options: DenoiserOptions) -> None:
    """Raise ValueError for numbers that must be positive and are not."""
    for option in ("samples", "batch", "learning_rate", "steps", "guidance"):
        value = getattr(options, option)
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise ValueError(f"--{option.replace('_', '-')} must be positive, got {value}")


def training_of(recipe: TrainingSettings, options: DenoiserOptions) -> TrainingSettings:
    """The training of a recipe, with what the options say instead; the learning rate goes with the batch."""
    batch = options.batch or recipe.batch
    precision = options.precision or (recipe.precision if has_bf16() else "no")
    return replace(
        recipe,
        samples=options.samples or recipe.samples,
        batch=batch,
        learning_rate=options.learning_rate or recipe.learning_rate * batch / recipe.batch,
        precision=precision,
        seed=options.seed,
    )
