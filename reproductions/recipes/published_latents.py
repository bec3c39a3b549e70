"""The published recipes of latent diffusion, and of the pixels that RePaint stands on."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from reproductions.loop.steps import TrainingSettings
from reproductions.settings import Captions, Continuous, Distance, GaussianNoise, Solver, Target, TextEncoder
from reproductions.stages.latent_presets import PRESETS, Preset, absolute

BERT = Captions(vocabulary=30_522, length=77, width=1280, depth=32, heads=8, encoder=TextEncoder.LDM)
LEVELS = 1000
FITTED = ("in_channels", "out_channels", "condition_width", "null_states", "classes", "null_class")


def published() -> dict[str, Continuous]:
    """The recipes by name."""
    return {**unconditional(), **conditional(), **restoring(), "ddpm-celebahq": pixels()}


def unconditional() -> dict[str, Continuous]:
    """Faces, bedrooms and churches.

    Source: LDM U-Net, latent objective, noise schedule
    Unstated: steps for churches, of which three numbers are printed; 200.
    """
    return {
        "ldm-celebahq": of("celebahq", 410_000),
        "ldm-ffhq": of("ffhq", 635_000, eta=1.0),
        "ldm-bedrooms": of("bedrooms", 1_900_000, eta=1.0),
        "ldm-churches": of("churches", 500_000, warmup=10_000),
    }


def conditional() -> dict[str, Continuous]:
    """Classes and captions.

    Source: LDM conditioning mechanisms
    Unstated: the share of conditions left out; 0.1. Steps of the LDM-8 of ImageNet and of the smaller one of captions;
        those that show it as many pictures as the published model beside it saw. Warm-up of the large model of
        captions; that of churches.
    Deviation: no class and no caption are learned states, where the released models read one class more and an empty
        caption. Words of captions are byte pairs learned from them, as many as BERT's.
    """
    small = replace(BERT, width=640)
    guided = {"dropout": 0.1, "steps": 250}
    return {
        "ldm-imagenet-f8": of("imagenet-f8", 1200 * 178_000 // 64, class_width=512, **guided),
        "ldm-imagenet": of("imagenet", 178_000, class_width=512, guidance=1.5, **guided),
        "ldm-text-f4": of("text-f4", 390_000, captions=small, guidance=1.5, **guided),
        "ldm-text": of("text", 390_000, captions=BERT, guidance=1.5, warmup=10_000, **guided),
    }


def restoring() -> dict[str, Continuous]:
    """For the tasks of filling in and of enlarging.

    Source: LDM inpainting, super-resolution
    Unstated: steps of the sampler for filling in; 200.
    """
    return {
        "ldm-inpainting": of("inpainting", 360_000),
        "ldm-super-resolution": of("super-resolution", 860_000, steps=100),
    }


def of(
    name: str, iterations: int, *, warmup: int = 0, steps: int = 200, dropout: float = 0.0, **rest: Any
) -> Continuous:
    """The recipe of a preset that was trained for so many steps, `warmup` of them with a rising rate.

    Source: LDM training recipes
    Unstated: betas and weight decay; those of AdamW. Numbers of float32 or bf16; bf16 where the machine has it.
    """
    preset = PRESETS[name]
    assert preset.batch is not None
    assert preset.learning_rate is not None
    own = training(preset.batch, iterations, preset.learning_rate, warmup)
    return Continuous(
        network=network(preset),
        captions=rest.pop("captions", BERT),
        levels=LEVELS,
        training=own,
        steps=steps,
        guidance=rest.pop("guidance", 1.0),
        dropout=dropout,
        noise=GaussianNoise.LDM,
        target=Target.NOISE,
        clip=None,
        betas=preset.betas,
        distance=Distance.ABSOLUTE if preset.distance is absolute else Distance.SQUARED,
        **rest,
    )


def training(batch: int, iterations: int, learning_rate: float, warmup: int = 0) -> TrainingSettings:
    """AdamW at a steady rate, with an average of the weights.

    Source: LDM training recipes
    """
    return TrainingSettings(
        samples=batch * iterations,
        batch=batch,
        learning_rate=learning_rate,
        betas=(0.9, 0.999),
        warmup=warmup * batch,
        final_fraction=1.0,
        clip=None,
        ema=0.9999,
        precision="bf16",
        log_every=100,
    )


def pixels() -> Continuous:
    """The model of faces that RePaint stands on: ADM's U-Net, whose variance is learned by the bound.

    Source: ADM U-Net
    Unstated: its learning rate, 1e-4, and the decay of its average, 0.9999; a batch of 12, "three on four GPUs each".
    """
    preset = PRESETS["adm-256-unconditional"]
    return Continuous(
        network=network(preset),
        captions=BERT,
        levels=LEVELS,
        training=training(12, 250_000, 1e-4),
        steps=250,
        guidance=1.0,
        dropout=0.0,
        noise=GaussianNoise.LINEAR,
        target=Target.NOISE,
        clip=1.0,
        betas=preset.betas,
        bound=0.001 * LEVELS,
        solver=Solver.DDPM,
    )


def network(preset: Preset) -> Mapping[str, Any]:
    """Its arguments but for those that follow from what is drawn and from the condition."""
    return {name: value for name, value in preset.arguments.items() if name not in FITTED}
