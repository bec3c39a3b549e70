"""Data sets, drawn and real, to splits of pictures and captions."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from reproductions.drawn.drawing import Stream
from reproductions.drawn.shapes import GENERATOR_VERSION, SETS, DrawnSet
from reproductions.gathering.data_presets import DATA_PRESETS, place_of, verify
from reproductions.gathering.pictures import BadPicture, fit
from reproductions.gathering.reading import Progress as Progress
from reproductions.gathering.reading import Telling, hold_out, read_real
from reproductions.gathering.reading import plain as plain
from reproductions.gathering.sources import (
    captions_of,
    choose_columns,
    files,
    hash_files,
    hub_features,
    looks_local,
    open_local,
    path_of,
    pool_and_held_out,
)
from reproductions.gathering.splits import DataSettings as DataSettings
from reproductions.gathering.splits import Split as Split
from reproductions.gathering.splits import Splits as Splits
from reproductions.gathering.splits import digest as digest

DIGITS = "digits"
DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def check(settings: DataSettings) -> None:
    """Find out whether `settings` can be read, before any work.

    Raises ValueError or OSError for unknown names and for missing paths, columns, captions or pictures.
    """
    for field, least in (("resolution", 8), ("train_size", 1), ("held_out_size", 1), ("max_bad", 0)):
        if getattr(settings, field) < least:
            raise ValueError(f"data: {field} must be at least {least}, got {getattr(settings, field)}")
    name = settings.name
    if name in SETS or name == DIGITS:
        return
    if looks_local(name):
        splits = open_local(path_of(name))
        pool, held = pool_and_held_out(splits)
        for split in (pool, held):
            if split is not None:
                choose_columns(splits[split].features, settings.image_column, settings.caption_column)
        verify(name, splits, pool, held, settings.image_column)
    elif "/" not in name:
        known = (*SETS, DIGITS)
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise ValueError(
            f"data: unknown data set {name!r}; {hint}Known are {', '.join(known)}, "
            "the path of a folder, parquet file or .tar shard, hub ids (owner/name), and with such a place behind it "
            f"({next(iter(DATA_PRESETS))}=PLACE) {', '.join(DATA_PRESETS)}"
        )
    elif features := hub_features(name, settings.revision):
        choose_columns(features, settings.image_column, settings.caption_column)


def fingerprint(settings: DataSettings) -> str:
    """Identify the content of the source without decoding it.

    The generator's version, the SHA-256 of the files, or hub id and revision.
    """
    if settings.name in SETS:
        return f"{settings.name}/{GENERATOR_VERSION}"
    if settings.name == DIGITS:
        return f"{DIGITS}/1"
    if looks_local(settings.name):
        path = path_of(settings.name)
        return f"sha256:{hash_files(path if path.is_dir() else path.parent, files(path))}"
    return f"{place_of(settings.name)}@{settings.revision or 'main'}"


def load(settings: DataSettings, folder: Path, *, progress: Progress = plain) -> Splits:
    """Draw a data set, or read a real one into `folder`.

    An interrupted reading goes on where it was; `progress(iterable, total, done)` wraps the loop over pictures.

    Raises ValueError where more than `max_bad` files or rows are bad, naming them.
    """
    check(settings)
    if settings.name in SETS:
        train, held_out, note = _drawn(SETS[settings.name], settings)
        return Splits(settings.name, train, held_out, digest(train, held_out), (), note)
    if settings.name == DIGITS:
        train, held_out, note = _digits(settings)
        return Splits(settings.name, train, held_out, digest(train, held_out), (), note)
    return read_real(settings, folder, _captioned(settings), progress)


def _drawn(drawn: DrawnSet, settings: DataSettings) -> tuple[Split, Split, str]:
    made = []
    for stream, count in ((Stream.TRAIN, settings.train_size), (Stream.HELD_OUT, settings.held_out_size)):
        drawings = drawn.split(stream, count, seed=settings.seed, resolution=settings.resolution)
        made.append(Split(drawings.images, tuple((caption,) for caption in drawings.captions), drawings.attributes))
    note = (
        f"Drawn with seed {settings.seed}: half of the drawings have one shape, half two. {drawn.unseen_note} "
        "The two-shape captions of the held-out split are all such; its one-shape captions go evenly round them all."
    )
    return made[0], made[1], note


def _digits(settings: DataSettings) -> tuple[Split, Split, str]:
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    held_out, train = hold_out(len(pixels), settings)

    def split(rows: npt.NDArray[np.int64]) -> Split:
        images = [fit(Image.fromarray(pixels[row]).convert("RGB"), settings.resolution) for row in rows]
        return _stack(images, [f"a handwritten {DIGIT_WORDS[bunch.target[row]]}" for row in rows])

    note = (
        f"Held out from {len(pixels):,} digits with seed {settings.seed}: {len(held_out):,}. "
        f"Pictures are 8 x 8 pixels{'' if settings.resolution == 8 else ', scaled up (bicubic)'}."
    )
    return split(train[: settings.train_size]), split(held_out), note


def _captioned(settings: DataSettings) -> Callable[[Mapping[str, Any]], Telling]:
    """What reads captions of any columns that hold them."""

    def tell(features: Mapping[str, Any]) -> Telling:
        column = choose_columns(features, settings.image_column, settings.caption_column)

        def captions(cells: Mapping[str, Any]) -> tuple[str, ...]:
            found = captions_of(cells[column], features[column])
            if not found:
                raise BadPicture("empty caption")
            return found

        return Telling((column,), captions)

    return tell


def _stack(images: Sequence[npt.NDArray[np.uint8]], captions: Sequence[str]) -> Split:
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return Split(pixels, tuple((caption,) for caption in captions))
