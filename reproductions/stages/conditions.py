"""What a denoiser is told of each training picture, and what samples are drawn for."""

from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from reproductions import conditioning, text_to_image
from reproductions.artefacts import Desk
from reproductions.conditioning import Conditioning, Kind
from reproductions.data import Split
from reproductions.gathering.splits import HELD_OUT, PICTURES, TRAIN
from reproductions.stages import texts
from reproductions.stages.latent_presets import ClassStates
from reproductions.stages.preparing import CaptionTokens, keep


def read(desk: Desk) -> None:
    """Read a data set with what it is conditioned on: `train/`, `held_out/` and `facts.json`."""
    keep(lambda: conditioning.read(desk.settings, desk.folder, progress=desk.track), desk)


@dataclass(frozen=True)
class Prompts:
    """What samples are drawn for: labels (b,), caption tokens (b, l), more or nothing, and the same in words."""

    values: Any
    words: tuple[str, ...]

    def of(self, which: range) -> Any:
        """The values of some of the samples."""
        return None if self.values is None else self.values[which.start : which.stop]


def prompts(desk: Desk, told: Conditioning, split: str, number: int) -> Prompts:
    """Classes in turn; or of the pictures of a split, in turn, one caption each; or nothing."""
    if told.kind is Kind.NONE:
        return Prompts(None, ("",) * number)
    if told.kind is Kind.CLASS:
        labels = torch.arange(number) % len(told.classes)
        return Prompts(labels, tuple(told.classes[label].replace("_", " ") for label in labels.tolist()))
    words = text_to_image.held_out_captions(Split.load(desk.inputs["data"] / split), number)
    return Prompts(texts.read(words, texts.words(desk, told.captions)).tokens, tuple(words))


def of_pictures(desk: Desk, told: Conditioning, number: int) -> Tensor | None:
    """What is told of the first held-out pictures."""
    if told.kind is Kind.CLASS:
        labels = Split.load(desk.inputs["data"] / HELD_OUT).attributes
        assert labels is not None
        return labels[:number, 0]
    return prompts(desk, told, HELD_OUT, number).values


class Teller:
    """Draws what the denoiser is told of training pictures."""

    def __init__(self, desk: Desk, told: Conditioning, where: torch.device) -> None:
        self.captions = CaptionTokens(desk, where) if told.kind is Kind.CAPTION else None
        self.labels: Tensor | None = None
        if told.kind is Kind.CLASS:
            self.labels = load_file(desk.inputs["data"] / TRAIN / PICTURES)["attributes"][:, 0].to(where)

    def draw(self, indices: Tensor, generator: torch.Generator) -> Tensor | None:
        """Labels (b,), tokens (b, l) of one caption of each picture, or None."""
        if self.captions is not None:
            return self.captions.draw(indices, generator)
        return None if self.labels is None else self.labels[indices]


def reader(desk: Desk, told: Conditioning) -> nn.Module:
    """What makes a condition of labels (states where they have a width, or as they are) or of caption tokens."""
    if told.captions is not None:
        return texts.encoder(desk, told.captions)
    if told.class_width is not None:
        return ClassStates(classes=len(told.classes), width=told.class_width)
    return nn.Identity()


def save_reader(module: nn.Module, desk: Desk) -> None:
    """Write what was trained of it, if anything."""
    if state := module.state_dict():
        save_file(state, desk.folder / "captions.safetensors")


def trained_reader(desk: Desk, told: Conditioning) -> nn.Module:
    """The reader of input "model"."""
    module = reader(desk, told)
    if module.state_dict():
        module.load_state_dict(load_file(desk.inputs["model"] / "captions.safetensors"))
    return module.to(text_to_image.device()).eval()


def arguments(told: Conditioning) -> dict[str, Any]:
    """The arguments by which either denoiser is built for what it is told."""
    if told.captions is not None:
        return {"condition_width": told.captions.width}
    if told.class_width is not None:
        return {"condition_width": told.class_width}
    return {"classes": len(told.classes)} if told.classes else {}


def example(told: Conditioning) -> Tensor | None:
    """What a denoiser is told of one picture, in shape alone: states (1, l, d), a label (1,) or nothing."""
    if told.captions is not None:
        return torch.zeros(1, told.captions.length, told.captions.width)
    if told.class_width is not None:
        return torch.zeros(1, 1, told.class_width)
    return torch.zeros(1, dtype=torch.int64) if told.classes else None
