"""Scores of a text-to-image table, in a space chosen once for all rows: against training or held-out data."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from reproductions.artefacts import Desk, write_json
from reproductions.data import Split
from reproductions.gathering.splits import HELD_OUT, TRAIN
from reproductions.located import Located
from reproductions.stages import texts
from reproductions.stages.evaluating import FeatureSpace, clip_scores, scores_of, side_of, space_of
from reproductions.stages.evaluating import Scoring as How
from reproductions.stages.measuring import judge_space, plain
from reproductions.text_to_image import held_out_captions

BATCH = 256


@dataclass(frozen=True)
class Space:
    """A feature space: that of a judge of drawings, or one by its name or the place of its weights."""

    drawings: str | None = None
    name: str = "pixels"
    weights: Located | None = None

    def open(self, inputs: Mapping[str, Path]) -> FeatureSpace:
        """The space itself; a judge is the input "judge" of a stage."""
        if self.drawings is not None:
            return judge_space(inputs["judge"], self.drawings)[1]
        return space_of(str(self.weights.path) if self.weights is not None else self.name, None)


@dataclass(frozen=True)
class Reference:
    """How many pictures samples are compared with, in which space."""

    space: Space
    number: int


def reference(desk: Desk) -> None:
    """Features of the first training pictures: `features.safetensors`."""
    _refer(desk, TRAIN)


def held_out_reference(desk: Desk) -> None:
    """Features of the first held-out pictures: `features.safetensors`."""
    _refer(desk, HELD_OUT)


def _refer(desk: Desk, split: str) -> None:
    settings: Reference = desk.settings
    images = Split.load(desk.inputs["data"] / split).images[: settings.number]
    save_file({"features": _features(images, settings.space, desk)}, desk.folder / "features.safetensors")


@dataclass(frozen=True)
class Scoring:
    """By which metrics samples are scored; held_out: score held-out pictures instead, so many of them.

    resamples: of bootstraps, for the intervals over samples that are not known in closed form.
    """

    space: Space
    metrics: tuple[str, ...] = ("fid", "pr")
    held_out: int | None = None
    resamples: int = 20


def score(desk: Desk) -> None:
    """Scores of the pictures of input "images": `scores.json`, by name."""
    settings: Scoring = desk.settings
    if settings.held_out is None:
        images = load_file(desk.inputs["images"] / "images.safetensors")["images"]
    else:
        images = Split.load(desk.inputs["data"] / HELD_OUT).images[: settings.held_out]
    space = settings.space.open(desk.inputs)
    real = load_file(desk.inputs["real"] / "features.safetensors")["features"]
    sides = side_of("real", real, space), side_of("samples", _features(images, settings.space, desk), space)
    found, notes = scores_of(*sides, space, settings.metrics, How(resamples=settings.resamples))
    write_json(desk.folder / "scores.json", {each.name: plain(each) for each in found})
    write_json(desk.folder / "notes.json", notes)


@dataclass(frozen=True)
class Fitting:
    """How many samples are compared with their captions; called: by which CLIP."""

    number: int
    called: str


def fit_captions(desk: Desk) -> None:
    """How well samples fit the captions they were drawn for, by the CLIP of input "clip": `scores.json`."""
    settings: Fitting = desk.settings
    images = load_file(desk.inputs["images"] / "images.safetensors")["images"][: settings.number]
    spoken = held_out_captions(Split.load(desk.inputs["data"] / HELD_OUT), len(images))
    found = clip_scores(images, spoken, desk.inputs["clip"] / texts.ENCODER, settings.called, desk.track)
    write_json(desk.folder / "scores.json", {found.name: plain(found)})


def _features(images: Tensor, settings: Space, desk: Desk) -> Tensor:
    space = settings.open(desk.inputs)
    parts = desk.track(images.split(BATCH), math.ceil(len(images) / BATCH))
    with torch.inference_mode():
        return torch.cat([space(part) for part in parts]).contiguous()
