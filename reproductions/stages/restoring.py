"""Restoring pictures by a denoiser trained for it: filled in behind masks, or enlarged; held-out ones are scored."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from reproductions import costs
from reproductions.artefacts import Desk, write_json
from reproductions.data import Split
from reproductions.gathering.splits import HELD_OUT
from reproductions.loop.streams import stream
from reproductions.recipes.tasks import SuperResolution
from reproductions.stages import beside, conditions, denoising, latent_denoising
from reproductions.stages.autoencoding import through, to_bytes, to_signed
from reproductions.stages.beside import Given, reduced
from reproductions.stages.coding import Decoder
from reproductions.stages.continuous import ForwardProcess, beside_small
from reproductions.stages.denoiser_scores import Featuring, compared, feature_distance
from reproductions.stages.evaluating import MaskKind, draw_masks, mean_score, psnr, resize_bytes, score_facts, ssim
from reproductions.stages.latent_denoising import Training, Walk
from reproductions.text_to_image import device, in_parts, samples

SSIM_SIDE = 11
IDENTICAL = 100.0
RECODED = "coded and decoded"


@dataclass(frozen=True)
class Restoring:
    """How many held-out pictures are restored, along which walk, from which seed, in what batches.

    mask: behind which masks, where they are filled in.
    """

    training: Training
    walk: Walk
    number: int
    batch: int
    seed: int
    mask: MaskKind | None = None


@dataclass(frozen=True)
class Restorer:
    """A denoiser trained for a task, with its first stage; grid: size of its states."""

    module: denoising.Conditional
    coder: Decoder
    draw: denoising.Draw
    grid: tuple[int, ...]
    precision: str
    augmented: bool = False

    def fill(self, images: Tensor, mask: Tensor, told: Tensor | None, generators: Sequence[torch.Generator]) -> Tensor:
        """uint8 images (b, 3, H, W), filled in where mask (b, 1, H, W) is true; the rest stays as it is."""
        images, mask = images.to(device()), mask.to(device())
        with torch.inference_mode():
            given = beside.hole(self.coder, to_signed(images), mask)
        return torch.where(mask, self._drawn(given, told, generators), images).cpu()

    def enlarge(
        self, small: Tensor, told: Tensor | None, generators: Sequence[torch.Generator], *, level: int = 0
    ) -> Tensor:
        """uint8 images (b, 3, H, W) of uint8 small ones, which are noised to a step first where the denoiser reads it.

        Source: Imagen cascade
        """
        process = self.module.objective.get_submodule("process")
        assert isinstance(process, ForwardProcess)
        levels = torch.full((len(small),), level, device=device()) if self.augmented else None
        pictures = to_signed(small.to(device()))
        given = beside_small(pictures, self.grid, process=process, level=levels, generator=list(generators))
        return self._drawn(given, told, generators).cpu()

    def _drawn(self, given: Any, told: Tensor | None, generators: Sequence[torch.Generator]) -> Tensor:
        values = denoising.drawn(self.module, Given(told, given), generators, self.precision, self.draw)
        with torch.inference_mode():
            return to_bytes(self.coder.floats(values))


def restorer(desk: Desk, training: Training, walk: Walk, precision: str) -> Restorer:
    """The denoiser of input "model", ready to restore."""
    module, shape = latent_denoising.trained(desk, training)
    draw = latent_denoising.drawer(walk, training, shape)
    return Restorer(module, Decoder(desk.inputs), draw, shape[1:], precision, training.augmented)


def restore(desk: Desk) -> None:
    """Restore the first held-out pictures: `images.safetensors`, uint8.

    Picture i depends on (seed, i) alone; an interrupted stage goes on after its last batch.
    """
    settings: Restoring = desk.settings
    training, task = settings.training, settings.training.task
    by = restorer(desk, training, settings.walk, training.denoiser.training.precision)
    images = held_out(desk, settings.number)
    told = conditions.of_pictures(desk, training.told, len(images))

    def make(mine: range) -> Tensor:
        which = slice(mine.start, mine.stop)
        given = None if told is None else told[which]
        generators = [stream(settings.seed, i, 0, device()) for i in mine]
        if isinstance(task, SuperResolution):
            return by.enlarge(reduced(images[which], task.factor), given, generators)
        return by.fill(images[which], masks(settings, images)[which], given, generators)

    in_parts(desk, len(images), settings.batch, make)
    save_file({"images": samples(desk.folder)}, desk.folder / "images.safetensors")
    for path in desk.folder.glob("samples-*.safetensors"):
        path.unlink()


@dataclass(frozen=True)
class Enlarging:
    """How pictures that another model drew are enlarged; level: the step to which they are noised first."""

    training: Training
    walk: Walk
    number: int
    batch: int
    seed: int
    level: int = 0


def enlarge(desk: Desk) -> None:
    """Enlarge the pictures of input "small", drawn for the prompts: `samples-*.safetensors`, uint8.

    Picture i depends on (seed, i) alone, by other numbers than those that drew the small one.
    """
    settings: Enlarging = desk.settings
    training = settings.training
    by = restorer(desk, training, settings.walk, training.denoiser.training.precision)
    small = load_file(desk.inputs["small"] / "images.safetensors")["images"]
    wanted = conditions.prompts(desk, training.told, HELD_OUT, settings.number)

    def make(mine: range) -> Tensor:
        generators = [stream(settings.seed, i, 1, device()) for i in mine]
        return by.enlarge(small[mine.start : mine.stop], wanted.of(mine), generators, level=settings.level)

    in_parts(desk, settings.number, settings.batch, make)


def enlarging_cost(settings: Enlarging, shape: Sequence[int]) -> costs.Size:
    """What enlarging costs."""
    calls = settings.walk.calls(settings.training.denoiser)
    return latent_denoising.drawing_cost(settings.training, shape, settings.number, calls)


def held_out(desk: Desk, number: int) -> Tensor:
    """The first held-out pictures."""
    return held_out_of(desk.inputs["data"], number)


def held_out_of(data: Path, number: int) -> Tensor:
    """The same of the folder of a data stage."""
    return Split.load(data / HELD_OUT).images[:number]


def masks(settings: Restoring, images: Tensor) -> Tensor:
    """The masks (b, 1, H, W) of held-out pictures; mask i depends on (seed, i) alone."""
    assert settings.mask is not None
    return draw_masks(settings.mask, len(images), *images.shape[2:], seed=settings.seed)


def hidden_psnr(real: Tensor, fake: Tensor, mask: Tensor) -> Tensor:
    """PSNR (b,) of where mask (b, 1, H, W) is true, in dB; elsewhere the uint8 pictures must be the same."""
    apart: Tensor = psnr(real, fake) + 10 * torch.log10(mask.double().mean((1, 2, 3)))
    return apart.clamp(max=IDENTICAL)


def bicubic(images: Tensor, factor: int) -> Tensor:
    """uint8 images (b, 3, H, W), reduced by a factor and enlarged again, both as Pillow does."""
    return resize_bytes(reduced(images, factor), *images.shape[2:])


def mean_colour(images: Tensor, mask: Tensor) -> Tensor:
    """uint8 images (b, 3, H, W) with the mean colour of what is kept wherever mask (b, 1, H, W) is true."""
    kept = (~mask).double()
    mean = (images * kept).sum((2, 3), keepdim=True) / kept.sum((2, 3), keepdim=True)
    return torch.where(mask, mean.round().to(torch.uint8), images)


@dataclass(frozen=True)
class Judging:
    """What was restored and how it is compared: each row of inputs "row ..." with what no network does.

    split: against the features of which pictures.
    """

    rows: Mapping[str, Restoring]
    features: Featuring
    split: str
    metrics: tuple[str, ...] = ("fid", "kid", "pr")
    resamples: int = 20


def judge(desk: Desk) -> None:
    """Scores of everything restored: `scores.json`, for each row its scores and notes."""
    settings: Judging = desk.settings
    found: dict[str, Any] = {}
    for name, restoring in settings.rows.items():
        fake = load_file(desk.inputs[f"row {name}"] / "images.safetensors")["images"]
        real, task = held_out(desk, restoring.number), restoring.training.task
        score = partial(_scored, desk, settings, real)
        if isinstance(task, SuperResolution):
            found[name] = score(fake, consistent=task.factor)
            found["bicubic"] = score(bicubic(real, task.factor), consistent=task.factor)
        else:
            mask = masks(restoring, real)
            found[f"{name}, filled in"] = score(fake, mask=mask)
            found[f"{name}, mean colour"] = score(mean_colour(real, mask), mask=mask)
    if "autoencoder" in desk.inputs:
        real = held_out(desk, max(each.number for each in settings.rows.values()))
        coder = Decoder(desk.inputs)
        recoded = through(real, lambda images: coder.floats(coder.encode(images)), desk)
        found[RECODED] = _scored(desk, settings, real, recoded)
    write_json(desk.folder / "scores.json", found)


def _scored(
    desk: Desk,
    settings: Judging,
    real: Tensor,
    fake: Tensor,
    *,
    mask: Tensor | None = None,
    consistent: int | None = None,
) -> dict[str, Any]:
    """Scores of pictures beside their originals, then of all of them together; what is identical counts as 100 dB."""
    pairs: list[tuple[str, Callable[[], Tensor]]] = [("PSNR", lambda: psnr(real, fake))]
    if mask is not None:
        pairs = [("PSNR, hidden part", lambda: hidden_psnr(real, fake, mask))]
    if min(real.shape[2:]) >= SSIM_SIDE:
        pairs.append(("SSIM", lambda: ssim(real, fake)))
    if consistent is not None:
        pairs.append(("PSNR, reduced", lambda: psnr(reduced(real, consistent), reduced(fake, consistent))))
    own = [mean_score(values().clamp(max=IDENTICAL), name) for name, values in pairs]
    own.append(feature_distance(desk, fake, settings.features))
    found, notes = compared(desk, fake, settings.features, settings.split, settings.metrics, settings.resamples)
    return {"scores": [score_facts(each) for each in (*own, *found)], "notes": notes}
