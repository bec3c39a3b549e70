"""Denoisers of tokens: training under any condition, and sampling in any number of steps."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

import torch
from torch import Tensor

from reproductions import costs
from reproductions.artefacts import Desk
from reproductions.conditioning import Conditioning
from reproductions.settings import Discrete
from reproductions.stages import conditions, denoising
from reproductions.stages.coding import Tokens
from reproductions.stages.discrete import (
    FewerTokens,
    ForwardProcess,
    ImportanceTimes,
    Objective,
    ReleasedStride,
    TokenTransformer,
    draw_tokens,
    evenly,
    schedule,
)
from reproductions.text_to_image import device


@dataclass(frozen=True)
class Training:
    """A denoiser with its training and what it is told; importance: whether times are drawn by the loss found there."""

    denoiser: Discrete
    told: Conditioning
    importance: bool = True


class Way(StrEnum):
    """Ways from noise to tokens."""

    EXACT = "exact stride"
    RELEASED = "released stride"
    FEWER = "fewer tokens"
    PURITY = "purity prior"


@dataclass(frozen=True)
class Walk:
    """How to go from noise to tokens, and in how many steps."""

    steps: int
    guidance: float = 1.0
    truncation: float | None = None
    way: Way = Way.EXACT

    @property
    def name(self) -> str:
        """What tells it from other walks."""
        truncated = "" if self.truncation is None else f" truncation {self.truncation:g}"
        return f"{self.way} {self.steps} guidance {self.guidance:g}{truncated}"

    def calls(self, _: Discrete) -> int:
        """How many times the network is asked for one sample; the released stride ends with one call more, at t = 1."""
        return (self.steps + (self.way is Way.RELEASED)) * (1 if self.guidance == 1 else 2)

    def check(self, levels: int, tokens: int) -> None:
        """Raise ValueError where there is no such walk from so many noise levels to so many tokens."""
        most = tokens if self.way in (Way.FEWER, Way.PURITY) else levels
        if not 1 <= self.steps <= most:
            counted = "tokens" if most == tokens else "noise levels"
            raise ValueError(f"--steps: {self.steps} are not in 1..{most}, the {counted} of the recipe")
        if self.way is Way.RELEASED and levels % self.steps:
            raise ValueError(f"--steps: the released stride takes equal strides, and {self.steps} is none of {levels}")

    def route(self, levels: int) -> dict[str, Any]:
        """The sampler's arguments."""
        if self.way is Way.RELEASED:
            return {"route": ReleasedStride(levels // self.steps - 1)}
        routes = {Way.FEWER: FewerTokens(evenly, sharpness=0.0), Way.PURITY: FewerTokens()}
        return {"steps": self.steps, "route": routes.get(self.way)}


def train(desk: Desk, build: denoising.Build = denoising.Conditional) -> None:
    """Train: `denoiser/`, and for captions `captions.safetensors`; build: of reader and objective, what is trained."""
    settings: Training = desk.settings
    module, examples = prepare(desk, build)
    recipe = settings.denoiser
    walk = Walk(recipe.steps, settings.told.guidance(recipe.guidance), recipe.truncation)
    length = examples.clean.shape[0]
    kept = denoising.train(desk, module, examples, recipe.training, drawer(walk, length))
    if desk.leads:
        denoiser = kept.denoiser
        assert isinstance(denoiser, TokenTransformer)
        denoiser.save_pretrained(desk.folder / "denoiser")
        kept.save(desk)


def prepare(desk: Desk, build: denoising.Build = denoising.Conditional) -> tuple[denoising.Conditional, denoising.Told]:
    """What is trained, at its first weights, and the examples that it learns from."""
    settings: Training = desk.settings
    clean = Tokens(desk.inputs["clean"], device())
    torch.manual_seed(settings.denoiser.training.seed)
    process = ForwardProcess(schedule(settings.denoiser, clean.codes))
    times = ImportanceTimes(process.T) if settings.importance else None
    objective = Objective(
        network(settings, clean.codes, clean.grid),
        process,
        condition_dropout=settings.denoiser.dropout,
        vlb_weight=settings.denoiser.vlb_weight,
        auxiliary_weight=settings.denoiser.auxiliary_weight,
        times=times,
    )
    module = build(conditions.reader(desk, settings.told), objective)
    return module, denoising.Told(desk, settings.told, clean)


def network(settings: Training, codes: int, grid: Sequence[int]) -> TokenTransformer:
    """A fresh transformer."""
    told = conditions.arguments(settings.told)
    return TokenTransformer(codes=codes, grid=grid, steps=settings.denoiser.levels, **told, **settings.denoiser.network)


def drawer(walk: Walk, length: int) -> denoising.Draw:
    """What draws tokens (b, n) along a walk."""

    def draw(module: denoising.Conditional, given: Tensor | None, generators: Sequence[torch.Generator]) -> Tensor:
        process = module.objective.get_submodule("process")
        assert isinstance(process, ForwardProcess)
        tokens: Tensor = draw_tokens(
            module.denoiser,
            (len(generators), length),
            module.condition(given),
            process=process,
            guidance=walk.guidance,
            truncation=walk.truncation,
            **walk.route(process.T),
            generator=generators,
        )
        return tokens

    return draw


def trained(desk: Desk, training: Training) -> tuple[denoising.Conditional, Tokens]:
    """The denoiser of input "model" with its process and its reader, and the tokens that it learned from."""
    clean = Tokens(desk.inputs["clean"], torch.device("cpu"))
    denoiser = TokenTransformer.from_pretrained(desk.inputs["model"] / "denoiser")
    frozen = denoising.Frozen(denoiser, ForwardProcess(schedule(training.denoiser, clean.codes)))
    module = denoising.Conditional(conditions.trained_reader(desk, training.told), frozen)
    return module.to(device()).eval(), clean


def sample(desk: Desk) -> None:
    """Tokens (b, n) for the prompts: `samples-*.safetensors`."""
    settings: denoising.Sampling = desk.settings
    training = settings.training
    module, clean = trained(desk, training)
    denoising.sample(desk, module, training.denoiser.training.precision, drawer(settings.walk, clean.shape[0]))


def size(settings: Training, codes: int, grid: tuple[int, int]) -> Mapping[str, int]:
    """Size of a denoiser and its training, for the plan."""
    return denoising.size(lambda: network(settings, codes, grid), settings.denoiser.training)


def cost(settings: Training, codes: int, grid: tuple[int, int]) -> costs.Size:
    """What training costs."""
    return costs.training(
        lambda: network(settings, codes, grid), partial(given, settings, grid), settings.denoiser.training
    )


def sampling_cost(settings: denoising.Sampling, codes: int, grid: tuple[int, int]) -> costs.Size:
    """What drawing costs."""
    return drawing_cost(
        settings.training, codes, grid, settings.number, settings.walk.calls(settings.training.denoiser)
    )


def drawing_cost(training: Training, codes: int, grid: tuple[int, int], number: int, calls: int) -> costs.Size:
    """What drawing so many examples costs, in so many calls each."""
    return costs.sampling(
        lambda: network(training, codes, grid),
        partial(given, training, grid),
        samples=number,
        calls=calls,
        numbers=math.prod(grid),
    )


def given(settings: Training, grid: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor | None]:
    """One example in shape alone: tokens, their time, and what is told."""
    tokens = torch.zeros(1, math.prod(grid), dtype=torch.int64)
    return tokens, torch.ones(1, dtype=torch.int64), conditions.example(settings.told)
