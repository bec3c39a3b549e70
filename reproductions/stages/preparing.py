"""Before any model of the paper: pictures, caption tokens, and the judge that reads drawn pictures."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from reproductions.artefacts import Desk, write_json
from reproductions.data import DataSettings, Split, Splits, load
from reproductions.drawn.drawing import Stream
from reproductions.drawn.judge import Judge
from reproductions.drawn.shapes import SETS
from reproductions.gathering.rows import forget, near, taken
from reproductions.gathering.splits import HELD_OUT, PICTURES, TRAIN
from reproductions.loop.steps import GradientStep, TrainingSettings
from reproductions.settings import Captions, TextEncoder
from reproductions.stages import texts
from reproductions.stages.captioning import BytePairs, tokens_of
from reproductions.training import fit


@dataclass(frozen=True)
class Reading:
    """What to read, and what it was when the plan was made."""

    data: DataSettings
    fingerprint: str


def read(desk: Desk) -> None:
    """Read or draw the data set: `train/`, `held_out/` and `facts.json`."""
    reading: Reading = desk.settings
    keep(lambda: load(reading.data, desk.folder, progress=desk.track), desk)


def keep(read: Callable[[], Splits], desk: Desk) -> None:
    """Write both splits, where they were not read into the stage's folder, and what is to be said of them."""
    folders = desk.folder / TRAIN, desk.folder / HELD_OUT
    if not (desk.folder / "facts.json").exists():
        splits = read()
        for split, folder in zip((splits.train, splits.held_out), folders, strict=True):
            if split.folder != folder:
                split.save(folder)
        write_json(desk.folder / "facts.json", _facts(splits))
    for folder in folders:
        forget(folder / PICTURES)


def _facts(splits: Splits) -> Mapping[str, Any]:
    return {
        "name": splits.name,
        "digest": splits.digest,
        "note": splits.note,
        "train": len(splits.train.captions),
        "held_out": len(splits.held_out.captions),
        "bad": [f"{bad.where}: {bad.reason}" for bad in splits.bad],
    }


def tokenise(desk: Desk) -> None:
    """Learn the words of the training captions: `tokenizer.json`, and every training caption's tokens.

    Captions are as long as the longest of them, and `settings.length` tokens at most. A frozen encoder has its words.

    `tokens.safetensors` holds `tokens (M, l)` of all captions, and image i's are those in `first[i] : first[i + 1]`.
    """
    settings: Captions = desk.settings
    train = Split.load(desk.inputs["data"] / TRAIN)
    spoken = [caption for captions in train.captions for caption in captions]
    counts = torch.tensor([0] + [len(captions) for captions in train.captions])
    if settings.encoder is TextEncoder.FROZEN:
        known = texts.read(spoken, texts.words(desk, settings))
        save_file({"tokens": known.tokens, "first": counts.cumsum(0)}, desk.folder / "tokens.safetensors")
        write_json(desk.folder / "facts.json", {"cut": known.cut, "length": known.tokens.shape[1]})
        return
    learnt = BytePairs.train(spoken, vocabulary=settings.vocabulary, length=settings.length)
    lengths = [len(encoding.ids) for encoding in learnt.bpe.encode_batch(spoken)]
    longest, cut = min(max(lengths), settings.length), sum(length > settings.length for length in lengths)
    tokenizer = BytePairs(learnt.bpe, longest)
    tokenizer.save(desk.folder / texts.TOKENIZER)
    save_file({"tokens": tokens_of(spoken, tokenizer), "first": counts.cumsum(0)}, desk.folder / "tokens.safetensors")
    write_json(desk.folder / "facts.json", {"cut": cut, "vocabulary": tokenizer.size, "length": longest})


class CaptionTokens:
    """The tokens of the training captions; where an image has several, each step draws one."""

    def __init__(self, desk: Desk, device: torch.device) -> None:
        loaded = load_file(desk.inputs["captions"] / "tokens.safetensors")
        self.tokens, self.first = near(loaded["tokens"], device), near(loaded["first"], device)

    def draw(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Tokens (b, l) of one caption of each image."""
        first, after = taken(self.first, indices), taken(self.first, indices + 1)
        share = torch.rand(len(indices), generator=generator, device=generator.device)
        return taken(self.tokens, first + (share * (after - first)).long())


class JudgeObjective(nn.Module):
    """The judge's loss on a batch of drawings."""

    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self.judge = judge

    def forward(
        self, images: Tensor, attributes: Tensor, *, step: int, generator: torch.Generator
    ) -> Mapping[str, Tensor]:
        return {"loss": self.judge.loss(images, attributes, generator=generator).mean()}


@dataclass(frozen=True)
class Judging:
    """Which drawings the judge reads, how many it learns from and is tested on, and its training."""

    drawings: str
    fingerprint: str
    resolution: int
    training: TrainingSettings
    number: int
    fresh: int


def train_judge(desk: Desk) -> None:
    """Train the judge on drawings of its own, of every caption: `judge.safetensors`; on fresh ones: `scores.json`."""
    settings: Judging = desk.settings
    drawn, seed = SETS[settings.drawings], settings.training.seed
    seen = drawn.split(Stream.JUDGE, settings.number, seed=seed, resolution=settings.resolution)
    torch.manual_seed(seed)
    judge = Judge(drawn.vocabulary)

    def batch(indices: Tensor, generator: torch.Generator) -> tuple[Any, ...]:
        device = generator.device
        return seen.images[indices].to(device), seen.attributes[indices].to(device)

    objective = JudgeObjective(judge)
    fit(desk, lambda a: GradientStep(objective, settings.training, a), batch, settings.number, settings.training)
    if not desk.leads:
        return
    judge = judge.cpu().eval()
    save_file(judge.state_dict(), desk.folder / "judge.safetensors")
    fresh = drawn.split(Stream.CHECK, settings.fresh, seed=seed, resolution=settings.resolution)
    right = judge.right(fresh.images, fresh.attributes)
    write_json(desk.folder / "scores.json", {"right": int(right.sum()), "of": len(right)})
