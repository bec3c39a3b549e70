"""The published recipes of VQ-Diffusion and Improved VQ-Diffusion."""

from collections.abc import Mapping
from dataclasses import replace

from reproductions.loop.plateau import Plateau
from reproductions.loop.steps import TrainingSettings
from reproductions.settings import Captions, Discrete, TextEncoder, TokenNoise
from reproductions.stages.token_presets import PRESETS, Preset

DEVICES = 8
COCO, BIRDS, CONCEPTUAL, ITHQ, FACES, IMAGENET = 82_783, 8_855, 7_000_000, 200_000, 70_000, 1_281_167
CLIP = Captions(vocabulary=49_408, length=77, width=512, depth=12, heads=8, encoder=TextEncoder.FROZEN)
FITTED = ("codes", "grid", "steps", "condition_width", "classes")


def published() -> dict[str, Discrete]:
    """The recipes by name; each sees as many pictures as its epochs had on the data that it was made for.

    Source: VQ-Diffusion training recipe, model sizes
    Unstated: the pictures of ITHQ and of the training on faces; all that there are.
    """
    return {
        "vq-diffusion-s": of(PRESETS["s"], BIRDS),
        "vq-diffusion-b": of(PRESETS["b"], COCO),
        "vq-diffusion-b-birds": of(PRESETS["b-birds"], BIRDS),
        "vq-diffusion-f": of(PRESETS["f"], CONCEPTUAL),
        "vq-diffusion-ithq": of(PRESETS["ithq"], ITHQ),
        "vq-diffusion-ffhq": of(PRESETS["ffhq"], FACES),
        "vq-diffusion-imagenet": replace(of(PRESETS["imagenet"], IMAGENET), guidance=1.0, truncation=0.869),
        **improved(),
    }


def improved() -> dict[str, Discrete]:
    """Those that are trained with a null condition and sampled with guidance.

    Source: Improved VQ-Diffusion learnable null condition
    Unstated: the share of classes that are left out; a tenth, as of captions.
    """
    return {
        "improved-vq-diffusion-b": of(PRESETS["b-guided"], COCO),
        "improved-vq-diffusion-ithq": of(PRESETS["ithq-guided"], ITHQ),
        "improved-vq-diffusion-imagenet": replace(of(PRESETS["imagenet"], IMAGENET), dropout=0.1),
    }


def of(preset: Preset, pictures: int) -> Discrete:
    """The recipe of a preset that was trained on so many pictures.

    Source: VQ-Diffusion training recipe
    Unstated: how many devices shared the batch; eight, as its authors say of birds.
    Deviation: bf16 where the machine has it, the released code is float32.
    """
    own = preset.recipe
    batch = own.batch * DEVICES
    training = TrainingSettings(
        samples=own.epochs * pictures,
        batch=batch,
        learning_rate=own.learning_rate,
        betas=own.betas,
        weight_decay=own.weight_decay,
        warmup=own.warmup * batch,
        final_fraction=1.0,
        clip=own.clip,
        ema=own.ema,
        ema_interval=own.ema_interval,
        plateau=Plateau(own.patience * batch, own.threshold, own.factor, own.least_rate),
        precision="bf16",
        log_every=100,
    )
    return Discrete(
        network=network(preset),
        captions=CLIP,
        levels=preset.arguments["steps"],
        training=training,
        steps=preset.arguments["steps"],
        guidance=preset.guidance,
        dropout=own.condition_dropout,
        noise=TokenNoise.RELEASED,
        auxiliary_weight=own.auxiliary_weight,
        truncation=None if preset.truncation == 1 else preset.truncation,
    )


def network(preset: Preset) -> Mapping[str, object]:
    """Its arguments but for those that follow from the data, the tokens and the condition."""
    return {name: value for name, value in preset.arguments.items() if name not in FITTED}
