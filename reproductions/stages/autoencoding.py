"""First stages: training the two autoencoders, encoding the training set, decoding samples."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from reproductions import costs
from reproductions.artefacts import Desk
from reproductions.gathering.splits import HELD_OUT, TRAIN, pictures
from reproductions.loop.steps import AdversarialStep, GradientStep, TrainingSettings
from reproductions.settings import FirstStage
from reproductions.stages.codes import BATCH, CLEAN, first_picture, write_codes
from reproductions.text_to_image import device, samples
from reproductions.training import fit
from vq_autoencoder import PRESETS as PRESETS
from vq_autoencoder import (
    FirstStageObjective,
    GumbelAutoencoder,
    PatchGAN,
    gradient_difference,
    mean_over_elements,
    usage,
)
from vq_autoencoder import KLAutoencoder as KLAutoencoder
from vq_autoencoder import Preset as Preset
from vq_autoencoder import TokenAutoencoder as TokenAutoencoder
from vq_autoencoder import VQAutoencoder as VQAutoencoder

Autoencoder = TokenAutoencoder | KLAutoencoder
LEAST_TEMPERATURE = 1 / 16


@dataclass(frozen=True)
class Reconstructing:
    """An autoencoder, its training, and how many held-out images to reconstruct when it is done."""

    stage: FirstStage
    reconstructions: int


def squared_and_absolute(x: Tensor, y: Tensor) -> Tensor:
    """`(x - y)^2 + |x - y|`, element by element."""
    error = x - y
    return error.square() + error.abs()


class AutoencoderObjective(nn.Module):
    """The first stage's loss on a batch: L2 + L1 + perceptual distance, the bottleneck's terms, the adversary's.

    Source: LDM first stage objective
    Deviation: without a perceptual distance the gradient difference (L1 of neighbouring pixels' differences) stands
    where the paper has LPIPS, whose network is not to be had everywhere.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        settings: FirstStage,
        preset: Preset | None = None,
        perceptual: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        batch = settings.training.batch
        adversarial = settings.adversarial_start is not None
        self.objective = FirstStageObjective(
            autoencoder,
            distance=squared_and_absolute,
            perceptual=perceptual or gradient_difference,
            kl_weight=settings.kl_weight,
            reduction=mean_over_elements,
            adversary=(preset.adversary() if preset else PatchGAN()) if adversarial else None,
            adversarial_weight=preset.adversarial_weight if preset else 0.75,
            adversarial_start=(settings.adversarial_start or 0) // batch,
        )
        self.quantise_from = settings.unquantised // batch

    def forward(self, images: Tensor, *, step: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        """Named scalars of a batch of images in [-1, 1], and with an adversary the reconstruction."""
        autoencoder = self.objective.autoencoder
        if isinstance(autoencoder, VQAutoencoder) and step == self.quantise_from and self.training:
            with torch.no_grad():
                autoencoder.initialise_codebook(autoencoder.encode(images).latents, generator=generator)
        if isinstance(autoencoder, GumbelAutoencoder):
            share = step / self.settings.training.steps
            autoencoder.quantizer.temperature = LEAST_TEMPERATURE**share
        out = self.objective(images, step=step, quantise=step >= self.quantise_from, generator=generator)
        terms = {name: term.mean() for name, term in out.terms.items()} | self._code_use(out.reconstruction.indices)
        if self.objective.adversary is not None:
            terms["reconstruction image"] = out.reconstruction.images
        return {"loss": out.loss.mean(), **terms}

    def _code_use(self, indices: Tensor | None) -> Mapping[str, Tensor]:
        """Share of the codes that the batch uses, and the perplexity of their use."""
        autoencoder = self.objective.autoencoder
        if indices is None or not isinstance(autoencoder, TokenAutoencoder):
            return {}
        p = usage(indices, autoencoder.quantizer.size)
        return {"codes used": (p > 0).float().mean(), "perplexity": torch.special.entr(p).sum().exp()}

    def judge(self, images: Tensor, reconstruction: Tensor, *, step: int) -> Tensor:
        """The discriminator's loss."""
        return self.objective.discriminator_loss(images, reconstruction, step=step).mean()


def build(kind: type[Autoencoder], settings: FirstStage) -> Autoencoder:
    """A fresh autoencoder."""
    return kind(**settings.network)


def train_vq(desk: Desk) -> None:
    """Train the VQ autoencoder."""
    _train(VQAutoencoder, desk)


def train_kl(desk: Desk) -> None:
    """Train the KL autoencoder and standardise its latents."""
    _train(KLAutoencoder, desk)


def _train(kind: type[Autoencoder], desk: Desk) -> None:
    """Train on the training images: `autoencoder/`, `reconstructions.safetensors`, `curves.json`."""
    settings: Reconstructing = desk.settings
    training = settings.stage.training
    images = pictures(desk.inputs["data"] / TRAIN)
    torch.manual_seed(training.seed)
    autoencoder = build(kind, settings.stage)
    objective = AutoencoderObjective(autoencoder, settings.stage)

    def batch(indices: Tensor, generator: torch.Generator) -> tuple[Tensor]:
        return (to_signed(images[indices].to(generator.device)),)

    fit(desk, steps_of(objective, training), batch, len(images), training, some_unused=True)
    autoencoder = autoencoder.to(device()).eval()
    standardise(autoencoder, images, desk)
    if not desk.leads:
        return
    with torch.inference_mode():
        held_out = pictures(desk.inputs["data"] / HELD_OUT)[: settings.reconstructions]
        rebuilt = through(held_out, lambda x: reconstruct(autoencoder, x), desk)
    autoencoder.cpu().save_pretrained(desk.folder / "autoencoder")
    save_file({"images": rebuilt}, desk.folder / "reconstructions.safetensors")


def standardise(autoencoder: Autoencoder, images: Tensor, desk: Desk) -> None:
    """Fit the scale of latents, where an autoencoder has one, to uint8 images (n, 3, H, W).

    The ranks that run the stage do it together, each reading a part of the images: alone, one would wait for ever.
    """
    if isinstance(autoencoder, KLAutoencoder):
        parts = images.split(BATCH)[desk.rank :: desk.ranks]
        with torch.inference_mode():
            autoencoder.fit_scale(to_signed(part.to(device())) for part in parts)


def steps_of(objective: AutoencoderObjective, training: TrainingSettings) -> Callable[[Any], Any]:
    """One optimiser, or two where there is an adversary."""
    inner = objective.objective
    if inner.adversary is None:
        return lambda accelerator: GradientStep(objective, training, accelerator)
    parts = (inner.autoencoder, inner.adversary)
    return lambda accelerator: AdversarialStep(objective, objective.judge, parts, training, accelerator)


def reconstruct(autoencoder: Autoencoder, images: Tensor) -> Tensor:
    if isinstance(autoencoder, TokenAutoencoder):
        return autoencoder.decode(autoencoder.encode(images).indices)
    return autoencoder.decode(autoencoder.encode(images, sample=False).values)


def encode_vq(desk: Desk) -> None:
    """Tokens of the training images: `clean.safetensors` with `tokens (N, n)` and `codebook (k, d)`."""
    autoencoder = VQAutoencoder.from_pretrained(desk.inputs["autoencoder"] / "autoencoder").to(device()).eval()
    whole = {"codebook": autoencoder.codebook.detach(), "grid": grid_of(autoencoder, desk)}
    write_codes(desk, lambda images: tokens_of(autoencoder, images), desk.folder / CLEAN, whole)


def encode_kl(desk: Desk) -> None:
    """Latents of the training images: `clean.safetensors` with `mean` and `deviation`, both (N, c, h, w), scaled."""
    autoencoder = KLAutoencoder.from_pretrained(desk.inputs["autoencoder"] / "autoencoder").to(device()).eval()
    write_codes(desk, lambda images: posterior(autoencoder, images), desk.folder / CLEAN)


def tokens_of(autoencoder: TokenAutoencoder, images: Tensor) -> dict[str, Tensor]:
    """`tokens` (b, n) of uint8 pictures."""
    return {"tokens": autoencoder.encode(to_signed(images)).indices.flatten(1)}


def posterior(autoencoder: KLAutoencoder, images: Tensor) -> dict[str, Tensor]:
    """`mean` and `deviation` (b, c, h, w) of the latents of uint8 pictures, scaled."""
    latents = autoencoder.encode(to_signed(images), sample=False)
    scale = autoencoder.latent_scale[:, None, None]
    return {"mean": latents.values, "deviation": torch.exp(0.5 * latents.log_variance) * scale}


def grid_of(autoencoder: TokenAutoencoder, desk: Desk) -> Tensor:
    """Height and width (2) of the tokens of a training picture."""
    with torch.inference_mode():
        return torch.tensor(autoencoder.encode(to_signed(first_picture(desk))).indices.shape[1:])


def decode_vq(desk: Desk) -> None:
    """Images of sampled tokens: `images.safetensors`."""
    autoencoder = VQAutoencoder.from_pretrained(desk.inputs["autoencoder"] / "autoencoder").to(device()).eval()
    grid = load_file(desk.inputs["clean"] / "clean.safetensors")["grid"].tolist()
    images = through(samples(desk.inputs["samples"]).unflatten(1, grid), autoencoder.decode, desk)
    save_file({"images": images}, desk.folder / "images.safetensors")


def decode_kl(desk: Desk) -> None:
    """Images of sampled latents: `images.safetensors`."""
    autoencoder = KLAutoencoder.from_pretrained(desk.inputs["autoencoder"] / "autoencoder").to(device()).eval()
    images = through(samples(desk.inputs["samples"]), autoencoder.decode, desk)
    save_file({"images": images}, desk.folder / "images.safetensors")


def through(values: Tensor, function: Callable[[Tensor], Tensor], desk: Desk) -> Tensor:
    """uint8 images of `function`, part by part; uint8 values are brought to [-1, 1] first."""
    with torch.inference_mode():
        signed = values.dtype == torch.uint8
        return torch.cat(
            [
                to_bytes(function(to_signed(part.to(device())) if signed else part.to(device()))).cpu()
                for part in _parts(values, desk)
            ]
        ).contiguous()


def _parts(values: Tensor, desk: Desk) -> Iterator[Tensor]:
    return desk.track(values.split(BATCH))


def to_signed(images: Tensor) -> Tensor:
    """uint8 to float in [-1, 1]."""
    return images.float() / 127.5 - 1


def to_bytes(images: Tensor) -> Tensor:
    """Float in [-1, 1] (clipped) to uint8, rounded."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def vq_size(settings: Reconstructing) -> Mapping[str, int]:
    """Size of a VQ autoencoder and its training, for the plan."""
    return _size(VQAutoencoder, settings)


def kl_size(settings: Reconstructing) -> Mapping[str, int]:
    """Size of a KL autoencoder and its training, for the plan."""
    return _size(KLAutoencoder, settings)


def _size(kind: type[Autoencoder], settings: Reconstructing) -> Mapping[str, int]:
    with torch.device("meta"):
        count = sum(p.numel() for p in build(kind, settings.stage).parameters())
    return {"parameters": count, "steps": settings.stage.training.steps}


def vq_cost(settings: Reconstructing) -> costs.Size:
    """What training a VQ autoencoder costs, without the adversary and the network of a perceptual distance."""
    return _cost(VQAutoencoder, settings.stage)


def kl_cost(settings: Reconstructing) -> costs.Size:
    """What training a KL autoencoder costs, likewise."""
    return _cost(KLAutoencoder, settings.stage)


class ThereAndBack(nn.Module):
    """An autoencoder as `costs` calls it: the choice of codes, which is no gradient's way, is left out."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, images: Tensor) -> Tensor:
        if isinstance(self.autoencoder, TokenAutoencoder):
            rebuilt: Tensor = self.autoencoder(images, quantise=False).images
        else:
            rebuilt = self.autoencoder(images).images
        return rebuilt


def _cost(kind: type[Autoencoder], stage: FirstStage) -> costs.Size:
    side = stage.network["resolution"]
    return costs.training(
        lambda: ThereAndBack(build(kind, stage)), lambda: (torch.zeros(1, 3, side, side),), stage.training
    )
