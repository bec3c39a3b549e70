"""Scores of images against the held-out ones, each named for the feature space that it was measured in."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diffusion_evaluation import (
    ALEX,
    VGG,
    FeatureSpace,
    Score,
    bootstrap,
    frechet_distance,
    lpips_from_state_dicts,
    mean_score,
    module_space,
    pixel_space,
    proportion,
    psnr,
    sliced_wasserstein,
    ssim,
)
from reproductions.artefacts import Desk, write_json
from reproductions.cifar_resnet import cifar_resnet, layers
from reproductions.data import Split
from reproductions.drawn.judge import Judge
from reproductions.drawn.shapes import SETS
from reproductions.gathering.splits import HELD_OUT
from reproductions.stages.evaluating import Scoring as How
from reproductions.stages.evaluating import scores_of, side_of

ACCURACY = "caption accuracy"


@dataclass(frozen=True)
class Measuring:
    """Whose attributes the judge reads (None: no judge), and whether image i reconstructs held-out image i."""

    drawings: str | None
    paired: bool = False


class JudgeFeatures(nn.Module):
    """The judge's pooled features, as a feature space."""

    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self.judge = judge

    def forward(self, images: Tensor) -> Tensor:
        """Features (b, 128) of images in [-1, 1]."""
        return self.judge.features(images)


def perceptual_distance(files: Sequence[str]) -> nn.Module:
    """LPIPS on VGG16 from its weights' files: images (b, 3, H, W) in [-1, 1] twice, to a distance (b,)."""
    return lpips_from_state_dicts(VGG, *(load_file(file) for file in files))


def alex_distance(files: Sequence[str]) -> nn.Module:
    """LPIPS on AlexNet, likewise: the one that tables of filled-in pictures are in."""
    return lpips_from_state_dicts(ALEX, *(load_file(file) for file in files))


def measure(desk: Desk) -> None:
    """Scores of the input "images" (`images.safetensors` or `reconstructions.safetensors`): `scores.json`.

    With a judge, `right.safetensors` says of each image whether its whole caption is right.
    """
    settings: Measuring = desk.settings
    name = "reconstructions" if settings.paired else "images"
    fake = load_file(desk.inputs["images"] / f"{name}.safetensors")["images"]
    real = Split.load(desk.inputs["data"] / HELD_OUT)
    scores: dict[str, Score] = {}
    with torch.inference_mode():
        if settings.drawings is not None:
            scores |= _judged(desk, settings.drawings, real, fake)
        same = real.images[: len(fake)]
        distance = sliced_wasserstein(same, fake, generator=torch.Generator().manual_seed(0)).mean
        scores[distance.name] = distance
        if settings.paired:
            score = mean_score(psnr(same, fake), "PSNR", n_real=len(fake))
            scores[score.name] = score
    write_json(desk.folder / "scores.json", {score.name: plain(score) for score in scores.values()})


@dataclass(frozen=True)
class Comparing:
    """Reconstructions against their originals: the file of a CIFAR residual network for the rFID, and its SHA-256.

    Without one, the rFID is that of pixels averaged down to 8 x 8.
    """

    features: str | None
    sha256: str | None = None
    resamples: int = 100


def compare(desk: Desk) -> None:
    """PSNR, SSIM and rFID of `reconstructions.safetensors`, with intervals: `scores.json`."""
    settings: Comparing = desk.settings
    fake = load_file(desk.inputs["images"] / "reconstructions.safetensors")["images"]
    real = Split.load(desk.inputs["data"] / HELD_OUT).images[: len(fake)]
    space = pixel_space()
    if settings.features is not None:
        network = cifar_resnet(Path(settings.features))
        version = "1" if real.shape[-1] == 32 else f"1, {real.shape[-1]} pixels averaged to 32"
        space = module_space(f"cifar-resnet{layers(network)}", network, version=version)
    features = [torch.cat([space(part) for part in images.split(256)]).double() for images in (real, fake)]

    def distance(real: Tensor, fake: Tensor) -> Score:
        return replace(frechet_distance(real, fake, space=space.identity), name=f"rFID[{space.name}]")

    scores = [
        mean_score(psnr(real, fake), "PSNR", n_real=len(real)),
        mean_score(ssim(real, fake), "SSIM", n_real=len(real)),
        bootstrap(distance, *features, resamples=settings.resamples, generator=torch.Generator().manual_seed(0)),
    ]
    write_json(desk.folder / "scores.json", {s.name: plain(s) for s in scores})


def _judged(desk: Desk, drawings: str, real: Split, fake: Tensor) -> dict[str, Score]:
    assert real.attributes is not None
    judge, space = judge_space(desk.inputs["judge"], drawings)
    sides = (side_of(name, space(images), space) for name, images in (("real", real.images), ("samples", fake)))
    (distance,), _ = scores_of(*sides, space, ("fid",), How())
    right = judge.right(fake, real.attributes[torch.arange(len(fake)) % len(real.attributes)])
    save_file({"right": right.contiguous()}, desk.folder / "right.safetensors")
    return {"distance": distance, "accuracy": proportion(right, ACCURACY)}


def judge_space(folder: Path, drawings: str) -> tuple[Judge, FeatureSpace]:
    """The trained judge, and the feature space that it makes: the name of its scores is the name of the drawings."""
    judge = Judge(SETS[drawings].vocabulary)
    judge.load_state_dict(load_file(folder / "judge.safetensors"))
    return judge.eval(), module_space(drawings, JudgeFeatures(judge.eval()))


def plain(score: Score) -> dict[str, Any]:
    """A score as JSON-able data."""
    return {
        "value": score.value,
        "n_real": score.n_real,
        "n_fake": score.n_fake,
        "low": score.low,
        "high": score.high,
        "space": None if score.space is None else vars(score.space),
    }
