"""First stages by the name of a preset: training, reconstructions, bits per image, use of the codes."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from reproductions.artefacts import Desk, write_json
from reproductions.choices import chosen
from reproductions.gathering.splits import HELD_OUT, TRAIN, pictures
from reproductions.loop.shares import Given
from reproductions.loop.steps import Step, TrainingSettings
from reproductions.settings import FirstStage
from reproductions.stages.autoencoding import (
    PRESETS,
    Autoencoder,
    AutoencoderObjective,
    Preset,
    TokenAutoencoder,
    VQAutoencoder,
    reconstruct,
    standardise,
    steps_of,
    through,
    to_bytes,
    to_signed,
)
from reproductions.stages.measuring import perceptual_distance
from reproductions.text_to_image import device
from reproductions.training import fit


@dataclass(frozen=True)
class PresetTraining:
    """A preset of the package and its training; the network is written out so that a change of it is another stage.

    lpips: files of the perceptual term's weights, and the hash of each.
    """

    preset: str
    stage: FirstStage
    reconstructions: int
    shown: int = 16
    lpips: Mapping[str, str] = field(default_factory=dict)


def preset_named(name: str) -> Preset:
    """The preset called `name`.

    Raises:
        ValueError: naming the presets that there are.
    """
    return chosen("--preset", "preset", name, PRESETS)


def preset_training(
    name: str,
    training: TrainingSettings,
    *,
    reconstructions: int,
    unquantised: int,
    kl_weight: float,
    adversarial: bool = False,
    lpips: Mapping[str, str] | None = None,
) -> PresetTraining:
    """How to train the preset called `name`, with its adversary from its step on, or half-way where it names none.

    Raises:
        ValueError: naming the presets that there are.
    """
    preset = preset_named(name)
    start = preset.adversarial_start if adversarial else None
    if adversarial and start is None:
        start = training.steps // 2
    return PresetTraining(
        name,
        FirstStage(
            preset.arguments,
            training,
            unquantised=unquantised if issubclass(preset.kind, VQAutoencoder) else 0,
            kl_weight=kl_weight,
            adversarial_start=None if start is None else start * training.batch,
        ),
        reconstructions,
        lpips=lpips or {},
    )


def preset_resolution(name: str) -> int:
    """Side of a preset's images."""
    return preset_named(name).resolution


def preset_recipe(name: str) -> tuple[int, float, tuple[float, float]]:
    """Batch, learning rate and betas: the released code's for a published preset, the CPU profile's for a small one."""
    batch = preset_named(name).batch
    if preset_named(name).adversarial_start is None:
        return batch, 2e-3, (0.9, 0.99)
    return batch, 4.5e-6 * batch, (0.5, 0.9)


def preset_size(settings: PresetTraining) -> Mapping[str, int]:
    """Size of a preset and its training, for the plan."""
    with torch.device("meta"):
        count = sum(p.numel() for p in PRESETS[settings.preset].build().parameters())
    return {"parameters": count, "steps": settings.stage.training.steps}


def train_preset(desk: Desk) -> None:
    """Train a preset; what `_train` writes, and `codes.json`: bits per image, use of the codes on held-out images.

    Reconstructions of the first held-out images go to TensorBoard at the end of every tenth of the training.
    """
    settings: PresetTraining = desk.settings
    training = settings.stage.training
    preset = PRESETS[settings.preset]
    images = pictures(desk.inputs["data"] / TRAIN)
    held_out = pictures(desk.inputs["data"] / HELD_OUT)[: settings.reconstructions]
    torch.manual_seed(training.seed)
    autoencoder = preset.build()
    perceptual = perceptual_distance(list(settings.lpips)) if settings.lpips else None
    objective = AutoencoderObjective(autoencoder, settings.stage, preset, perceptual)
    shown = to_signed(held_out[: settings.shown])

    def batch(indices: Tensor, generator: torch.Generator) -> tuple[Tensor]:
        return (to_signed(images[indices].to(generator.device)),)

    def show(index: int) -> None:
        if not desk.leads:
            return
        autoencoder.eval()
        with torch.inference_mode():
            rebuilt = to_bytes(reconstruct(autoencoder, shown.to(device()))).cpu()
        autoencoder.train()
        with SummaryWriter(str(desk.tensorboard)) as board:
            board.add_images("held out, rebuilt", rebuilt, index)

    make = steps_of(objective, training)
    every = max(1, training.steps // 10)
    fit(desk, lambda a: Showing(make(a), show, every), batch, len(images), training, some_unused=True)
    standardise(autoencoder.to(device()).eval(), images, desk)
    if not desk.leads:
        return
    with torch.inference_mode():
        coder = Coder(autoencoder)
        rebuilt = through(held_out, coder, desk)
    autoencoder.cpu().save_pretrained(desk.folder / "autoencoder")
    save_file({"images": rebuilt}, desk.folder / "reconstructions.safetensors")
    write_json(desk.folder / "codes.json", coder.facts())


class Showing:
    """A step that shows something at the end of every `every` steps."""

    def __init__(self, step: Step, show: Callable[[int], None], every: int) -> None:
        self.step, self.show, self.every = step, show, every

    @property
    def savable(self) -> Sequence[Any]:
        return self.step.savable

    def __call__(
        self, batch: tuple[Any, ...], index: int, generator: torch.Generator, more: Iterable[Given] = ()
    ) -> Mapping[str, Tensor]:
        terms = self.step(batch, index, generator, more)
        if (index + 1) % self.every == 0:
            self.show(index + 1)
        return terms


class Coder:
    """Reconstructs images, and keeps count of what their codes cost."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        self.autoencoder = autoencoder
        self.images, self.nats = 0, 0.0
        codes = autoencoder.quantizer.size if isinstance(autoencoder, TokenAutoencoder) else 0
        self.counts = torch.zeros(codes, dtype=torch.int64)

    def __call__(self, images: Tensor) -> Tensor:
        self.images += len(images)
        if isinstance(self.autoencoder, TokenAutoencoder):
            indices = self.autoencoder.encode(images).indices
            self.counts += torch.bincount(indices.flatten(), minlength=len(self.counts)).cpu()
            return self.autoencoder.decode(indices)
        latents = self.autoencoder.encode(images, sample=False)
        rate = latents.mean.square() + latents.log_variance.exp() - 1 - latents.log_variance
        self.nats += 0.5 * float(rate.sum())
        return self.autoencoder.decode(latents.values)

    def facts(self) -> dict[str, float]:
        """Bits per image; for tokens also codes, the share of them that is used, and the perplexity of their use."""
        if not len(self.counts):
            return {"bits per image": self.nats / math.log(2) / self.images}
        p = self.counts.double() / self.counts.sum()
        return {
            "bits per image": float(self.counts.sum()) / self.images * math.log2(len(self.counts)),
            "codes": len(self.counts),
            "usage": float((self.counts > 0).double().mean()),
            "perplexity": float(torch.special.entr(p).sum().exp()),
        }
