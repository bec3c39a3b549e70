"""What samples are made for: nothing, a class, or a caption; and how each is read from a data set."""

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import torch

from reproductions.data import DIGIT_WORDS, DIGITS, DataSettings, Progress, Split, Splits, check, digest, load, plain
from reproductions.drawn.shapes import SETS
from reproductions.gathering.sources import hub_features, looks_local, open_local, path_of, pool_and_held_out
from reproductions.gathering.uncaptioned import check_pictures, load_pictures
from reproductions.settings import Captions


class Kind(StrEnum):
    """What a denoiser is told beside the time."""

    NONE = "none"
    CLASS = "class"
    CAPTION = "caption"


@dataclass(frozen=True)
class Conditioning:
    """What a denoiser is told: names of the classes, in order of their labels, and the encoder of captions.

    class_width: of the state that stands for a class, learned and read by attention (None: denoisers read labels).
    """

    kind: Kind
    classes: tuple[str, ...] = ()
    captions: Captions | None = None
    class_width: int | None = None

    def guidance(self, scale: float) -> float:
        """The scale, and 1 where there is nothing to be guided by."""
        return 1.0 if self.kind is Kind.NONE else scale


@dataclass(frozen=True)
class Reading:
    """What to read, with what beside the pictures, and what it was when the plan was made."""

    data: DataSettings
    fingerprint: str
    kind: Kind
    label_column: str


def class_names(data: DataSettings, column: str) -> tuple[str, ...]:
    """Names of the classes of a data set, in order of their labels.

    Raises ValueError or OSError where the data cannot be read or has no labels with names in that column.
    """
    from datasets import ClassLabel  # type: ignore[import-untyped]

    if data.name == DIGITS:
        return DIGIT_WORDS
    check_pictures(data)
    if data.name in SETS:
        raise ValueError(f"--condition class: {data.name} has no labels; take --condition caption or none")
    if looks_local(data.name):
        splits = open_local(path_of(data.name))
        features = [splits[split].features for split in pool_and_held_out(splits) if split is not None]
    else:
        features = [hub_features(data.name, data.revision)]
    for columns in features:
        found = (columns or {}).get(column)
        if not isinstance(found, ClassLabel):
            there = ", ".join(columns or {}) or "not declared"
            said = f"holds {found}, not labels with names" if found is not None else "is not there"
            raise ValueError(
                f"--condition class: column {column!r} of {data.name} {said}; the columns are: {there} "
                "(choose with --label-column)"
            )
    names: tuple[str, ...] = tuple(features[0][column].names)
    return names


def check_readable(data: DataSettings, kind: Kind) -> None:
    """Find out, before any work, whether pictures and what stands beside them can be read; see `class_names` too."""
    if kind is Kind.CAPTION:
        check(data)
    else:
        check_pictures(data)


def read(reading: Reading, folder: Path, *, progress: Progress = plain) -> Splits:
    """Both splits: with captions; with class names as captions and labels (n, 1) as attributes; or pictures alone.

    Real ones are written into `folder`.
    """
    if reading.kind is Kind.CAPTION:
        return load(reading.data, folder, progress=progress)
    if reading.kind is Kind.NONE:
        return load_pictures(reading.data, folder, progress=progress)
    if reading.data.name != DIGITS:
        return load_pictures(reading.data, folder, label=reading.label_column, progress=progress)
    found = load(reading.data, folder, progress=progress)
    train, held_out = _digits(found.train), _digits(found.held_out)
    return replace(found, train=train, held_out=held_out, digest=digest(train, held_out))


def _digits(split: Split) -> Split:
    words = [captions[0].rsplit(maxsplit=1)[-1] for captions in split.captions]
    labels = torch.tensor([DIGIT_WORDS.index(word) for word in words])
    return Split(split.images, tuple((word,) for word in words), labels[:, None])
