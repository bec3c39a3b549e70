"""Models of pictures as stages: what all models of a data set stand on, and for each its training, samples and scores.

data -> first stage -> tokens | latents | pixels -> denoiser (with or without context) -> samples -> images -> scores
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from reproductions.artefacts import Desk, Stage
from reproductions.conditioning import Conditioning
from reproductions.data import DataSettings
from reproductions.experiment import AnyContext, DirectContext, Family, Model
from reproductions.gathering.data_presets import preset_of
from reproductions.gathering.splits import HELD_OUT
from reproductions.loop.steps import TrainingSettings
from reproductions.recipes.denoiser_recipes import told_by
from reproductions.recipes.scale_recipes import chain
from reproductions.settings import FirstStage
from reproductions.stages import (
    autoencoding,
    coding,
    denoising,
    equipping,
    latent_denoising,
    scale_costs,
    scale_denoising,
    scoring,
    token_denoising,
)
from reproductions.stages.token_denoising import Way
from reproductions.table_profiles import Sizes

Run = Callable[[Desk], None]
Count = Callable[[], Mapping[str, int]]
TRAINED_AS = {Family.IMPROVED_VQ_DIFFUSION: Family.VQ_DIFFUSION}


@dataclass(frozen=True)
class Trained:
    """A trained denoiser.

    training: what it is, without any context loss; model: the stage with its weights; trainings: the stages that train
    them; inputs: what sampling it reads.
    """

    training: Any
    model: Stage
    trainings: tuple[Stage, ...]
    inputs: Mapping[str, Stage]


@dataclass(frozen=True)
class Ground:
    """What all models of one data set stand on: its pictures, first stages, codes, and the space of the scores.

    called: what stands before the name of every stage.
    """

    settings: DataSettings
    sizes: Sizes
    told: Conditioning
    data: Stage
    judge: Stage | None
    space: scoring.Space
    called: str = ""

    @property
    def title(self) -> str:
        """The name of the data."""
        return title_of(self.settings.name)

    @cached_property
    def reading(self) -> Mapping[str, Stage]:
        """What scores read besides pictures."""
        judged = {} if self.judge is None else {"judge": self.judge}
        reference = scoring.Reference(self.space, self.sizes.reference)
        inputs = {"data": self.data, **judged}
        return {**inputs, "real": Stage(self._name("training pictures"), scoring.reference, reference, inputs)}

    @cached_property
    def coded(self) -> Mapping[str, Mapping[str, Stage]]:
        """What a model of pixels, of latents or of tokens reads."""
        pictures = {"data": self.data}
        tokens = {**pictures, "autoencoder": self._first_stage("token", self.sizes.tokens)}
        latents = {**pictures, "autoencoder": self._first_stage("latent", self.sizes.latents)}
        flat = coding.Encoding()
        return {
            "pixels": pictures,
            "tokens": {**tokens, "clean": Stage(self._name("tokens"), coding.encode_tokens, flat, tokens)},
            "latents": {**latents, "clean": Stage(self._name("latents"), coding.encode_latents, flat, latents)},
        }

    def _first_stage(self, name: str, stage: FirstStage) -> Stage:
        kept = autoencoding.Reconstructing(stage, self.sizes.repainting.number)
        vq = "codes" in stage.network
        return Stage(
            self._name(f"{name} autoencoder"),
            autoencoding.train_vq if vq else autoencoding.train_kl,
            kept,
            {"data": self.data},
            size=partial(autoencoding.vq_size if vq else autoencoding.kl_size, kept),
            cost=partial(autoencoding.vq_cost if vq else autoencoding.kl_cost, kept),
            shared=True,
        )

    def trained(self, model: Model, seed: int) -> Trained:
        """The stages that train a model from a seed."""
        family = TRAINED_AS.get(model.family, model.family)
        trained = replace(model, family=family)
        name = self._name(f"{self.name_of(trained)} seed {seed}")
        if family is Family.IMAGEBART:
            return self._scales(name, trained, seed)
        if family is Family.VQ_DIFFUSION:
            return self._tokens(name, trained, seed)
        return self._latents(name, trained, seed)

    def _tokens(self, name: str, model: Model, seed: int) -> Trained:
        recipe = self.sizes.vq_diffusion
        training = token_denoising.Training(
            replace(recipe, training=_as_long(recipe.training, model, seed)), self.told, importance=False
        )
        inputs = self.coded["tokens"]
        counted = (
            partial(token_denoising.size, training, *self.codes),
            partial(token_denoising.cost, training, *self.codes),
        )
        runs = token_denoising.train, equipping.train_tokens
        stage = _training(name, runs, training, model.context, inputs, counted)
        return Trained(training, stage, (stage,), {**inputs, "model": stage})

    def _latents(self, name: str, model: Model, seed: int) -> Trained:
        sizes, family = self.sizes, model.family
        recipe = {Family.DDPM: sizes.ddpm, Family.LDM: sizes.ldm, Family.DIT: sizes.dit}[family]
        recipe = replace(recipe, training=_as_long(recipe.training, model, seed))
        training = latent_denoising.Training(recipe, told_by(recipe, self.told))
        inputs, shape = self.coded["pixels" if family is Family.DDPM else "latents"], self.shape(family)
        counted = partial(latent_denoising.size, training, shape), partial(latent_denoising.cost, training, shape)
        runs = latent_denoising.train, equipping.train_latents
        stage = _training(name, runs, training, model.context, inputs, counted)
        return Trained(training, stage, (stage,), {**inputs, "model": stage})

    def _scales(self, name: str, model: Model, seed: int) -> Trained:
        first, inputs = self.sizes.tokens, self.coded["tokens"]
        recipe = chain(
            self.sizes.scales,
            codes=first.network["codes"],
            grid=(first.side, first.side),
            classes=len(self.told.classes),
        )
        own = _as_long(self.sizes.scales_training or recipe.training, model, seed)
        training = scale_denoising.Training(replace(recipe, training=own), self.told)
        runs = scale_denoising.train_scale, equipping.train_scale
        trainings = []
        for t in range(1, recipe.scales + 1):
            each = scale_denoising.ScaleTraining(training.chain, training.told, t)
            counted = partial(scale_costs.size, each), partial(scale_costs.cost, each)
            trainings.append(_training(f"{name} scale {t}", runs, each, model.context, inputs, counted))
        named = {f"scale {t}": stage for t, stage in enumerate(trainings, 1)}
        joined = Stage(f"{name} model", scale_denoising.join, training, {**inputs, **named})
        return Trained(training, joined, tuple(trainings), {**inputs, "model": joined})

    def images(self, model: Model, seed: int) -> Stage:
        """Pictures that a model draws."""
        trained, name = self.trained(model, seed), self._name(f"{self.name_of(model)} seed {seed}")
        profile = self.sizes.profile
        walk = self.walk(model.family)
        drawing = denoising.Sampling(trained.training, walk, profile.samples, HELD_OUT, profile.sampling_batch, seed)
        draw, cost = self._drawing(model.family, drawing)
        sample = Stage(f"{name} sample", draw, drawing, trained.inputs, cost=cost, shared=True)
        decoding = {key: trained.inputs[key] for key in ("autoencoder", "clean") if key in trained.inputs}
        return Stage(f"{name} decode", coding.decode, None, {"samples": sample, **decoding})

    def _drawing(self, family: Family, drawing: denoising.Sampling) -> tuple[Run, Count]:
        """What draws samples, and counts what that costs."""
        kind = TRAINED_AS.get(family, family)
        if kind is Family.IMAGEBART:
            return scale_denoising.sample, partial(scale_costs.sampling_cost, drawing)
        if kind is Family.VQ_DIFFUSION:
            return token_denoising.sample, partial(token_denoising.sampling_cost, drawing, *self.codes)
        return latent_denoising.sample, partial(latent_denoising.sampling_cost, drawing, self.shape(kind))

    @property
    def codes(self) -> tuple[int, tuple[int, int]]:
        """Number of the codes of tokens, and their grid."""
        first = self.sizes.tokens
        return first.network["codes"], (first.side, first.side)

    def shape(self, family: Family) -> tuple[int, int, int]:
        """Shape of what a model of latents or pixels draws."""
        side = self.sizes.profile.resolution
        return (3, side, side) if family is Family.DDPM else _latent_shape(self.sizes.latents)

    def walk(self, family: Family) -> Any:
        """How a model draws; Improved VQ-Diffusion by its purity prior, and under guidance where there is a condition.

        Source: Improved VQ-Diffusion purity prior, discrete classifier-free guidance
        """
        sizes, told = self.sizes, self.told
        if family is Family.IMAGEBART:
            return scale_denoising.Walk()
        if family is Family.VQ_DIFFUSION:
            return token_denoising.Walk(sizes.vq_diffusion.steps, 1.0, sizes.vq_diffusion.truncation)
        if family is Family.IMPROVED_VQ_DIFFUSION:
            recipe, length = sizes.vq_diffusion, sizes.tokens.side**2
            scale = told.guidance(recipe.guidance)
            return token_denoising.Walk(min(recipe.steps, length), scale, recipe.truncation, Way.PURITY)
        recipe = {Family.DDPM: sizes.ddpm, Family.LDM: sizes.ldm, Family.DIT: sizes.dit}[family]
        return latent_denoising.Walk.of(recipe, told.guidance(recipe.guidance))

    def scored(self, name: str, images: Stage | None) -> Stage:
        """Scores of pictures, or of held-out ones, against training pictures."""
        held_out = None if images is not None else self.sizes.profile.samples
        given = {} if images is None else {"images": images}
        settings = scoring.Scoring(self.space, held_out=held_out)
        return Stage(self._name(f"{name} scores"), scoring.score, settings, {**self.reading, **given})

    def rebuilt(self, kind: str) -> Stage:
        """Training pictures as their tokens or latents show them."""
        return Stage(
            self._name(f"{kind} rebuilt"),
            coding.rebuild,
            coding.Rebuilding(self.sizes.profile.samples),
            {name: self.coded[kind][name] for name in ("autoencoder", "clean")},
        )

    @staticmethod
    def name_of(model: Model) -> str:
        """What the stages of a model are called."""
        longer = "" if model.samples is None else f" of {model.samples} samples"
        match model.context:
            case None:
                return f"{model.family}{longer}"
            case DirectContext() as context:
                return f"{model.family} with direct context {context.stride}{longer}"
            case context:
                return f"{model.family} with context {context.name}{longer}"

    def _name(self, name: str) -> str:
        return self.called + name


def _training(
    name: str,
    runs: tuple[Run, Run],
    training: Any,
    context: AnyContext | None,
    inputs: Mapping[str, Stage],
    counted: tuple[Count, Count],
) -> Stage:
    """The stage of a training.

    runs: the functions without and with the context loss; counted: size and cost, in which the head is left out.
    """
    run, settings = runs[0], training
    if context is not None:
        run, settings = runs[1], equipping.Equipped(training, context)
    size, cost = counted
    return Stage(f"{name} train", run, settings, inputs, size=size, cost=cost, shared=True)


def _as_long(training: TrainingSettings, model: Model, seed: int) -> TrainingSettings:
    """A training from a seed, of as many samples as the model says."""
    return replace(training, seed=seed, samples=model.samples or training.samples)


def _latent_shape(first: FirstStage) -> tuple[int, int, int]:
    network = first.network
    channels = network["code_width"] if "codes" in network else network["latent_channels"]
    return (channels, first.side, first.side)


def title_of(data: str) -> str:
    """What a data set is called: a preset by its title, a path by its last part."""
    preset = preset_of(data)
    return preset.title if preset is not None else data.rstrip("/").rsplit("/", 1)[-1]
