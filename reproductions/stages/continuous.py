"""The continuous backbone: LDM on the KL autoencoder's latents, with or without the context loss; its samples."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from safetensors.torch import load_file
from torch import Tensor

from continuous_diffusion import ClassStates as ClassStates
from continuous_diffusion import Condition as Condition
from continuous_diffusion import DiT as DiT
from continuous_diffusion import Epsilon, Schedule, Velocity, absolute, squared
from continuous_diffusion import ForwardProcess as ForwardProcess
from continuous_diffusion import Jump as Jump
from continuous_diffusion import Objective as Objective
from continuous_diffusion import Resampling as Resampling
from continuous_diffusion import TokenEncoder as TokenEncoder
from continuous_diffusion import UNet as UNet
from continuous_diffusion import ancestral as ancestral
from continuous_diffusion import beside_hole as beside_hole
from continuous_diffusion import beside_small as beside_small
from continuous_diffusion import ddim as ddim
from continuous_diffusion import dpm_solver as dpm_solver
from continuous_diffusion import evenly as evenly
from continuous_diffusion import heun as heun
from continuous_diffusion import inpaint as inpaint
from continuous_diffusion import latent_mask as latent_mask
from continuous_diffusion import leaves_noise as leaves_noise
from continuous_diffusion import plms as plms
from continuous_diffusion import sample as draw_latents
from reproductions import costs, text_to_image
from reproductions.artefacts import Desk
from reproductions.experiment import Context
from reproductions.gathering.rows import near, taken
from reproductions.settings import Continuous, Distance, FirstStage, GaussianNoise, Target
from reproductions.stages import texts
from reproductions.stages.codes import CLEAN
from reproductions.stages.context import WithContext

SCHEDULES = {
    GaussianNoise.LDM: Schedule.sqrt_linear,
    GaussianNoise.COSINE: Schedule.cosine,
    GaussianNoise.LINEAR: Schedule.linear,
}
DISTANCES = {Distance.SQUARED: squared, Distance.ABSOLUTE: absolute}
TARGETS = {Target.NOISE: Epsilon(), Target.VELOCITY: Velocity()}


@dataclass(frozen=True)
class Training:
    """A denoiser with its training, and the context loss beside it (None: the base model)."""

    denoiser: Continuous
    context: Context | None


@dataclass(frozen=True)
class Sampling:
    """How many samples of a trained denoiser, from which seed, in what batches and precision."""

    denoiser: Continuous
    number: int
    batch: int
    seed: int


def train(desk: Desk) -> None:
    """Train: `denoiser/`, `captions.safetensors`, and with the context loss `context.safetensors`, apart."""
    settings: Training = desk.settings
    clean = load_file(desk.inputs["clean"] / CLEAN)
    means, deviations = (near(clean[name], text_to_image.device()) for name in ("mean", "deviation"))
    torch.manual_seed(settings.denoiser.training.seed)
    module = build(desk, settings, tuple(means.shape[1:]))

    def latents(indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        mean, deviation = taken(means, indices), taken(deviations, indices)
        z = mean + deviation * torch.randn(mean.shape, generator=generator, device=generator.device)
        return z, z

    kept = text_to_image.train(desk, settings.denoiser, module, latents, len(means))
    if not desk.leads:
        return
    denoiser = kept.objective.get_submodule("denoiser")
    assert isinstance(denoiser, UNet)
    denoiser.save_pretrained(desk.folder / "denoiser")


def build(desk: Desk, settings: Training, latent: tuple[int, ...]) -> text_to_image.TextToImage:
    """The trained whole for latents (c, h, w): the parts of the base model first, so that both rows begin alike."""
    encoder = texts.encoder(desk, settings.denoiser.captions)
    denoiser = network(settings.denoiser, latent)
    process, target = ForwardProcess(schedule(settings.denoiser)), TARGETS[settings.denoiser.target]
    objective = Objective(denoiser, process, target=target, condition_dropout=settings.denoiser.dropout)
    context = settings.context and WithContext(
        settings.context,
        features=settings.denoiser.network["channels"],
        target=latent[0],
        signal=process.schedule.signal,
    )
    return text_to_image.TextToImage(encoder, objective, context)


def network(settings: Continuous, latent: tuple[int, ...]) -> UNet:
    """A fresh U-Net for latents (c, h, w)."""
    channels, *grid = latent
    return UNet(
        in_channels=channels,
        out_channels=channels,
        condition_width=settings.captions.width,
        grid=grid if settings.network.get("attention_positions") else None,
        **settings.network,
    )


def sample(desk: Desk) -> None:
    """Latents under the held-out captions: `samples-*.safetensors`."""
    settings: Sampling = desk.settings
    denoiser = UNet.from_pretrained(desk.inputs["model"] / "denoiser").to(text_to_image.device()).eval()
    process = ForwardProcess(schedule(settings.denoiser)).to(text_to_image.device())
    shape = load_file(desk.inputs["clean"] / CLEAN)["mean"].shape[1:]

    def draw(states: Tensor, generators: list[torch.Generator]) -> Tensor:
        return draw_latents(
            denoiser,
            (len(states), *shape),
            states,
            process=process,
            target=TARGETS[settings.denoiser.target],
            steps=settings.denoiser.steps,
            guidance=settings.denoiser.guidance,
            clip=settings.denoiser.clip,
            generator=generators,
        )

    text_to_image.sample(desk, settings, draw)


def schedule(settings: Continuous) -> Schedule:
    """The schedule that the settings name."""
    return SCHEDULES[settings.noise](settings.levels, *(settings.betas or ()))


def size(settings: Training, first: FirstStage) -> Mapping[str, int]:
    """Size of a denoiser and its training, for the plan."""
    latent = latent_of(first)
    with torch.device("meta"):
        count = sum(p.numel() for p in network(settings.denoiser, latent).parameters())
    return {"parameters": count, "steps": settings.denoiser.training.steps}


def cost(settings: Training, first: FirstStage) -> costs.Size:
    """What training costs."""
    denoiser, latent = settings.denoiser, latent_of(first)
    return costs.training(lambda: network(denoiser, latent), partial(given, denoiser, latent), denoiser.training)


def sampling_cost(settings: Sampling, first: FirstStage) -> costs.Size:
    """What drawing costs."""
    denoiser, latent = settings.denoiser, latent_of(first)
    return costs.sampling(
        lambda: network(denoiser, latent),
        partial(given, denoiser, latent),
        samples=settings.number,
        calls=denoiser.steps * (1 if denoiser.guidance == 1 else 2),
        numbers=math.prod(latent),
    )


def latent_of(first: FirstStage) -> tuple[int, int, int]:
    """The shape of a latent."""
    return first.network["latent_channels"], first.side, first.side


def given(settings: Continuous, latent: tuple[int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """One example in shape alone: a latent, its time, and a caption's states."""
    states = torch.zeros(1, settings.captions.length, settings.captions.width)
    return torch.zeros(1, *latent), torch.ones(1, dtype=torch.int64), states
