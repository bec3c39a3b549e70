"""The discrete backbone: VQ-Diffusion on the VQ autoencoder's tokens, with or without the context loss; its samples."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from safetensors.torch import load_file
from torch import Tensor

from discrete_diffusion import Exact, Schedule, by_gumbel_noise, imagebart
from discrete_diffusion import FewerTokens as FewerTokens
from discrete_diffusion import ForwardProcess as ForwardProcess
from discrete_diffusion import ImportanceTimes as ImportanceTimes
from discrete_diffusion import Objective as Objective
from discrete_diffusion import ReleasedStride as ReleasedStride
from discrete_diffusion import TokenTransformer as TokenTransformer
from discrete_diffusion import evenly as evenly
from discrete_diffusion import inpaint as inpaint
from discrete_diffusion import sample as draw_tokens
from discrete_diffusion import token_mask as token_mask
from discrete_diffusion.imagebart import DecoderOnly as DecoderOnly
from discrete_diffusion.imagebart import EncoderDecoder as EncoderDecoder
from discrete_diffusion.imagebart import Filter as Filter
from discrete_diffusion.imagebart import ImageBART as ImageBART
from discrete_diffusion.imagebart import Multinomial as Multinomial
from discrete_diffusion.imagebart import ScaleObjective as ScaleObjective
from discrete_diffusion.imagebart import draw_scale as draw_scale
from discrete_diffusion.imagebart import edit as edit
from discrete_diffusion.imagebart import explicit as explicit
from discrete_diffusion.routes import Route as Route
from reproductions import costs, text_to_image
from reproductions.artefacts import Desk
from reproductions.experiment import Context
from reproductions.gathering.rows import near, taken
from reproductions.settings import Discrete, FirstStage, TokenNoise
from reproductions.stages import texts
from reproductions.stages.codes import CLEAN
from reproductions.stages.context import WithContext

SCALE_PRESETS, ScalePreset = imagebart.PRESETS, imagebart.Preset
draw_scales, scale_bound = imagebart.sample, imagebart.bound
SCHEDULES = {TokenNoise.PAPER: Schedule.paper, TokenNoise.RELEASED: Schedule.released}


@dataclass(frozen=True)
class Training:
    """A denoiser with its training, and the context loss beside it (None: the base model)."""

    denoiser: Discrete
    context: Context | None


@dataclass(frozen=True)
class Sampling:
    """How many samples of a trained denoiser, from which seed, in what batches and precision."""

    denoiser: Discrete
    number: int
    batch: int
    seed: int


def train(desk: Desk) -> None:
    """Train: `denoiser/`, `captions.safetensors`, and with the context loss `context.safetensors`, apart."""
    settings: Training = desk.settings
    clean = load_file(desk.inputs["clean"] / CLEAN)
    codebook, tokens = (near(clean[name], text_to_image.device()) for name in ("codebook", "tokens"))
    grid = (int(clean["grid"][0]), int(clean["grid"][1]))
    torch.manual_seed(settings.denoiser.training.seed)
    module = build(desk, settings, codebook, grid)

    def draw(indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        drawn = taken(tokens, indices)
        return drawn, codebook[drawn].transpose(1, 2).unflatten(2, grid)

    kept = text_to_image.train(desk, settings.denoiser, module, draw, len(tokens))
    if not desk.leads:
        return
    denoiser = kept.objective.get_submodule("denoiser")
    assert isinstance(denoiser, TokenTransformer)
    denoiser.save_pretrained(desk.folder / "denoiser")


def build(desk: Desk, settings: Training, codebook: Tensor, grid: tuple[int, int]) -> text_to_image.TextToImage:
    """The trained whole for a codebook (k, d): the parts of the base model first, so that both rows begin alike.

    The context targets are the frozen code vectors of the clean neighbours.
    """
    encoder = texts.encoder(desk, settings.denoiser.captions)
    denoiser = network(settings.denoiser, len(codebook), grid)
    process = ForwardProcess(schedule(settings.denoiser, len(codebook)))
    objective = Objective(
        denoiser,
        process,
        condition_dropout=settings.denoiser.dropout,
        vlb_weight=settings.denoiser.vlb_weight,
        auxiliary_weight=settings.denoiser.auxiliary_weight,
    )
    context = settings.context and WithContext(
        settings.context,
        features=settings.denoiser.network["width"],
        target=codebook.shape[1],
        signal=1 - process.schedule.mask,
    )
    return text_to_image.TextToImage(encoder, objective, context)


def network(settings: Discrete, codes: int, grid: tuple[int, int]) -> TokenTransformer:
    """A fresh transformer."""
    return TokenTransformer(
        codes=codes, grid=grid, steps=settings.levels, condition_width=settings.captions.width, **settings.network
    )


def sample(desk: Desk) -> None:
    """Tokens (b, n) under the held-out captions: `samples-*.safetensors`."""
    _sample(desk, Exact(by_gumbel_noise))


def sample_by_purity(desk: Desk) -> None:
    """The same by the purity prior, in as many steps, and at most as many as there are tokens.

    Source: Improved VQ-Diffusion purity prior
    """
    _sample(desk, FewerTokens())


def _sample(desk: Desk, route: Route) -> None:
    settings: Sampling = desk.settings
    clean = load_file(desk.inputs["clean"] / CLEAN)
    length = clean["tokens"].shape[1]
    steps = min(settings.denoiser.steps, length) if isinstance(route, FewerTokens) else settings.denoiser.steps
    denoiser = TokenTransformer.from_pretrained(desk.inputs["model"] / "denoiser").to(text_to_image.device()).eval()
    process = ForwardProcess(schedule(settings.denoiser, len(clean["codebook"]))).to(text_to_image.device())

    def draw(states: Tensor, generators: list[torch.Generator]) -> Tensor:
        return draw_tokens(
            denoiser,
            (len(states), length),
            states,
            process=process,
            steps=steps,
            guidance=settings.denoiser.guidance,
            truncation=settings.denoiser.truncation,
            route=route,
            generator=generators,
        )

    text_to_image.sample(desk, settings, draw)


def schedule(settings: Discrete, codes: int) -> Schedule:
    """The schedule that the settings name."""
    return SCHEDULES[settings.noise](settings.levels, codes)


def size(settings: Training, first: FirstStage) -> Mapping[str, int]:
    """Size of a denoiser and its training, for the plan."""
    with torch.device("meta"):
        built = network(settings.denoiser, first.network["codes"], (first.side, first.side))
        count = sum(p.numel() for p in built.parameters())
    return {"parameters": count, "steps": settings.denoiser.training.steps}


def cost(settings: Training, first: FirstStage) -> costs.Size:
    """What training costs."""
    denoiser, side = settings.denoiser, first.side
    return costs.training(
        partial(network, denoiser, first.network["codes"], (side, side)),
        partial(given, denoiser, side),
        denoiser.training,
    )


def sampling_cost(settings: Sampling, first: FirstStage) -> costs.Size:
    """What drawing costs."""
    denoiser, side = settings.denoiser, first.side
    return costs.sampling(
        partial(network, denoiser, first.network["codes"], (side, side)),
        partial(given, denoiser, side),
        samples=settings.number,
        calls=denoiser.steps * (1 if denoiser.guidance == 1 else 2),
        numbers=side**2,
    )


def given(settings: Discrete, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """One example in shape alone: tokens, their time, and a caption's states."""
    states = torch.zeros(1, settings.captions.length, settings.captions.width)
    return torch.zeros(1, side**2, dtype=torch.int64), torch.ones(1, dtype=torch.int64), states
