"""Denoisers of latents or pixels: training under any condition, and sampling in any number of steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from reproductions.artefacts import Desk
from reproductions.conditioning import Conditioning, Kind
from reproductions.profiles import Continuous
from reproductions.stages import conditions, denoising
from reproductions.stages.coding import Clean, Latents, Pixels
from reproductions.stages.continuous import (
    TARGETS,
    Condition,
    DiT,
    ForwardProcess,
    Objective,
    UNet,
    ancestral,
    ddim,
    dpm_solver,
    draw_latents,
    heun,
    plms,
    schedule,
)
from reproductions.text_to_image import device

Network = UNet | DiT


@dataclass(frozen=True)
class Training:
    """A denoiser with its training and what it is told; flip: whether pixels are mirrored by chance."""

    denoiser: Continuous
    told: Conditioning
    flip: bool = False


class Solver(StrEnum):
    """Ways to take a step."""

    DDIM = "DDIM"
    DDPM = "DDPM"
    PLMS = "PLMS"
    HEUN = "Heun"
    DPM = "DPM-Solver++"


@dataclass(frozen=True)
class Walk:
    """How to go from noise to pictures, and in how many steps; clip: bound of the clean estimate."""

    steps: int
    guidance: float = 1.0
    clip: float | None = None
    solver: Solver = Solver.DDIM

    @property
    def name(self) -> str:
        """What tells it from other walks."""
        return f"{self.solver} {self.steps} guidance {self.guidance:g}"

    @property
    def calls(self) -> int:
        """How many times the network is asked for one sample; PLMS once more at first, Heun twice but for the end."""
        more = {Solver.PLMS: min(1, self.steps - 1), Solver.HEUN: self.steps - 1}
        return (self.steps + more.get(self.solver, 0)) * (1 if self.guidance == 1 else 2)

    def check(self, levels: int) -> None:
        """Raise ValueError where there is no such walk through so many noise levels."""
        if not 1 <= self.steps <= levels:
            raise ValueError(f"--steps: {self.steps} are not in 1..{levels}, the noise levels of the recipe")

    def options(self) -> dict[str, Any]:
        """The sampler's arguments."""
        clip = None if self.solver in (Solver.PLMS, Solver.HEUN) else self.clip
        return {"solver": SOLVERS[self.solver], "clip": clip}


SOLVERS = {Solver.DDIM: ddim, Solver.DDPM: ancestral, Solver.PLMS: plms, Solver.HEUN: heun, Solver.DPM: dpm_solver}


class Labelled(nn.Module):
    """Labels as a condition."""

    def forward(self, labels: Tensor) -> Condition:
        """The condition of labels (b,)."""
        return Condition(classes=labels)


def train(desk: Desk, build: denoising.Build = denoising.Conditional) -> None:
    """Train: `denoiser/`, and for captions `captions.safetensors`; build: of reader and objective, what is trained."""
    settings: Training = desk.settings
    clean = _clean(desk, settings, device())
    torch.manual_seed(settings.denoiser.training.seed)
    objective = Objective(
        network(settings, clean.shape),
        ForwardProcess(schedule(settings.denoiser)),
        target=TARGETS[settings.denoiser.target],
        condition_dropout=settings.denoiser.dropout,
    )
    module = build(_reader(conditions.reader(desk, settings.told), settings.told), objective)
    recipe = settings.denoiser
    walk = Walk(recipe.steps, settings.told.guidance(recipe.guidance), recipe.clip)
    examples = denoising.Told(desk, settings.told, clean)
    kept = denoising.train(desk, module, examples, recipe.training, drawer(walk, settings, clean.shape))
    if desk.leads:
        denoiser = kept.denoiser
        assert isinstance(denoiser, Network)
        denoiser.save_pretrained(desk.folder / "denoiser")
        kept.save(desk)


def _clean(desk: Desk, settings: Training, where: torch.device) -> Clean:
    if "clean" in desk.inputs:
        return Latents(desk.inputs["clean"], where)
    return Pixels(desk.inputs["data"], where, flip=settings.flip)


def _reader(module: nn.Module, told: Conditioning) -> nn.Module:
    return Labelled() if told.kind is Kind.CLASS else module


def network(settings: Training, shape: Sequence[int]) -> Network:
    """A fresh U-Net for examples (c, h, w), or a DiT where the recipe has the arguments of one."""
    channels, *grid = shape
    own = settings.denoiser.network
    if kind_of(settings) is DiT:
        told = conditions.arguments(settings.told)
        return DiT(in_channels=channels, out_channels=channels, grid=grid, **told, **own)
    return UNet(
        in_channels=channels,
        out_channels=channels,
        grid=grid if own.get("attention_positions") else None,
        **conditions.arguments(settings.told),
        **own,
    )


def kind_of(settings: Training) -> type[Network]:
    """The class of the network: that of transformers over patches has a depth."""
    return DiT if "depth" in settings.denoiser.network else UNet


def drawer(walk: Walk, settings: Training, shape: Sequence[int]) -> denoising.Draw:
    """What draws examples (b, c, h, w) along a walk."""

    def draw(module: denoising.Conditional, given: Tensor | None, generators: Sequence[torch.Generator]) -> Tensor:
        process = module.objective.get_submodule("process")
        assert isinstance(process, ForwardProcess)
        drawn: Tensor = draw_latents(
            module.denoiser,
            (len(generators), *shape),
            module.condition(given),
            process=process,
            target=TARGETS[settings.denoiser.target],
            steps=walk.steps,
            guidance=walk.guidance,
            **walk.options(),
            generator=generators,
        )
        return drawn

    return draw


def trained(desk: Desk, training: Training) -> tuple[denoising.Conditional, tuple[int, ...]]:
    """The denoiser of input "model" with its process and its reader, and the shape of what it draws."""
    denoiser = kind_of(training).from_pretrained(desk.inputs["model"] / "denoiser")
    frozen = denoising.Frozen(denoiser, ForwardProcess(schedule(training.denoiser)))
    reader = _reader(conditions.trained_reader(desk, training.told), training.told)
    module = denoising.Conditional(reader, frozen).to(device()).eval()
    return module, _clean(desk, training, torch.device("cpu")).shape


def sample(desk: Desk) -> None:
    """Latents or pixels (b, c, h, w) for the prompts: `samples-*.safetensors`."""
    settings: denoising.Sampling = desk.settings
    training = settings.training
    module, shape = trained(desk, training)
    denoising.sample(desk, module, training.denoiser.training.precision, drawer(settings.walk, training, shape))


def size(settings: Training, shape: Sequence[int]) -> Mapping[str, int]:
    """Size of a denoiser and its training, for the plan."""
    return denoising.size(lambda: network(settings, shape), settings.denoiser.training)
