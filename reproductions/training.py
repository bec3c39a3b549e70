"""The only training loop: it takes steps and hands back metrics.

Step `i` depends on `(seed, i)` alone: its batch, its noise and its learning rate. So a run that was killed and
started again ends bit-identical to one that never was (CPU, one rank).
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from reproductions import ranks
from reproductions.artefacts import Desk
from reproductions.loop.checkpoints import resume, resumed, save
from reproductions.loop.history import History
from reproductions.loop.shares import Batch, given, shares
from reproductions.loop.steps import Step, StepType, TrainingSettings
from reproductions.loop.streams import shuffled

SAVE_EVERY_SECONDS = 20.0


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
    newest one is where the next call goes on. It stays when all steps are taken, until what was trained is written.
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
        if due(saved, accelerator, logged=logged):
            save(accelerator, folder, index + 1, settings)
            saved = time.monotonic()
    if accelerator.is_main_process:
        (folder / "curves.json").write_text(json.dumps(history.rows))


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


def engine(precision: str, *, some_unused: bool = False) -> Accelerator:
    """Accelerate for one training, which is not told of FSDP: networks are parted here."""
    AcceleratorState._reset_state()
    wrapping = DistributedDataParallelKwargs(find_unused_parameters=some_unused)
    with ranks.whole():
        return Accelerator(cpu=not torch.cuda.is_available(), mixed_precision=precision, kwargs_handlers=[wrapping])


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
    accelerator = engine(settings.precision, some_unused=some_unused)
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
