"""What a training step costs, with and without context losses: steps of all variants in turn, so that they compare."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from reproductions.artefacts import Desk, write_json
from reproductions.experiment import AnyContext
from reproductions.loop.steps import GradientStep
from reproductions.loop.streams import shuffled, stream
from reproductions.stages import denoising, equipping, latent_denoising, token_denoising
from reproductions.text_to_image import device
from reproductions.training import engine

WARMUP = 2


@dataclass(frozen=True)
class Timing:
    """A training, the context losses beside it (None: without), and how many steps of each are timed."""

    training: latent_denoising.Training | token_denoising.Training
    variants: Mapping[str, AnyContext | None]
    steps: int


def measure(desk: Desk) -> None:
    """Milliseconds of a step (median and quartiles) and parameters of the head, by variant: `timing.json`."""
    settings: Timing = desk.settings
    recipe = settings.training.denoiser.training
    accelerator = engine(recipe.precision)
    prepared = {
        name: equipping.prepare(desk, settings.training, context) for name, context in settings.variants.items()
    }
    examples = next(examples for _, examples in prepared.values())
    heads = {name: sum(p.numel() for p in _head(module).parameters()) for name, (module, _) in prepared.items()}
    taken = {name: GradientStep(module, recipe, accelerator) for name, (module, _) in prepared.items()}
    seconds: dict[str, list[float]] = {name: [] for name in taken}
    for index in desk.track(range(settings.steps + WARMUP)):
        indices = shuffled(len(examples), recipe.batch, index, recipe.seed).to(device())
        for name, step in taken.items():
            generator = stream(recipe.seed, index, 0, device())
            batch = examples.draw(indices, generator)
            _wait()
            start = time.perf_counter()
            step(batch, index, generator)
            _wait()
            seconds[name].append(time.perf_counter() - start)
    if not desk.leads:
        return
    found = {name: {**_quartiles(each[WARMUP:]), "head parameters": heads[name]} for name, each in seconds.items()}
    write_json(desk.folder / "timing.json", found)


def _head(module: denoising.Conditional) -> nn.Module:
    return module.context if isinstance(module, equipping.EquippedConditional) else nn.Identity()


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _quartiles(seconds: list[float]) -> dict[str, float]:
    first, middle, third = statistics.quantiles(seconds, n=4, method="inclusive")
    return {"milliseconds": 1000 * middle, "low": 1000 * first, "high": 1000 * third}
