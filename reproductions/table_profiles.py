"""How much of everything, for the tables and figures of models trained on pictures alone: the same four sizes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from reproductions.loop.steps import TrainingSettings
from reproductions.profiles import PROFILES, Profile, has_bf16
from reproductions.recipes.denoiser_recipes import LATENTS, TOKENS
from reproductions.settings import Continuous, Discrete, FirstStage, GaussianNoise, Target


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
    reference: training pictures that samples are compared with; timed: training steps that are timed for Figure 4;
    repeated: whether a run that is told no seeds takes as many as the table is made for, or one.
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
    repeated: bool = False

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
    unet = {**ldm.network, "channels": 16 if tiny else 32, "groups": 8, "multipliers": (1, 2) if tiny else (1, 2, 2)}
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
    """Two cores, under 45 minutes: 64,000 pictures seen by every denoiser, 32,000 by that of pixels; 1,000 samples."""
    sizes = _small(
        "cpu",
        repainting=Repainting(number=100, steps=25, length=5, passes=3),
        reference=2_000,
        timed=40,
        repeated=True,
    )
    ddpm = replace(sizes.ddpm, training=replace(sizes.ddpm.training, samples=32_000))
    return replace(sizes, profile=replace(sizes.profile, samples=1_000, sampling_batch=100), ddpm=ddpm)


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
        repeated=True,
    )


def _paper() -> Sizes:
    """The published recipes at 256 px, of faces where the data is none of the paper's; see `sizes_on`.

    Deviation: the number of noise levels of LDM is LDM's 1000; ConPreDiff's 2000 is only recalled, and disagrees.
    Unstated: the iterations and the sampler of ConPreDiff's own rows; those of LDM are taken, 200 DDIM steps.
    Unstated: training of DiT on faces; LDM's is taken.
    """
    profile = replace(PROFILES["paper"], samples=50_000, train_size=60_000, held_out_size=5_000)
    body = {"channels": 128, "residual_blocks": 2, "resolution": 256}
    tokens = {**body, "multipliers": (1, 1, 2, 2, 4), "attention_resolutions": (16,), "codes": 1024, "code_width": 256}
    latents = {**body, "multipliers": (1, 2, 4), "codes": 8192, "code_width": 3}
    ldm = LATENTS["ldm-celebahq"]
    return Sizes(
        profile=profile,
        tokens=replace(profile.vq, network=tokens),
        latents=replace(profile.vq, network=latents),
        ddpm=LATENTS["ddpm-celebahq"],
        ldm=ldm,
        dit=replace(ldm, network={"patch": 4, "width": 1152, "depth": 28, "heads": 16}),
        vq_diffusion=TOKENS["vq-diffusion-ffhq"],
        scales="ffhq-2",
        scales_training=None,
        repainting=Repainting(number=100, steps=250, length=10, passes=10),
        reference=60_000,
        timed=100,
    )


PAPER_NAMES = ("FFHQ", "CelebA-HQ", "LSUN-Bedrooms", "LSUN-Churches")


def paper_name(title: str) -> str | None:
    """The paper's name of a data set, if it is one of the paper's: the one whose letters the title has."""

    def letters(text: str) -> str:
        return re.sub(r"[^a-z]", "", text.lower())

    return next((name for name in PAPER_NAMES if letters(name) in letters(title)), None)


def sizes_on(sizes: Sizes, title: str) -> Sizes:
    """The sizes for a data set: at `paper`, those of the paper's own have recipes of their own.

    Source: LDM U-Net
    Source: ImageBART scales and training
    """
    name = paper_name(title) if sizes.name == "paper" else None
    if name == "FFHQ":
        return replace(sizes, ldm=LATENTS["ldm-ffhq"])
    if name == "LSUN-Bedrooms":
        return replace(sizes, ldm=LATENTS["ldm-bedrooms"], scales="bedrooms-3")
    if name == "LSUN-Churches":
        return replace(sizes, latents=sizes.profile.kl, ldm=LATENTS["ldm-churches"], scales="churches-3")
    return sizes


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
