"""Denoisers of latents or pixels: training under any condition, and sampling in any number of steps."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from reproductions import costs
from reproductions.artefacts import Desk
from reproductions.conditioning import Conditioning, Kind
from reproductions.recipes.tasks import Inpainting, SuperResolution, Task
from reproductions.settings import Continuous
from reproductions.settings import Solver as Solver
from reproductions.stages import beside, conditions, denoising
from reproductions.stages.coding import Decoder, Latents, Pixels
from reproductions.stages.continuous import (
    DISTANCES,
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
    evenly,
    heun,
    leaves_noise,
    plms,
    schedule,
)
from reproductions.text_to_image import device

Network = UNet | DiT


@dataclass(frozen=True)
class Training:
    """A denoiser with its training and what it is told; flip: whether pixels are mirrored by chance.

    task: what it is trained for, if not to draw.
    """

    denoiser: Continuous
    told: Conditioning
    flip: bool = False
    task: Task | None = None

    @property
    def augmented(self) -> bool:
        """Whether the network reads to which step the small picture beside its state was noised."""
        return isinstance(self.task, SuperResolution) and self.task.augmentation > 0


@dataclass(frozen=True)
class Walk:
    """How to go from noise to pictures, and in how many steps; clip: bound of the clean estimate; eta: DDIM's noise."""

    steps: int
    guidance: float = 1.0
    clip: float | None = None
    solver: Solver = Solver.DDIM
    eta: float = 0.0

    @classmethod
    def of(cls, recipe: Continuous, guidance: float) -> "Walk":
        """That of a recipe."""
        return cls(recipe.steps, guidance, recipe.clip, recipe.solver, recipe.eta)

    @property
    def name(self) -> str:
        """What tells it from other walks."""
        noise = f" eta {self.eta:g}" if self.eta and self.solver is Solver.DDIM else ""
        return f"{self.solver} {self.steps} guidance {self.guidance:g}{noise}"

    def calls(self, recipe: Continuous) -> int:
        """How many times the network of a recipe is asked for one sample.

        Heun asks twice but for the end, PLMS twice at first; neither does where it leaves noise.
        """
        more = {Solver.PLMS: min(1, self.steps - 1), Solver.HEUN: self.steps - 1}.get(self.solver, 0)
        if more:
            *_, then, now = (0, *evenly(recipe.levels, self.steps))
            more -= leaves_noise(schedule(recipe), now, then)
        return (self.steps + more) * (1 if self.guidance == 1 else 2)

    def check(self, levels: int) -> None:
        """Raise ValueError where there is no such walk through so many noise levels."""
        if not 1 <= self.steps <= levels:
            raise ValueError(f"--steps: {self.steps} are not in 1..{levels}, the noise levels of the recipe")

    def options(self) -> dict[str, Any]:
        """The sampler's arguments."""
        clip = None if self.solver in (Solver.PLMS, Solver.HEUN) else self.clip
        eta = self.eta if self.solver is Solver.DDIM else 0.0
        return {"solver": SOLVERS[self.solver], "clip": clip, "eta": eta}


SOLVERS = {Solver.DDIM: ddim, Solver.DDPM: ancestral, Solver.PLMS: plms, Solver.HEUN: heun, Solver.DPM: dpm_solver}


class Labelled(nn.Module):
    """Labels as a condition."""

    def forward(self, labels: Tensor) -> Condition:
        """The condition of labels (b,)."""
        return Condition(classes=labels)


def train(desk: Desk, build: denoising.Build = denoising.Conditional) -> None:
    """Train: `denoiser/`, and for captions `captions.safetensors`; build: of reader and objective, what is trained."""
    settings: Training = desk.settings
    module, examples = prepare(desk, build)
    recipe, shape = settings.denoiser, examples.clean.shape
    walk = Walk.of(recipe, settings.told.guidance(recipe.guidance))
    kept = denoising.train(desk, module, examples, recipe.training, drawer(walk, settings, shape))
    if desk.leads:
        denoiser = kept.denoiser
        assert isinstance(denoiser, Network)
        denoiser.save_pretrained(desk.folder / "denoiser")
        kept.save(desk)


