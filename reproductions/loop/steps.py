"""Steps of training: of one loss, or of an autoencoder against its adversary; and how long and how fast."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from reproductions.loop.averages import Average, hollow, made_of
from reproductions.loop.plateau import Plateau, PlateauRate
from reproductions.loop.sharding import shard, shard_moments, whole
from reproductions.loop.shares import Batch, Given

NORM = "gradient norm"


@dataclass(frozen=True)
class TrainingSettings:
    """How long and how fast; everything is counted in samples, not steps.

    samples: seen in all; batch: global batch; warmup: samples of linear warm-up from `warmup_from`, then a cosine down
    to `final_fraction` of `learning_rate`; plateau: when the rate falls besides (None: never); clip: largest gradient
    norm; ema: decay of the averaged weights, ramped as `min(ema, (1 + i) / (10 + i))` with i the number of updates
    (None: no average); ema_interval: steps between two updates of these; precision: "no" or "bf16" autocast.
    """

    samples: int
    batch: int
    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.96)
    weight_decay: float = 0.01
    warmup: int = 1600
    final_fraction: float = 0.03
    clip: float | None = 1.0
    ema: float | None = None
    precision: str = "no"
    seed: int = 0
    log_every: int = 20
    warmup_from: float = 0.0
    plateau: Plateau | None = None
    ema_interval: int = 1

    @property
    def steps(self) -> int:
        """Optimiser steps."""
        return max(1, self.samples // self.batch)

    def rate(self, step: int) -> float:
        """Learning rate of step 0, 1, ...: linear warm-up, then cosine."""
        warmup = max(1, self.warmup // self.batch)
        if step < warmup:
            return self.warmup_from + (self.learning_rate - self.warmup_from) * (step + 1) / warmup
        done = (step - warmup) / max(1, self.steps - warmup)
        floor = self.final_fraction
        return self.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


class Step(Protocol):
    """One kind of optimiser step."""

    @property
    def savable(self) -> Sequence[Any]:
        """What must survive an interruption besides the prepared modules and optimisers."""

    def __call__(
        self, batch: Batch, index: int, generator: torch.Generator, more: Iterable[Given] = ()
    ) -> Mapping[str, Tensor]:
        """Take step `index`; return named scalars, "loss" among them; more: the other parts of the batch, if any."""


StepType = TypeVar("StepType", bound=Step)


class GradientStep:
    """One loss, one optimiser, optionally an average of the weights.

    module: `module(*batch, step=..., generator=...)` returns named scalars with "loss" among them; parted: whether
    ranks part it between them, with its gradients, moments and average (FSDP).
    """

    def __init__(
        self, module: nn.Module, settings: TrainingSettings, accelerator: Accelerator, *, parted: bool = False
    ) -> None:
        self.settings, self.accelerator, self.parted = settings, accelerator, parted
        if parted:
            self.kind = hollow(module)
            shard(module, accelerator.device)
            self.module = accelerator.prepare_model(module, device_placement=False, evaluation_mode=True)
            optimiser = adamw(module.parameters(), settings, foreach=True)
            shard_moments(optimiser)
            self.optimiser = accelerator.prepare(optimiser)
        else:
            self.module, self.optimiser = accelerator.prepare(module, adamw(module.parameters(), settings))
            self.kind = accelerator.unwrap_model(self.module)
        self.average = Average(accelerator.unwrap_model(self.module), settings.ema) if settings.ema else None
        self.slowed = None
        if settings.plateau is not None:
            warmup = settings.warmup // settings.batch
            self.slowed = PlateauRate(settings.plateau, batch=settings.batch, first=warmup, every=settings.log_every)

    @property
    def savable(self) -> Sequence[Any]:
        return [each for each in (self.average, self.slowed) if each is not None]

    @property
    def result(self) -> nn.Module:
        """The module to keep, averaged where there is an average; where it is parted, all ranks gather it at once."""
        if self.average is not None:
            return made_of([whole(value) for value in self.average.values.values()], self.kind)
        if self.parted:
            return made_of([whole(value.detach()) for value in self.module.parameters()], self.kind)
        return self.kind

    def __call__(
        self, batch: Batch, index: int, generator: torch.Generator, more: Iterable[Given] = ()
    ) -> Mapping[str, Tensor]:
        rate = self.settings.rate(index) if self.slowed is None else self.slowed(self.settings.rate(index))
        terms = self._descend(batch, index, generator, rate)
        for count, (part, source) in enumerate(more, 1):
            added = self._descend(part, index, source, rate)
            terms = {name: (count * mean + added[name]) / (count + 1) for name, mean in terms.items()} | {
                NORM: added[NORM]
            }
        if self.slowed is not None:
            self.slowed.watch(terms["loss"], index, self.accelerator)
        last = index + 1 == self.settings.steps
        if self.average is not None and (last or (index + 1) % self.settings.ema_interval == 0):
            self.average.update()
        return terms

    def _descend(self, batch: Batch, index: int, generator: torch.Generator, rate: float) -> dict[str, Tensor]:
        """Add a part's gradients, and with the last part step; returns the part's terms and the norm."""
        with self.accelerator.accumulate(self.module):
            with self.accelerator.autocast():
                terms = self.module(*batch, step=index, generator=generator)
            norm = descend(terms["loss"], self.module, self.optimiser, rate, self.settings, self.accelerator)
        return {**{name: term.detach() for name, term in terms.items()}, NORM: norm}


class AdversarialStep:
    """An autoencoder's step, then its discriminator's, on the same reconstructions.

    objective: like GradientStep's module, and its scalars come with the images, "reconstruction image"; judge:
    `judge(images, reconstruction, step=...)` gives the discriminator's loss.
    """

    def __init__(
        self,
        objective: nn.Module,
        judge: nn.Module,
        parts: tuple[nn.Module, nn.Module],
        settings: TrainingSettings,
        accelerator: Accelerator,
    ) -> None:
        self.settings, self.accelerator = settings, accelerator
        self.objective, self.judge, (self.autoencoder, self.discriminator) = objective, judge, parts
        optimisers = [adamw(part.parameters(), settings) for part in parts]
        self.optimisers = [accelerator.prepare(optimiser) for optimiser in optimisers]

    @property
    def savable(self) -> Sequence[Any]:
        return [self.autoencoder, self.discriminator]

    def __call__(
        self, batch: Batch, index: int, generator: torch.Generator, more: Iterable[Given] = ()
    ) -> Mapping[str, Tensor]:
        if self.accelerator.gradient_accumulation_steps > 1:
            raise ValueError(
                "an adversary weighs gradients of the whole batch, so that its parts cannot be taken one after the "
                "other: leave gradient accumulation out (ACCELERATE_GRADIENT_ACCUMULATION_STEPS), or the adversary"
            )
        with self.accelerator.autocast():
            terms = dict(self.objective(*batch, step=index, generator=generator))
        reconstruction = terms.pop("reconstruction image")
        rate = self.settings.rate(index)
        norm = descend(terms["loss"], self.autoencoder, self.optimisers[0], rate, self.settings, self.accelerator)
        self.discriminator.zero_grad(set_to_none=True)
        with self.accelerator.autocast():
            judged = self.judge(batch[0], reconstruction.detach(), step=index)
        descend(judged, self.discriminator, self.optimisers[1], rate, self.settings, self.accelerator)
        return {**terms, "discriminator": judged.detach(), NORM: norm}


def adamw(
    parameters: Iterator[nn.Parameter], settings: TrainingSettings, *, foreach: bool | None = None
) -> torch.optim.AdamW:
    """AdamW as `settings` says; foreach: all parameters at once (None: where they are on a GPU, and whole)."""
    rate, decay = settings.learning_rate, settings.weight_decay
    return torch.optim.AdamW(parameters, lr=rate, betas=settings.betas, weight_decay=decay, foreach=foreach)


def descend(
    loss: Tensor, module: nn.Module, optimiser: Any, rate: float, settings: TrainingSettings, accelerator: Accelerator
) -> Tensor:
    """Backward, clip, step at a learning rate; returns the gradient norm before clipping.

    Where gradients are accumulated, nothing but backward is done before the last part, and the norm is 0. Ranks step by
    the mean of their gradients; a module that is neither wrapped nor parted is given it here.
    """
    for group in optimiser.param_groups:
        group["lr"] = rate
    accelerator.backward(loss)
    if not accelerator.sync_gradients:
        return torch.zeros(())
    bare = accelerator.unwrap_model(module) is module and not isinstance(module, FSDPModule)
    if accelerator.num_processes > 1 and bare:
        average_gradients(module, accelerator)
    bound = math.inf if settings.clip is None else settings.clip
    norm = accelerator.clip_grad_norm_(module.parameters(), bound)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return whole(torch.as_tensor(norm)).detach()


def average_gradients(module: nn.Module, accelerator: Accelerator) -> None:
    """Replace every gradient by its mean over ranks."""
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    means: Any = accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), "mean")
    for gradient, mean in zip(gradients, means.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
