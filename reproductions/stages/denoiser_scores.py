"""Scores of samples against real pictures: features of the real ones once, then each set of samples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from reproductions.artefacts import Desk, write_json
from reproductions.cifar_resnet import CLASSES, cifar_resnet
from reproductions.data import Split
from reproductions.gathering.splits import HELD_OUT, TRAIN
from reproductions.located import Located
from reproductions.stages.evaluating import (
    FeatureSpace,
    Score,
    Scoring,
    mean_score,
    proportion,
    score_facts,
    scores_of,
    side_of,
    small_space,
)

BATCH = 256
LEAST = 4


@dataclass(frozen=True)
class Featuring:
    """The weights of a CIFAR residual network (None: pixels averaged to 8 x 8), and how many pictures of each split."""

    weights: Located | None
    number: int


def real_features(desk: Desk) -> None:
    """Features of the real pictures: `features.safetensors` with `train` and `held_out`, each (n, d)."""
    settings: Featuring = desk.settings
    pictures = {split: Split.load(desk.inputs["data"] / split).images[: settings.number] for split in (TRAIN, HELD_OUT)}
    if (held_out := len(pictures[HELD_OUT])) < LEAST:
        raise ValueError(
            f"{held_out} held-out pictures are too few to score samples against, which takes {LEAST}: give more "
            f"pictures (of those without a held-out split a tenth is held out), or a --held-out of {LEAST} at least"
        )
    found = {split: _features(images, settings, desk) for split, images in pictures.items()}
    save_file(found, desk.folder / "features.safetensors")


@dataclass(frozen=True)
class Comparing:
    """Against which split samples are scored, and by which metrics; classes: of which sample i was drawn for class i.

    With the classes of CIFAR-10 and the weights of a network that knows them, its accuracy is a score too.
    """

    features: Featuring
    split: str
    classes: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("fid", "kid", "pr")
    resamples: int = 20


def score(desk: Desk) -> None:
    """Scores of the pictures of input "images", or of the training pictures themselves: `scores.json`."""
    settings: Comparing = desk.settings
    real = load_file(desk.inputs["real"] / "features.safetensors")
    if "images" in desk.inputs:
        images = load_file(desk.inputs["images"] / "images.safetensors")["images"]
        fake, side = _features(images, settings.features, desk), images.shape[-1]
    else:
        fake = real[TRAIN]
        side = Split.load(desk.inputs["data"] / HELD_OUT).images.shape[-1]
    space = _space(settings.features, side)
    sides = side_of("real", real[settings.split], space), side_of("samples", fake, space)
    found, notes = scores_of(*sides, space, settings.metrics, Scoring(settings.resamples))
    weights = settings.features.weights
    if settings.classes == CLASSES and weights is not None:
        with torch.inference_mode():
            right = cifar_resnet(weights.path).linear(fake).argmax(1) == _labels(desk, len(fake))
        found.append(proportion(right, f"class accuracy[{space.name}]"))
    write_json(desk.folder / "scores.json", {"scores": [score_facts(each) for each in found], "notes": notes})


def compared(
    desk: Desk, images: Tensor, featuring: Featuring, split: str, metrics: Sequence[str], resamples: int
) -> tuple[list[Score], list[str]]:
    """Scores of uint8 images against the features of a split in input "real", and what has to be said about them."""
    space = _space(featuring, images.shape[-1])
    real = side_of("real", load_file(desk.inputs["real"] / "features.safetensors")[split], space)
    fake = side_of("samples", _features(images, featuring, desk), space)
    return scores_of(real, fake, space, metrics, Scoring(resamples))


def feature_distance(desk: Desk, images: Tensor, featuring: Featuring) -> Score:
    """Mean squared distance of the directions of features of uint8 images from those of the held-out originals."""
    space = _space(featuring, images.shape[-1])
    real = load_file(desk.inputs["real"] / "features.safetensors")[HELD_OUT][: len(images)]
    first, second = (F.normalize(side.double(), dim=1) for side in (real, _features(images, featuring, desk)))
    return mean_score((first - second).square().sum(1), f"feature distance[{space.name}]")


def _labels(desk: Desk, number: int) -> Tensor:
    """Labels of the samples, or of the training pictures."""
    if "images" in desk.inputs:
        return torch.arange(number) % len(CLASSES)
    attributes = Split.load(desk.inputs["data"] / TRAIN).attributes
    assert attributes is not None
    return attributes[:number, 0]


def _space(settings: Featuring, side: int) -> FeatureSpace:
    return small_space(None if settings.weights is None else settings.weights.path, side)


def _features(images: Tensor, settings: Featuring, desk: Desk) -> Tensor:
    space = _space(settings, images.shape[-1])
    parts = desk.track(images.split(BATCH), math.ceil(len(images) / BATCH))
    with torch.inference_mode():
        return torch.cat([space(part) for part in parts]).contiguous()
