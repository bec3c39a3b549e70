"""How much of everything: four sizes of the same experiments.

`smoke`: seconds, in tests. `cpu`: minutes on two cores, pictures that a person recognises. `gpu`: one GPU, under an
hour a row. `paper`: the published recipes, for many GPUs; declared and planned, never run here.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch

from reproductions.loop.steps import TrainingSettings
from reproductions.recipes.published_cascade import imagen
from reproductions.recipes.published_latents import conditional
from reproductions.recipes.published_tokens import improved
from reproductions.settings import Captions as Captions
from reproductions.settings import Cascade as Cascade
from reproductions.settings import Continuous as Continuous
from reproductions.settings import Denoiser as Denoiser
from reproductions.settings import Discrete as Discrete
from reproductions.settings import FirstStage as FirstStage
from reproductions.settings import GaussianNoise as GaussianNoise
from reproductions.settings import Target as Target
from reproductions.settings import TokenNoise as TokenNoise


@dataclass(frozen=True)
class Profile:
    """One size of every experiment.

    samples: images generated for each row and seed; workers: processes at a time; comparable: whether its numbers may
    stand beside the paper's; cascade: the denoisers of pixels that draw small and enlarge (None: not at this size).
    """

    name: str
    resolution: int
    train_size: int
    held_out_size: int
    samples: int
    sampling_batch: int
    judge: TrainingSettings
    vq: FirstStage
    kl: FirstStage
    discrete: Discrete
    continuous: Continuous
    workers: int | None = None
    comparable: bool = False
    cascade: Cascade | None = None


def _cpu() -> Profile:
    """Two cores, 20 minutes: 32 px images, 8x8 grids, 2,000 steps of 32 for each of the four denoisers.

    Deviation: the auxiliary loss weighs 0.02, not 5e-4: with the bound alone, so short a training leaves its first
    plateau late (docs/log.md).
    """
    autoencoder = TrainingSettings(
        samples=38_400, batch=32, learning_rate=2e-3, betas=(0.9, 0.99), warmup=960, log_every=25
    )
    denoiser = TrainingSettings(
        samples=64_000, batch=32, learning_rate=1e-3, warmup=1_600, ema=0.99, precision="bf16", log_every=50
    )
    body = {
        "channels": 96,
        "multipliers": (1,),
        "patch": 4,
        "residual_blocks": 1,
        "decoder_blocks": 1,
        "mid_blocks": 0,
        "groups": 8,
        "resolution": 32,
    }
    return Profile(
        name="cpu",
        resolution=32,
        train_size=20_000,
        held_out_size=2_000,
        samples=256,
        sampling_batch=64,
        judge=TrainingSettings(samples=25_600, batch=128, learning_rate=3e-3, betas=(0.9, 0.999), warmup=1_280),
        vq=FirstStage(
            {**body, "codes": 256, "code_width": 8, "ema_decay": 0.98, "revival_threshold": 0.3},
            autoencoder,
            unquantised=6_400,
        ),
        kl=FirstStage({**body, "latent_channels": 4}, autoencoder, kl_weight=1e-6),
        discrete=Discrete(
            network={
                "width": 128,
                "depth": 4,
                "heads": 4,
                "feedforward": 2,
                "convolution": True,
                "positions_in_every_block": True,
            },
            captions=Captions(),
            levels=50,
            training=denoiser,
            steps=25,
            guidance=2.0,
            auxiliary_weight=0.02,
        ),
        continuous=Continuous(
            network={
                "channels": 48,
                "groups": 16,
                "multipliers": (1, 2),
                "residual_blocks": 1,
                "attention_at": (2,),
                "heads": 2,
                "feed_forward": 0,
                "attention_positions": True,
            },
            captions=Captions(),
            levels=1000,
            training=denoiser,
            steps=25,
            guidance=3.0,
        ),
    )


def _smoke() -> Profile:
    """Every code path of the CPU profile in seconds: a few steps of everything, the adversary included."""
    few = {"samples": 48, "batch": 8, "warmup": 8, "log_every": 2}
    body = {
        "channels": 16,
        "multipliers": (1, 2),
        "residual_blocks": 1,
        "patch": 2,
        "resolution": 32,
        "mid_attention": False,
    }
    autoencoder = TrainingSettings(**few, learning_rate=1e-3)
    denoiser = TrainingSettings(**few, learning_rate=1e-3, ema=0.9, precision="bf16")
    captions = Captions(vocabulary=320, length=12, width=32, heads=2)
    cpu = _cpu()
    continuous = replace(
        cpu.continuous,
        network={**cpu.continuous.network, "channels": 32, "heads": 2},
        captions=captions,
        training=denoiser,
        steps=4,
    )
    pixels = replace(continuous, network={**continuous.network, "channels": 16, "attention_positions": False}, clip=1.0)
    return Profile(
        name="smoke",
        resolution=32,
        train_size=64,
        held_out_size=32,
        samples=16,
        sampling_batch=8,
        judge=TrainingSettings(**few, learning_rate=1e-3),
        vq=FirstStage(
            {**body, "codes": 32, "code_width": 4, "ema_decay": 0.9, "revival_threshold": 0.3},
            autoencoder,
            unquantised=16,
            adversarial_start=24,
        ),
        kl=FirstStage({**body, "latent_channels": 4}, autoencoder, kl_weight=1e-5),
        discrete=replace(
            cpu.discrete,
            network={**cpu.discrete.network, "width": 32, "depth": 2, "heads": 2},
            captions=captions,
            levels=10,
            training=denoiser,
            steps=4,
        ),
        continuous=continuous,
        cascade=Cascade(side=16, base=pixels, enlarging=pixels, augmentation=300, level=100),
    )


def _gpu() -> Profile:
    """One GPU, under an hour a row: 64 px images, 16x16 grids. Declared; not yet run."""
    autoencoder = TrainingSettings(
        samples=1_280_000,
        batch=64,
        learning_rate=4e-4,
        betas=(0.5, 0.9),
        warmup=12_800,
        precision="bf16",
        log_every=100,
    )
    denoiser = TrainingSettings(
        samples=12_800_000, batch=256, learning_rate=3e-4, warmup=256_000, ema=0.9999, precision="bf16", log_every=100
    )
    body = {"channels": 64, "multipliers": (1, 2, 4), "residual_blocks": 2, "resolution": 64}
    captions = Captions(vocabulary=8192, length=48, width=512, depth=4, heads=8)
    cpu = _cpu()
    return Profile(
        name="gpu",
        resolution=64,
        train_size=200_000,
        held_out_size=10_000,
        samples=10_000,
        sampling_batch=500,
        judge=replace(cpu.judge, samples=256_000),
        vq=FirstStage(
            {**body, "codes": 1024, "code_width": 64, "ema_decay": 0.99, "revival_threshold": 0.3},
            autoencoder,
            unquantised=64_000,
            adversarial_start=640_000,
        ),
        kl=FirstStage({**body, "latent_channels": 4}, autoencoder, kl_weight=1e-5, adversarial_start=640_000),
        discrete=Discrete(
            network={"width": 512, "depth": 12, "heads": 8, "convolution": True, "positions_in_every_block": True},
            captions=captions,
            levels=100,
            training=denoiser,
            steps=100,
            guidance=2.0,
        ),
        continuous=Continuous(
            network={
                "channels": 128,
                "multipliers": (1, 2, 3),
                "residual_blocks": 2,
                "attention_at": (1, 2, 4),
                "heads": 8,
                "attention_positions": True,
            },
            captions=captions,
            levels=1000,
            training=denoiser,
            steps=50,
            guidance=3.0,
        ),
    )


def _paper() -> Profile:
    """The published recipes: Improved VQ-Diffusion-B on f8 tokens, LDM-KL-8 (1.45B) on f8 latents, 256 px, MS-COCO.

    Unstated: training and sampling of ConPreDiff's own rows, which are those of the models that they equip.
    """
    first = TrainingSettings(
        samples=96 * 500_000,
        batch=96,
        learning_rate=4.5e-6 * 8 * 12,
        betas=(0.5, 0.9),
        weight_decay=0.0,
        warmup=0,
        final_fraction=1.0,
        clip=None,
    )
    body = {"channels": 128, "residual_blocks": 2, "resolution": 256}
    tokens = {"multipliers": (1, 1, 2, 4), "attention_resolutions": (32,), "codes": 2887, "code_width": 256}
    return Profile(
        name="paper",
        resolution=256,
        train_size=414_000,
        held_out_size=30_000,
        samples=30_000,
        sampling_batch=64,
        judge=_cpu().judge,
        vq=FirstStage({**body, **tokens}, first, adversarial_start=96 * 30_000),
        kl=FirstStage(
            {**body, "multipliers": (1, 2, 4, 4), "latent_channels": 4},
            first,
            kl_weight=1e-6 / (3 * 256 * 256),
            adversarial_start=96 * 50_000,
        ),
        discrete=improved()["improved-vq-diffusion-b"],
        continuous=conditional()["ldm-text"],
        cascade=imagen(improved()["improved-vq-diffusion-b"].captions),
        comparable=False,
    )


PROFILES = {profile.name: profile for profile in (_smoke(), _cpu(), _gpu(), _paper())}


def on_this_machine(profile: Profile) -> Profile:
    """The profile in float32 where processor and GPU have no bf16."""
    if has_bf16():
        return profile

    def plain(trained: Any) -> Any:
        return replace(trained, training=replace(trained.training, precision="no"))

    stages = {name: plain(getattr(profile, name)) for name in ("vq", "kl", "discrete", "continuous")}
    cascade = profile.cascade
    if cascade is not None:
        cascade = replace(cascade, base=plain(cascade.base), enlarging=plain(cascade.enlarging))
    return replace(profile, **stages, cascade=cascade)


def has_bf16() -> bool:
    """Whether the GPU, or without one the processor, multiplies in bf16."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)
