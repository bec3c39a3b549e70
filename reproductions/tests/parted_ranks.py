"""What two ranks do together: trainings of a network parted between them, killed and resumed; a scale of latents."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import save_file
from torch import Tensor, nn

from reproductions import training
from reproductions.artefacts import Desk
from reproductions.loop import sharding
from reproductions.loop.plateau import Plateau
from reproductions.loop.steps import GradientStep, TrainingSettings
from reproductions.runner import Silence
from reproductions.stages.autoencoding import KLAutoencoder, standardise
from reproductions.stages.codes import BATCH
from reproductions.training import train

SETTINGS = TrainingSettings(samples=40, batch=4, learning_rate=1e-2, warmup=8, log_every=2, seed=7, clip=0.5)
AVERAGED = replace(SETTINGS, ema=0.9, plateau=Plateau(patience=4, threshold=0.5), ema_interval=2)
DATA = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
KILLED = 6
PICTURES = torch.randint(256, (BATCH + 3, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Layer(nn.Module):
    """Of an odd width, so that ranks have parts of different sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(5, 7), nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.tanh(self.up(x)))


class Told(nn.Module):
    """A layer that is asked for something else before it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.layer = nn.Linear(3, 5), Layer()

    def given(self, x: Tensor) -> Tensor:
        return self.scale(x)

    def forward(self, x: Tensor, given: Tensor) -> Tensor:
        return self.layer(x * given)


class Regression(nn.Module):
    """A noisy problem whose layers are in lists, with a buffer that is saved."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 5), nn.Linear(5, 1)
        self.layers, self.told = nn.ModuleList(Layer() for _ in range(2)), nn.ModuleList([Told()])
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: Tensor, *, step: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        self.steps += 1
        h = self.first(x)
        for layer in self.layers:
            h = layer(h)
        for told in self.told:
            h = told(h, told.given(x))
        noise = torch.randn(len(x), 1, generator=generator)
        return {"loss": (self.last(h) - x.sum(1, keepdim=True) - 0.1 * noise).square().mean()}


def run(folder: Path, settings: TrainingSettings, parts: int, *, parted: bool, kill: bool = False) -> GradientStep:
    """A training from where the one in `folder` was killed, or to that point."""
    AcceleratorState._reset_state()
    GradientState._reset_state()
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=parts)
    step = GradientStep(Regression(), settings, accelerator, parted=parted)
    for index, _ in train(step, lambda i, _: (DATA[i],), len(DATA), settings, folder, accelerator):
        if kill and index == KILLED:
            break
    accelerator.wait_for_everyone()
    return step


CASES = {"weights": (SETTINGS, 1), "averages in parts": (AVERAGED, 2)}


def rank(number: int, port: int, root: Path) -> None:
    """What each of two ranks does."""
    here = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in here.items()}, MASTER_ADDR="localhost")
    torch.set_num_threads(1)
    PartialState(cpu=True)
    training.SAVE_EVERY_SECONDS = 0.0
    for name, (settings, parts) in CASES.items():
        step = run(root / name / "parted", settings, parts, parted=True)
        held = {"held": sum(sharding.local(each).numel() for each in step.module.parameters())}
        keep(root / name / f"rank-{number}", step, held)
        for killed in ("killed", "left"):
            run(root / name / killed, settings, parts, parted=True, kill=True)
        keep(root / name / f"resumed-{number}", run(root / name / "killed", settings, parts, parted=True))
        keep(root / name / f"from-one-{number}", run(root / name / "killed-one", settings, parts, parted=True))
    scaled(root, rank=number, ranks=2).save_pretrained(root / f"scaled-{number}")
    step.module.steps.fill_(number)
    step.module(DATA[:2], step=0, generator=torch.Generator())
    (root / f"buffer-{number}").write_text(str(float(step.module.steps)))
    torch.distributed.barrier()
    os._exit(0)  # all is written: threads of gloo that are taken down with the interpreter abort now and then


def scaled(root: Path, *, rank: int = 0, ranks: int = 1) -> KLAutoencoder:
    """The autoencoder of a folder, its latents scaled by pictures."""
    autoencoder = KLAutoencoder.from_pretrained(root / "autoencoder")
    standardise(autoencoder, PICTURES, Desk(root, None, {}, Silence(), root, rank=rank, ranks=ranks))
    return autoencoder


def keep(file: Path, step: GradientStep, facts: Mapping[str, Any] | None = None) -> None:
    """Write what a step keeps."""
    save_file(step.result.state_dict(), file)
    file.with_suffix(".json").write_text(json.dumps(facts or {}))