def prepare(
    desk: Desk, build: denoising.Build = denoising.Conditional
) -> tuple[denoising.Conditional, denoising.Told | beside.Beside]:
    """What is trained, at its first weights, and the examples that it learns from."""
    settings: Training = desk.settings
    clean = _clean(desk, settings, device())
    torch.manual_seed(settings.denoiser.training.seed)
    objective = Objective(
        network(settings, clean.shape),
        ForwardProcess(schedule(settings.denoiser)),
        target=TARGETS[settings.denoiser.target],
        distance=DISTANCES[settings.denoiser.distance],
        bound=settings.denoiser.bound,
        condition_dropout=settings.denoiser.dropout,
    )
    module = build(_reader(conditions.reader(desk, settings.told), settings.told), objective)
    return module, _examples(desk, settings, clean)


def _examples(desk: Desk, settings: Training, clean: Latents | Pixels) -> denoising.Told | beside.Beside:
    if settings.task is None:
        return denoising.Told(desk, settings.told, clean)
    if isinstance(settings.task, Inpainting):
        make = beside.holes(desk, Decoder(desk.inputs))
    else:
        process = ForwardProcess(schedule(settings.denoiser)).to(device())
        make = beside.small(settings.task, process, clean.shape[1:])
    return beside.Beside(desk, settings.told, clean, make)


def _clean(desk: Desk, settings: Training, where: torch.device) -> Latents | Pixels:
    if "clean" in desk.inputs:
        return Latents(desk.inputs["clean"], where)
    return Pixels(desk.inputs["data"], where, flip=settings.flip)


def _reader(module: nn.Module, told: Conditioning) -> nn.Module:
    return Labelled() if told.kind is Kind.CLASS and told.class_width is None else module


def network(settings: Training, shape: Sequence[int]) -> Network:
    """A fresh U-Net for examples (c, h, w), or a DiT where the recipe has the arguments of one."""
    channels, *grid = shape
    own = settings.denoiser.network
    read = channels + beside.channels(settings.task, channels)
    if kind_of(settings) is DiT:
        told = conditions.arguments(settings.told)
        return DiT(in_channels=read, out_channels=channels, grid=grid, **told, **own)
    return UNet(
        in_channels=read,
        out_channels=channels,
        augmented=settings.augmented,
        grid=grid if own.get("attention_positions") else None,
        **conditions.arguments(settings.told),
        **own,
    )


def kind_of(settings: Training) -> type[Network]:
    """The class of the network: that of transformers over patches has a depth."""
    return DiT if "depth" in settings.denoiser.network else UNet


def drawer(walk: Walk, settings: Training, shape: Sequence[int]) -> denoising.Draw:
    """What draws examples (b, c, h, w) along a walk."""

    def draw(module: denoising.Conditional, given: Any, generators: Sequence[torch.Generator]) -> Tensor:
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


def cost(settings: Training, shape: Sequence[int]) -> costs.Size:
    """What training costs."""
    return costs.training(lambda: network(settings, shape), partial(given, settings, shape), settings.denoiser.training)


def sampling_cost(settings: denoising.Sampling, shape: Sequence[int]) -> costs.Size:
    """What drawing costs."""
    return drawing_cost(settings.training, shape, settings.number, settings.walk.calls(settings.training.denoiser))


def drawing_cost(training: Training, shape: Sequence[int], number: int, calls: int) -> costs.Size:
    """What drawing so many examples costs, in so many calls each."""
    return costs.sampling(
        lambda: network(training, shape),
        partial(given, training, shape),
        samples=number,
        calls=calls,
        numbers=math.prod(shape),
    )


def given(settings: Training, shape: Sequence[int]) -> tuple[Any, ...]:
    """One example in shape alone: a state, its time, and what is told."""
    channels, *grid = shape
    one = torch.ones(1, dtype=torch.int64)
    told = conditions.example(settings.told)
    labelled = settings.told.kind is Kind.CLASS and settings.told.class_width is None
    beside_it = beside.channels(settings.task, channels)
    condition = Condition(
        context=None if labelled else told,
        classes=told if labelled else None,
        concat=torch.zeros(1, beside_it, *grid) if beside_it else None,
        level=one if settings.augmented else None,
    )
    return torch.zeros(1, *shape), one, condition
