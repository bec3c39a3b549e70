"""The only training loop: it takes steps and hands back metrics.

Step `i` depends on `(seed, i)` alone: its batch, its noise and its learning rate. So a run that was killed and
started again ends bit-identical to one that never was (CPU, one rank).
"""

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.tensorboard import SummaryWriter

from reproductions import ranks, room
from reproductions.artefacts import Desk
from reproductions.plateau import Plateau, PlateauRate
from reproductions.room import NoRoom as NoRoom
from reproductions.shares import Share, shares

Batch = tuple[Any, ...]
Given = tuple[Batch, torch.Generator]
SAVE_EVERY_SECONDS = 20.0
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

    module: `module(*batch, step=..., generator=...)` returns named scalars with "loss" among them.
    """

    def __init__(self, module: nn.Module, settings: TrainingSettings, accelerator: Accelerator) -> None:
        self.settings, self.accelerator = settings, accelerator
        optimiser = adamw(module.parameters(), settings)
        self.module, self.optimiser = accelerator.prepare(module, optimiser)
        self.average = average(accelerator.unwrap_model(self.module), settings.ema) if settings.ema else None
        self.slowed = None
        if settings.plateau is not None:
            warmup = settings.warmup // settings.batch
            self.slowed = PlateauRate(settings.plateau, batch=settings.batch, first=warmup, every=settings.log_every)

    @property
    def savable(self) -> Sequence[Any]:
        return [each for each in (self.average, self.slowed) if each is not None]

    @property
    def result(self) -> nn.Module:
        """The module to keep: averaged where there is an average."""
        kept = self.average.module if self.average is not None else self.accelerator.unwrap_model(self.module)
        assert isinstance(kept, nn.Module)
        return kept

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
            self.average.update_parameters(self.accelerator.unwrap_model(self.module))
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


def adamw(parameters: Iterator[nn.Parameter], settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW as `settings` says."""
    return torch.optim.AdamW(
        parameters, lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay
    )


