"""How much of everything, for the tables and figures of models trained on pictures alone: the same four sizes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from reproductions.profiles import PROFILES, Continuous, Discrete, FirstStage, GaussianNoise, Profile, Target, has_bf16
from reproductions.training import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class Repainting:
    """How held-out pictures are filled in.

    number: of pictures, behind each kind of mask; steps: of the sampler; length, passes: of RePaint's jumps, where
    every stretch of `length` steps is walked `passes` times; chains: times that ImageBART runs each scale.
    """

    number: int
    steps: int
    length: int
    passes: int
    chains: int = 3


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """One size of every model that is trained on pictures alone.

    profile: resolution, splits, samples, judge and first stages, as for Table 1; tokens, latents: the first stages of
    models of tokens and of latents; scales: the chain of ImageBART by name, and its training (None: the recipe's own);
    reference: training pictures that samples are compared with; seeds: those of a run that is not told any;
    timed: training steps that are timed for Figure 4.
    """

    profile: Profile
    tokens: FirstStage
    latents: FirstStage
    ddpm: Continuous
    ldm: Continuous
    dit: Continuous
    vq_diffusion: Discrete
    scales: str
    scales_training: TrainingSettings | None
    repainting: Repainting
    reference: int
    timed: int
    seeds: tuple[int, ...] = (0,)

    @property
    def name(self) -> str:
        """The profile's name."""
        return self.profile.name


def _pixels(ldm: Continuous, network: Mapping[str, Any]) -> Continuous:
    """A denoiser of pixels beside one of latents."""
    return replace(ldm, network=network, noise=GaussianNoise.COSINE, target=Target.VELOCITY, clip=1.0)


def _small(name: str, **rest: Any) -> Sizes:
    """Models of 32 px pictures, 8 x 8 latents and tokens; VQ-Diffusion and LDM are those of Table 1."""
    profile = PROFILES[name]
    tiny = name == "smoke"
    ldm = profile.continuous
    unet = {**ldm.network, "channels": 16 if tiny else 32, "groups": 8, "multipliers": (1, 2) if tiny else (1, 2, 4)}
    unet |= {"attention_at": (2,) if tiny else (4,)}
    width, depth = (32, 2) if tiny else (128, 5)
    return Sizes(
        profile=profile,
        tokens=profile.vq,
        latents=profile.kl,
        ddpm=_pixels(ldm, unet),
        ldm=ldm,
        dit=replace(ldm, network={"patch": 1, "width": width, "depth": depth, "heads": 4}),
        vq_diffusion=replace(profile.discrete, truncation=None),
        scales="smoke-2" if tiny else "small-2",
        scales_training=profile.discrete.training,
        **rest,
    )


def _smoke() -> Sizes:
    """Every code path of the CPU profile in seconds."""
    return _small("smoke", repainting=Repainting(number=4, steps=4, length=2, passes=2), reference=64, timed=2)


def _cpu() -> Sizes:
    """Two cores: 64,000 pictures seen by every denoiser, 1,000 samples, 100 pictures filled in, three seeds."""
    sizes = _small(
        "cpu",
        repainting=Repainting(number=100, steps=25, length=5, passes=3),
        reference=2_000,
        timed=40,
        seeds=(0, 1, 2),
    )
    return replace(sizes, profile=replace(sizes.profile, samples=1_000, sampling_batch=100))


def _gpu() -> Sizes:
    """One GPU, under an hour a row: 64 px pictures, 16 x 16 latents and tokens. Declared; not yet run."""
    profile = PROFILES["gpu"]
    ldm, training = profile.continuous, profile.continuous.training
    unet = {"channels": 128, "multipliers": (1, 2, 2, 2), "residual_blocks": 2, "attention_at": (4, 8), "heads": 4}
    return Sizes(
        profile=profile,
        tokens=profile.vq,
        latents=profile.kl,
        ddpm=_pixels(ldm, unet),
        ldm=ldm,
        dit=replace(ldm, network={"patch": 2, "width": 768, "depth": 12, "heads": 12}),
        vq_diffusion=replace(profile.discrete, truncation=None),
        scales="small-2",
        scales_training=replace(training, batch=128),
        repainting=Repainting(number=100, steps=250, length=10, passes=10),
        reference=10_000,
        timed=100,
        seeds=(0, 1, 2),
    )


def _paper() -> Sizes:
    """The published recipes at 256 px: LDM-4 of CelebA-HQ, VQ-Diffusion of FFHQ, ImageBART of FFHQ, RePaint's ADM.

    Deviation: the number of noise levels of LDM is LDM's 1000; ConPreDiff's 2000 is only recalled, and disagrees.
    Deviation: the pixel denoiser learns no variance, which ADM does.
    Unstated: the iterations and the sampler of ConPreDiff's own rows; those of LDM are taken, 200 DDIM steps.
    Unstated: the iterations of DiT on faces, and of VQ-Diffusion's transformer in images; LDM's are taken.
    """
    profile = replace(PROFILES["paper"], samples=50_000, train_size=30_000, held_out_size=5_000)
    training = TrainingSettings(
        samples=48 * 410_000,
        batch=48,
        learning_rate=9.6e-5,
        betas=(0.9, 0.999),
        warmup=0,
        final_fraction=1.0,
        clip=None,
        ema=0.9999,
    )
    body = {"channels": 128, "residual_blocks": 2, "resolution": 256}
    tokens = {**body, "multipliers": (1, 1, 2, 2, 4), "attention_resolutions": (16,), "codes": 1024, "code_width": 256}
    latents = {**body, "multipliers": (1, 2, 4), "codes": 8192, "code_width": 3}
    ldm = replace(
        profile.continuous,
        network={
            "channels": 224,
            "multipliers": (1, 2, 3, 4),
            "residual_blocks": 2,
            "attention_at": (8, 4, 2),
            "head_channels": 32,
        },
        training=training,
        steps=200,
        guidance=1.0,
    )
    adm = {
        "channels": 256,
        "multipliers": (1, 1, 2, 2, 4, 4),
        "residual_blocks": 2,
        "attention_at": (8, 16, 32),
        "head_channels": 64,
        "scale_shift": True,
        "resample_by_blocks": True,
    }
    return Sizes(
        profile=profile,
        tokens=replace(profile.vq, network=tokens),
        latents=replace(profile.vq, network=latents),
        ddpm=replace(ldm, network=adm, clip=1.0, training=replace(training, samples=12 * 250_000, batch=12)),
        ldm=ldm,
        dit=replace(ldm, network={"patch": 4, "width": 1152, "depth": 28, "heads": 16}),
        vq_diffusion=replace(
            profile.discrete,
            network={"width": 512, "depth": 20, "heads": 16, "convolutional_feedforward": True},
            auxiliary_weight=1e-3,
            truncation=None,
        ),
        scales="ffhq-2",
        scales_training=None,
        repainting=Repainting(number=100, steps=250, length=10, passes=10),
        reference=30_000,
        timed=100,
        seeds=(0,),
    )


SIZES = {sizes.name: sizes for sizes in (_smoke(), _cpu(), _gpu(), _paper())}


def sizes_on_this_machine(sizes: Sizes) -> Sizes:
    """The sizes in float32 where processor and GPU have no bf16."""
    if has_bf16():
        return sizes

    def plain(stage: Any) -> Any:
        return replace(stage, training=replace(stage.training, precision="no"))

    names = ("tokens", "latents", "ddpm", "ldm", "dit", "vq_diffusion")
    scales = sizes.scales_training
    return replace(
        sizes,
        **{name: plain(getattr(sizes, name)) for name in names},
        scales_training=scales and replace(scales, precision="no"),
    )
