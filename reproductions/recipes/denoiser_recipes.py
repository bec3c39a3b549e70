"""Recipes of denoisers by name: networks, their training, and how they are sampled.

Those for minutes on two cores come from the CPU profile of the tables; what differs is said here. The published ones
are in `published_tokens` and `published_latents`.
"""

from collections.abc import Mapping
from dataclasses import replace

from reproductions.conditioning import Conditioning, Kind
from reproductions.loop.steps import TrainingSettings
from reproductions.profiles import PROFILES
from reproductions.recipes import published_latents, published_tokens
from reproductions.settings import Captions, Continuous, Denoiser, Discrete, GaussianNoise, Target

CPU, SMOKE = PROFILES["cpu"], PROFILES["smoke"]
MINUTES = TrainingSettings(
    samples=160_000,
    batch=32,
    learning_rate=1e-3,
    warmup=3_200,
    ema=0.999,
    precision="bf16",
    log_every=50,
)


def _tokens() -> Mapping[str, Discrete]:
    """Denoisers of tokens; `small` is the CPU profile's transformer, half as wide again, with 100 noise levels."""
    network = {**CPU.discrete.network, "width": 192, "heads": 6, "feedforward": 4}
    small = replace(
        CPU.discrete,
        network=network,
        captions=Captions(width=192, heads=6),
        levels=100,
        training=MINUTES,
        steps=100,
        guidance=1.5,
        truncation=None,
    )
    return {"small": small, "smoke": replace(SMOKE.discrete, truncation=None), **published_tokens.published()}


def _latents() -> Mapping[str, Continuous]:
    """Denoisers of latents and of pixels: U-Nets of the CPU profile's kind, with more channels and levels."""
    latents = replace(
        CPU.continuous,
        network={
            "channels": 64,
            "groups": 16,
            "multipliers": (1, 2),
            "residual_blocks": 1,
            "attention_at": (2,),
            "heads": 4,
            "feed_forward": 2,
            "attention_positions": True,
        },
        training=replace(MINUTES, samples=96_000),
        steps=25,
        guidance=2.0,
    )
    pixels = replace(
        latents,
        network={
            "channels": 32,
            "groups": 8,
            "multipliers": (1, 2, 4),
            "residual_blocks": 1,
            "attention_at": (4,),
            "heads": 4,
            "feed_forward": 2,
            "attention_positions": True,
        },
        noise=GaussianNoise.COSINE,
        target=Target.VELOCITY,
        training=replace(MINUTES, samples=64_000),
        guidance=1.5,
        clip=1.0,
    )
    return {"latents": latents, "pixels": pixels, "smoke": SMOKE.continuous, **published_latents.published()}


TOKENS, LATENTS = _tokens(), _latents()


def told_by(recipe: Denoiser, told: Conditioning) -> Conditioning:
    """What a denoiser of a recipe is told, with what reads it: captions by its encoder, classes as states or labels."""
    if told.kind is Kind.CAPTION:
        return replace(told, captions=recipe.captions)
    if told.kind is Kind.CLASS and isinstance(recipe, Continuous):
        return replace(told, class_width=recipe.class_width)
    return told