def average(module: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of the weights; its decay ramps up as `(1 + i) / (10 + i)`."""

    @torch.no_grad()
    def update(averaged: Any, current: Any, count: Any) -> None:
        beta = min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averaged, current, 1 - beta)

    return AveragedModel(module, multi_avg_fn=update)


def descend(
    loss: Tensor, module: nn.Module, optimiser: Any, rate: float, settings: TrainingSettings, accelerator: Accelerator
) -> Tensor:
    """Backward, clip, step at a learning rate; returns the gradient norm before clipping.

    Where gradients are accumulated, nothing but backward is done before the last part, and the norm is 0. Ranks step by
    the mean of their gradients; a module that Accelerate has not wrapped is given it here.
    """
    for group in optimiser.param_groups:
        group["lr"] = rate
    accelerator.backward(loss)
    if not accelerator.sync_gradients:
        return torch.zeros(())
    if accelerator.num_processes > 1 and accelerator.unwrap_model(module) is module:
        average_gradients(module, accelerator)
    bound = math.inf if settings.clip is None else settings.clip
    norm = accelerator.clip_grad_norm_(module.parameters(), bound)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return torch.as_tensor(norm).detach()


def average_gradients(module: nn.Module, accelerator: Accelerator) -> None:
    """Replace every gradient by its mean over ranks."""
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    means: Any = accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), "mean")
    for gradient, mean in zip(gradients, means.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def train(
    step: Step,
    batch: Callable[[Tensor, torch.Generator], Batch],
    length: int,
    settings: TrainingSettings,
    folder: Path,
    accelerator: Accelerator,
    log: Callable[[int, Mapping[str, float]], None] = lambda index, terms: None,
) -> Iterator[tuple[int, Mapping[str, float]]]:
    """Take the steps that are left; yield the index of each and the terms that were last logged.

    batch: indices of a set of `length` examples -> what `step` takes; each rank takes its share of the global batch,
    where gradients are accumulated in parts. Checkpoints go to `folder` every few seconds, complete or not at all; the
    newest one is where the next call goes on.
    Every `settings.log_every` steps the terms' means since the last time go to `log` and to `History`.

    Raises:
        FloatingPointError: when the loss is no longer finite.
        ValueError: where ranks and parts do not share the batch evenly.
    """
    history = History()
    accelerator.register_for_checkpointing(history, *step.savable)
    mine, device = shares(accelerator, settings.batch), accelerator.device
    start = resume(accelerator, folder, settings)
    saved = time.monotonic()
    for index in range(start, settings.steps):
        indices = shuffled(length, settings.batch, index, settings.seed)
        with closing(given(batch, indices, mine, settings.seed, index, device)) as parts:
            first, generator = next(parts)
            terms = step(first, index, generator, parts)
        history.add(terms)
        logged = (index + 1) % settings.log_every == 0 or index + 1 == settings.steps
        if logged:
            means = history.close(index + 1, accelerator)
            if not math.isfinite(means["loss"]):
                raise FloatingPointError(
                    f"the loss is {means['loss']} at step {index + 1}: try a lower learning rate or precision 'no'"
                )
            log(index + 1, means)
        yield index, history.last
        if index + 1 < settings.steps and due(saved, accelerator, logged=logged):
            save(accelerator, folder, index + 1, settings)
            saved = time.monotonic()
    if accelerator.is_main_process:
        (folder / "curves.json").write_text(json.dumps(history.rows))
        clear(folder)


def due(saved: float, accelerator: Accelerator, *, logged: bool) -> bool:
    """Whether it is time for a checkpoint, the last being of `saved`.

    Of several ranks, the first one's clock decides for all, and is asked after steps that are logged.
    """
    passed = time.monotonic() - saved > SAVE_EVERY_SECONDS
    if accelerator.num_processes == 1:
        return passed
    if not logged:
        return False
    decided: Any = broadcast(torch.tensor([float(passed)], device=accelerator.device), from_process=0)
    return bool(decided.item())


def given(
    batch: Callable[[Tensor, torch.Generator], Batch],
    indices: Tensor,
    mine: Sequence[Share],
    seed: int,
    step: int,
    device: torch.device,
) -> Generator[Given, None, None]:
    """What a step is given of the examples at `indices`, share by share; what is drawn for it meanwhile is its share.

    On a processor, all shares draw the numbers of the whole batch, and keep theirs, so that any number of ranks and
    parts trains the same. On a GPU, each draws numbers of its own.
    """
    for share in mine:
        taken = share.of(indices)
        own = stream(seed, step, share.index, device)
        whole = device.type == "cpu"
        generator = torch.Generator(device).manual_seed(stream_key(seed, step, 0)) if whole else own
        with share.drawn(len(taken)) if whole else nullcontext():
            yield batch(taken, generator), generator


class History:
    """The means of the logged terms; part of every checkpoint."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    @property
    def last(self) -> Mapping[str, float]:
        return self.rows[-1] if self.rows else {}

    def add(self, terms: Mapping[str, Tensor]) -> None:
        for name, value in terms.items():
            value = value.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.count += 1

    def close(self, step: int, accelerator: Accelerator) -> Mapping[str, float]:
        """The means since the last time, over all ranks."""
        if accelerator.num_processes > 1:
            sums: Any = accelerator.reduce(torch.stack(list(self.sums.values())), "mean")
            self.sums = dict(zip(self.sums, sums, strict=True))
        means = {name: float(total) / self.count for name, total in self.sums.items()}
        self.rows.append({"step": step, **means})
        self.sums, self.count = {}, 0
        return means

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "sums": self.sums, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows, self.sums, self.count = state["rows"], state["sums"], state["count"]


@lru_cache(maxsize=2)
def permutation(length: int, epoch: int, seed: int) -> Tensor:
    """The order of one pass over the data."""
    return torch.randperm(length, generator=stream(seed, epoch, -1, torch.device("cpu")))


def shuffled(length: int, batch: int, step: int, seed: int) -> Tensor:
    """The indices (batch,) of step `step`: consecutive places of one shuffled pass after the other."""
    places = range(step * batch, (step + 1) * batch)
    epochs = torch.tensor([place // length for place in places])
    within = torch.tensor([place % length for place in places])
    pieces = [permutation(length, int(e), seed)[within[epochs == e]] for e in epochs.unique()]
    return torch.cat(pieces)


def stream(seed: int, step: int, rank: int, device: torch.device) -> torch.Generator:
    """The random numbers of one step on one rank; torch's global generator is set to the same place."""
    key = stream_key(seed, step, rank)
    if rank >= 0:
        torch.manual_seed(key)
    return torch.Generator(device).manual_seed(key)


def stream_key(seed: int, step: int, rank: int) -> int:
    """The seed of a stream."""
    return int.from_bytes(hashlib.sha256(f"{seed},{step},{rank}".encode()).digest()[:7], "big")


def save(accelerator: Accelerator, folder: Path, done: int, settings: TrainingSettings) -> None:
    """Write a checkpoint under a partial name, rename it, drop the older ones.

    Raises:
        NoRoom: where the disk is full; the checkpoint before stays as it is.
    """
    partial = folder / "checkpoint.partial"
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    older = list(folder.glob("checkpoint-*"))
    try:
        accelerator.save_state(str(partial))
        if accelerator.is_main_process:
            (partial / "position.json").write_text(json.dumps({"step": done, "settings": repr(settings)}))
    except Exception as error:
        if not room.is_full(error, folder):
            raise
        raise NoRoom(_too_large(partial, older, done)) from error
    if accelerator.is_main_process:
        os.replace(partial, folder / f"checkpoint-{done:09d}")
        for path in older:
            shutil.rmtree(path, ignore_errors=True)
    accelerator.wait_for_everyone()


def _too_large(partial: Path, older: Sequence[Path], done: int) -> str:
    """What to say of a checkpoint that did not fit; what was written of it is removed."""
    folder = partial.parent
    needed = f"takes {room.said(room.size(older[-1]))}" if older else f"takes more than {room.said(room.size(partial))}"
    kept = f"the checkpoint of step {resumed(folder):,} is whole" if older else "there is none before it"
    shutil.rmtree(partial, ignore_errors=True)
    return (
        f"the checkpoint of step {done:,} {needed}, and there is no room for it: {room.said(room.free(folder))} free "
        f"at {folder}; {kept}. Make room, and give the same command again to go on from there"
    )


def resume(accelerator: Accelerator, folder: Path, settings: TrainingSettings) -> int:
    """Load the newest checkpoint; returns the number of steps that are done.

    Raises:
        ValueError: for a checkpoint that was written under other settings, or that cannot be read.
    """
    found = sorted(folder.glob("checkpoint-*"))
    if not found:
        return 0
    with _readable(found[-1]):
        position = json.loads((found[-1] / "position.json").read_text())
    if position["settings"] != repr(settings):
        raise ValueError(
            f"{found[-1]} was written with other settings ({position['settings']}; now {settings!r}): "
            "give the same settings again, or remove that folder to start afresh"
        )
    with _readable(found[-1]):
        accelerator.load_state(str(found[-1]))
    return int(position["step"])


@contextmanager
def _readable(checkpoint: Path) -> Iterator[None]:
    """Name a checkpoint that was damaged since it was written."""
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"the checkpoint {checkpoint} cannot be read ({error}): remove that folder, and its training starts afresh"
        ) from error


def resumed(folder: Path) -> int:
    """Steps that the newest checkpoint has done."""
    return max((int(path.name.removeprefix("checkpoint-")) for path in folder.glob("checkpoint-*")), default=0)


def clear(folder: Path) -> None:
    """Remove the checkpoints of a training that is complete."""
    for path in folder.glob("checkpoint*"):
        shutil.rmtree(path, ignore_errors=True)


def fit(
    desk: Desk,
    make: Callable[[Accelerator], StepType],
    batch: Callable[[Tensor, torch.Generator], Batch],
    length: int,
    settings: TrainingSettings,
    *,
    some_unused: bool = False,
) -> StepType:
    """Train inside a stage: progress on `desk.track`, curves on TensorBoard and in `curves.json`; returns the step.

    make: builds the step on the accelerator that it is given; batch: (indices, generator) -> what the step takes;
    some_unused: whether there are steps whose loss leaves some parameters out.
    """
    ranks.check_whole()
    AcceleratorState._reset_state()
    wrapping = DistributedDataParallelKwargs(find_unused_parameters=some_unused)
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(), mixed_precision=settings.precision, kwargs_handlers=[wrapping]
    )
    step = make(accelerator)
    board = SummaryWriter(str(desk.tensorboard)) if accelerator.is_main_process else None

    def log(index: int, terms: Mapping[str, float]) -> None:
        if board is not None:
            for name, value in terms.items():
                if name != "step":
                    board.add_scalar(name, value, index)

    taken = train(step, batch, length, settings, desk.folder, accelerator, log)
    for _, terms in desk.track(taken, settings.steps, resumed(desk.folder)):
        if terms:
            desk.track.note(f"loss {terms['loss']:.4f}")
    if board is not None:
        board.close()
    return step
