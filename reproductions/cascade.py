"""A cascade in a plan: one denoiser of pixels draws small pictures for captions, another one enlarges them.

data -> small pictures -> denoiser (with or without context) -> samples -> denoiser that enlarges -> images
"""

from dataclasses import replace
from functools import partial

from reproductions.artefacts import Stage
from reproductions.conditioning import Conditioning, Kind
from reproductions.data import DataSettings
from reproductions.experiment import Context
from reproductions.frozen_texts import caption_stages
from reproductions.gathering.splits import HELD_OUT
from reproductions.profiles import Profile
from reproductions.recipes.denoiser_recipes import told_by
from reproductions.recipes.tasks import SuperResolution, Task
from reproductions.settings import Continuous
from reproductions.stages import coding, denoising, equipping, latent_denoising, preparing, restoring
from reproductions.stages.latent_denoising import Training, Walk


def stages(
    name: str,
    profile: Profile,
    context: Context | None,
    data: DataSettings,
    source: Stage,
    seed: int,
    text_encoder: str | None,
) -> tuple[tuple[Stage, ...], Stage]:
    """Both trainings, and the stage with the pictures; source: the stage that reads the data at its full size.

    Both denoisers read captions by one encoder's words.

    Source: Imagen cascade
    Unstated: on which of its models the cascade of ConPreDiff_con has the context loss; the one of small pictures.
    """
    cascade, number, batch = profile.cascade, profile.samples, profile.sampling_batch
    assert cascade is not None
    small = replace(data, resolution=cascade.side)
    pictures = Stage("small data", preparing.read, preparing.Reading(small, source.settings.fingerprint))
    words = caption_stages(source, cascade.base.captions, text_encoder)
    base = _training(cascade.base, seed)
    larger = _training(cascade.enlarging, seed, SuperResolution(data.resolution // cascade.side, cascade.augmentation))
    base_inputs, larger_inputs = {"data": pictures, **words}, {"data": source, **words}
    drawn = _train(f"{name.replace(' seed', ' small seed')} train", base, cascade.side, base_inputs, context)
    enlarged = _train(f"{name.replace(' seed', ' enlarging seed')} train", larger, data.resolution, larger_inputs)
    drawing = denoising.Sampling(base, _walk(base), number, HELD_OUT, batch, seed)
    shape = (3, cascade.side, cascade.side)
    samples = Stage(
        f"{name} small sample",
        latent_denoising.sample,
        drawing,
        {**base_inputs, "model": drawn},
        cost=partial(latent_denoising.sampling_cost, drawing, shape),
        shared=True,
    )
    enlarging = restoring.Enlarging(larger, _walk(larger), number, batch, seed, cascade.level)
    images = Stage(
        f"{name} sample",
        restoring.enlarge,
        enlarging,
        {
            **larger_inputs,
            "model": enlarged,
            "small": Stage(f"{name} small decode", coding.decode, None, {"samples": samples}),
        },
        cost=partial(restoring.enlarging_cost, enlarging, (3, data.resolution, data.resolution)),
        shared=True,
    )
    return (drawn, enlarged), Stage(f"{name} decode", coding.decode, None, {"samples": images})


def _training(recipe: Continuous, seed: int, task: Task | None = None) -> Training:
    seeded = replace(recipe, training=replace(recipe.training, seed=seed))
    return Training(seeded, told_by(seeded, Conditioning(Kind.CAPTION)), task=task)


def _train(name: str, training: Training, side: int, inputs: dict[str, Stage], context: Context | None = None) -> Stage:
    size, cost = (partial(count, training, (3, side, side)) for count in (latent_denoising.size, latent_denoising.cost))
    if context is None:
        return Stage(name, latent_denoising.train, training, inputs, size=size, cost=cost, shared=True)
    equipped = equipping.Equipped(training, context)
    return Stage(name, equipping.train_latents, equipped, inputs, size=size, cost=cost, shared=True)


def _walk(training: Training) -> Walk:
    return Walk.of(training.denoiser, training.told.guidance(training.denoiser.guidance))
