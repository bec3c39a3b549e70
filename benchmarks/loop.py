"""What the training loop and its data cost beside a bare step: forward, backward, clip and AdamW on tensors at hand.

python benchmarks/loop.py [--repeats N] [--threads N] [--batch B] [--pictures N] [--tiny]

The denoiser is that of pixels of the `cpu` profile at 64 pixels, with its averaged weights and logged terms; pictures
are bytes in memory, as stages keep them. The loop takes every step of a training of its own; nothing is saved.
Times are interleaved, and written to results/loop.json. `--tiny` shrinks the denoiser, to try the script.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from accelerate import Accelerator
from timing import interleave, report
from torch import Tensor

from reproductions import training
from reproductions.conditioning import Conditioning, Kind
from reproductions.data import Split
from reproductions.loop.averages import Average
from reproductions.loop.steps import GradientStep, TrainingSettings
from reproductions.settings import Continuous
from reproductions.stages import conditions, denoising, latent_denoising
from reproductions.stages.coding import Pixels
from reproductions.stages.continuous import TARGETS, ForwardProcess, Objective, schedule
from reproductions.table_profiles import SIZES

SIDE, NEVER = 64, 1e9


def module_of(recipe: Continuous) -> denoising.Conditional:
    torch.manual_seed(0)
    told = Conditioning(Kind.NONE)
    network = latent_denoising.network(latent_denoising.Training(recipe, told), (3, SIDE, SIDE))
    objective = Objective(network, ForwardProcess(schedule(recipe)), target=TARGETS[recipe.target])
    return denoising.Conditional(torch.nn.Identity(), objective)


class Bare:
    """A step as one would write it out, on one batch that is there."""

    def __init__(self, recipe: Continuous, settings: TrainingSettings, clean: Tensor) -> None:
        self.module, self.clean, self.settings = module_of(recipe).to(clean.device), clean, settings
        self.optimiser = torch.optim.AdamW(self.module.parameters(), settings.learning_rate)
        self.average = Average(self.module, settings.ema)
        self.generator = torch.Generator(clean.device).manual_seed(0)

    def __call__(self) -> None:
        terms = self.module(self.clean, None, step=0, generator=self.generator)
        terms["loss"].backward()
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.average.update()


def steps(recipe: Continuous, settings: TrainingSettings, pictures: Pixels, folder: Path) -> Iterator[Any]:
    """The same through the loop, with its batches, streams, logs and averages."""
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision=settings.precision)
    step = GradientStep(module_of(recipe), settings, accelerator)

    def batch(indices: Tensor, generator: torch.Generator) -> tuple[Tensor, None]:
        return pictures.draw(indices.to(generator.device), generator), None

    def log(index: int, terms: Mapping[str, float]) -> None: ...

    return training.train(step, batch, len(pictures), settings, folder, accelerator, log)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    training.SAVE_EVERY_SECONDS = NEVER
    where = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    recipe = SIZES["smoke" if options.tiny else "cpu"].ddpm
    samples = options.batch * (options.repeats + 10)
    settings = replace(recipe.training, batch=options.batch, samples=samples, precision="no")
    with TemporaryDirectory() as kept:
        folder = Path(kept)
        images = torch.randint(256, (options.pictures, 3, SIDE, SIDE), dtype=torch.uint8)
        Split(images, ((),) * len(images)).save(folder / conditions.TRAIN)
        pictures = Pixels(folder, where, flip=True)
        order = torch.arange(options.batch, device=where)
        bare = Bare(recipe, settings, pictures.draw(order, torch.Generator(where)))
        taken = steps(recipe, settings, pictures, folder)
        drawn = torch.Generator(where)

        def load() -> Tensor:
            chosen = torch.randint(len(pictures), (options.batch,), device=where, generator=drawn)
            return pictures.draw(chosen, drawn)

        candidates = {"bare step": bare, "a step of the loop": lambda: next(taken), "its batch alone": load}
        times = interleave(candidates, repeats=options.repeats, warmup=3)
    shown = f"{options.batch} of {options.pictures:,} pictures of {SIDE} x {SIDE}"
    report(
        "loop-tiny" if options.tiny else "loop",
        "The training loop beside a bare step",
        times,
        baseline="bare step",
        notes=f"{shown} in memory, mirrored by chance; float32",
    )


if __name__ == "__main__":
    main()
