"""How much of everything, for the study of the context loss: which models on which data, how large, how often."""

from dataclasses import dataclass, replace
from typing import Any

from reproductions.choices import chosen
from reproductions.data import DIGITS
from reproductions.drawn.shapes import SETS
from reproductions.experiment import Family
from reproductions.loop.steps import TrainingSettings
from reproductions.table_profiles import SIZES, Sizes

REPEATS = {"smoke": (2, 1, 1), "cpu": (5, 3, 2), "gpu": (5, 3, 2)}


@dataclass(frozen=True)
class Case:
    """One data set: its models, a continuous one and one of tokens; how many seeds; whether the loss is ablated."""

    sizes: Sizes
    families: tuple[Family, ...]
    repeats: int
    ablated: bool


def case_of(profile: str, data: str) -> Case:
    """What is done on a data set at a size; digits have denoisers of their own 8 x 8 pixels, others of 32 or more.

    Raises:
        ValueError: naming the sizes that there are.
    """
    chosen("--profile", "size of the study", profile, REPEATS)
    sizes, (digits, drawn, others) = SIZES[profile], REPEATS[profile]
    if data == DIGITS:
        return Case(_digits(sizes), (Family.DDPM, Family.VQ_DIFFUSION), digits, ablated=True)
    if profile == "cpu":
        sizes = _seeing(sizes, 48_000)
    return Case(sizes, (Family.LDM, Family.VQ_DIFFUSION), drawn if data in SETS else others, ablated=False)


def _seeing(sizes: Sizes, samples: int) -> Sizes:
    """The same sizes with another number of samples seen in training."""

    def longer(recipe: Any) -> Any:
        return replace(recipe, training=replace(recipe.training, samples=samples))

    return replace(sizes, ldm=longer(sizes.ldm), vq_diffusion=longer(sizes.vq_diffusion))


def _digits(sizes: Sizes) -> Sizes:
    """Denoisers small enough for five seeds of every ablation; tokens stand for single pixels, on a grid of 8 x 8."""
    tiny, large = sizes.name == "smoke", sizes.name == "gpu"
    channels, width = (16, 32) if tiny else (64, 128) if large else (16, 64)
    unet = {"channels": channels, "groups": 8, "multipliers": (1, 2), "residual_blocks": 1, "attention_at": (2,)}
    transformer = {"width": width, "depth": 2, "heads": 4, "feedforward": 2, "positions_in_every_block": True}
    coder = {"channels": 32, "multipliers": (1,), "residual_blocks": 1, "mid_blocks": 0, "groups": 8, "resolution": 8}
    codes = {"codes": 32, "code_width": 4, "ema_decay": 0.98, "revival_threshold": 0.3}
    few = {"batch": 8, "warmup": 8, "log_every": 2, "samples": 32}
    denoiser = TrainingSettings(samples=16_000, batch=32, learning_rate=2e-3, warmup=1_600, ema=0.99, log_every=10)
    first = TrainingSettings(samples=38_400, batch=64, learning_rate=2e-3, betas=(0.9, 0.99), warmup=960)
    if tiny:
        denoiser, first = replace(denoiser, **few), replace(first, **few)
    elif large:
        denoiser, first = replace(denoiser, samples=640_000), replace(first, samples=192_000)
    steps, samples = (4, 8) if tiny else (20, 2_000 if large else 500)
    profile = replace(
        sizes.profile,
        resolution=8,
        train_size=1_800,
        held_out_size=500,
        samples=samples,
        sampling_batch=250,
    )
    return replace(
        sizes,
        profile=profile,
        tokens=replace(
            sizes.tokens,
            network={**coder, **codes},
            training=first,
            unquantised=first.samples // 8,
            adversarial_start=None,
        ),
        ddpm=replace(
            sizes.ddpm,
            network={**unet, "heads": 2, "feed_forward": 0, "attention_positions": True},
            training=denoiser,
            steps=steps,
        ),
        vq_diffusion=replace(
            sizes.vq_diffusion,
            network={**transformer, "convolution": True},
            training=denoiser,
            steps=steps,
        ),
        reference=1_800,
    )
