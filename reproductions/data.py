"""Data sets, drawn and real, to splits of pictures and captions."""

import difflib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int64, UInt8
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from reproductions.data_presets import DATA_PRESETS, place_of, verify
from reproductions.drawing import Stream, shuffled
from reproductions.pictures import BadPicture, decode, fit
from reproductions.shapes import GENERATOR_VERSION, SETS, DrawnSet
from reproductions.sources import (
    captions_of,
    choose_columns,
    files,
    hash_files,
    hub_features,
    looks_local,
    open_hub,
    open_local,
    path_of,
    pool_and_held_out,
)

if TYPE_CHECKING:
    from datasets import Dataset  # type: ignore[import-untyped]

DIGITS = "digits"
DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LISTED = 20

Progress = Callable[[Iterable[Any], int], Iterable[Any]]


def plain(iterable: Iterable[Any], total: int) -> Iterable[Any]:
    """No progress bar."""
    return iterable


@dataclass(frozen=True)
class Example:
    """One picture `(S, S, 3)` with its captions."""

    image: npt.NDArray[np.uint8]
    captions: tuple[str, ...]


@dataclass(frozen=True)
class BadFile:
    """Something that could not be used: which file or row, and why."""

    where: str
    reason: str


@dataclass(frozen=True)
class Split:
    """Pictures, one or more captions for each, and what the first caption says as numbers: attributes, or a label."""

    images: UInt8[Tensor, "n 3 s s"]
    captions: tuple[tuple[str, ...], ...]
    attributes: Int64[Tensor, "n a"] | None = None

    def save(self, folder: Path) -> None:
        """Write `pictures.safetensors` and `captions.json` into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        attributes = {} if self.attributes is None else {"attributes": self.attributes.contiguous()}
        save_file({"images": self.images.contiguous(), **attributes}, folder / "pictures.safetensors")
        (folder / "captions.json").write_text(json.dumps(self.captions, ensure_ascii=False, indent=0), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Split":
        """Read what `save` wrote."""
        tensors = load_file(folder / "pictures.safetensors")
        captions = json.loads((folder / "captions.json").read_text(encoding="utf-8"))
        return cls(tensors["images"], tuple(map(tuple, captions)), tensors.get("attributes"))


@dataclass(frozen=True)
class Splits:
    """Both splits of a data set.

    digest: SHA-256 of all pixels, captions and attributes; note: how the splits were made.
    """

    name: str
    train: Split
    held_out: Split
    digest: str
    bad: tuple[BadFile, ...]
    note: str


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """What to read, and how much of it.

    Sizes are exact for drawn sets and upper limits for real ones; `seed` draws, shuffles and holds out.
    """

    name: str = "shapes"
    resolution: int = 32
    train_size: int
    held_out_size: int
    image_column: str = "image"
    caption_column: str | None = None
    max_bad: int = 0
    seed: int = 0
    revision: str | None = None


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


def load(settings: DataSettings, *, progress: Progress = plain) -> Splits:
    """Read or draw a data set. `progress(iterable, total)` wraps the loop over pictures.

    Raises ValueError where more than `max_bad` files or rows are bad, naming them.
    """
    check(settings)
    if settings.name in SETS:
        train, held_out, note = _drawn(SETS[settings.name], settings)
        return Splits(settings.name, train, held_out, digest(train, held_out), (), note)
    if settings.name == DIGITS:
        train, held_out, note = _digits(settings)
        return Splits(settings.name, train, held_out, digest(train, held_out), (), note)
    return _real(settings, progress)


def digest(*splits: Split) -> str:
    """SHA-256 of pixels, captions and attributes."""
    total = hashlib.sha256()
    for split in splits:
        total.update(json.dumps([list(split.images.shape), split.captions]).encode())
        total.update(split.images.contiguous().numpy().data)
        if split.attributes is not None:
            total.update(split.attributes.contiguous().numpy().data)
    return total.hexdigest()


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

    def examples(rows: npt.NDArray[np.int64]) -> Iterator[Example]:
        for row in rows:
            image = fit(Image.fromarray(pixels[row]).convert("RGB"), settings.resolution)
            yield Example(image, (f"a handwritten {DIGIT_WORDS[bunch.target[row]]}",))

    note = (
        f"Held out from {len(pixels):,} digits with seed {settings.seed}: {len(held_out):,}. "
        f"Pictures are 8 x 8 pixels{'' if settings.resolution == 8 else ', scaled up (bicubic)'}."
    )
    return _stack(list(examples(train[: settings.train_size]))), _stack(list(examples(held_out))), note


def hold_out(count: int, settings: DataSettings) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Choose rows to hold out (a tenth, `held_out_size` at most) and those to train on, both shuffled by the seed."""
    if count < 2:
        raise ValueError(
            f"data: {settings.name} has {count} picture(s); at least two are needed, to train and to hold out"
        )
    order = shuffled(np.arange(count), settings.seed)
    number = min(settings.held_out_size, max(1, count // 10))
    return order[:number], order[number:]


def _real(settings: DataSettings, progress: Progress) -> Splits:
    path = path_of(settings.name)
    splits = open_local(path) if looks_local(settings.name) else open_hub(settings.name, settings.revision)
    pool, held = pool_and_held_out(splits)
    if held is None:
        held_rows, train_rows = hold_out(len(splits[pool]), settings)
        held, origin = pool, f"held out from {pool!r} with seed {settings.seed}, for want of a split of its own"
    else:
        held_rows = shuffled(np.arange(len(splits[held])), settings.seed)[: settings.held_out_size]
        train_rows, origin = shuffled(np.arange(len(splits[pool])), settings.seed), f"from the split {held!r}"
    bad: list[BadFile] = []
    reader = RowReader(settings, path, bad)
    train = reader.read(splits[pool], pool, train_rows[: settings.train_size], progress)
    held_out = reader.read(splits[held], held, held_rows, progress)
    require_few(bad, settings.max_bad)
    for examples, split in ((train, pool), (held_out, held)):
        if not examples:
            raise ValueError(f"data: nothing usable is left of the split {split!r} of {settings.name}")
    note = (
        f"Training: {len(train):,} of {len(splits[pool]):,} from {pool!r}, chosen by seed {settings.seed}. "
        f"Held out: {len(held_out):,}, {origin}. "
        f"Central square of each picture, bicubic to {settings.resolution} pixels."
    )
    stacked = _stack(train), _stack(held_out)
    return Splits(settings.name, *stacked, digest(*stacked), tuple(bad), note)


@dataclass(frozen=True)
class RowReader:
    """Reads rows, and notes the bad ones."""

    settings: DataSettings
    root: Path
    bad: list[BadFile]

    def read(self, rows: "Dataset", split: str, which: npt.NDArray[np.int64], progress: Progress) -> list[Example]:
        """Good examples among the rows `which`, in that order."""
        from datasets import Image as ImageColumn

        column = self.settings.image_column
        caption_column = choose_columns(rows.features, column, self.settings.caption_column)
        feature = rows.features[caption_column]
        rows = rows.select_columns([column, caption_column]).cast_column(column, ImageColumn(decode=False))
        examples = []
        for index in progress(which.tolist(), len(which)):
            row = rows[index]
            captions = captions_of(row[caption_column], feature)
            try:
                if not captions:
                    raise BadPicture("empty caption")
                examples.append(Example(self._image(row[column]), captions))
            except BadPicture as reason:
                self.bad.append(BadFile(self._where(row[column], split, index), str(reason)))
        return examples

    def _image(self, cell: dict[str, Any] | None) -> npt.NDArray[np.uint8]:
        if cell is None or (cell["bytes"] is None and cell["path"] is None):
            raise BadPicture("no picture")
        content = cell["bytes"]
        if content is None:
            try:
                content = Path(cell["path"]).read_bytes()
            except OSError as error:
                raise BadPicture(str(error)) from error
        return fit(decode(content), self.settings.resolution)

    def _where(self, cell: dict[str, Any] | None, split: str, index: int) -> str:
        path = Path(cell["path"]) if cell and cell["path"] else None
        if path is not None and path.is_relative_to(self.root.resolve()):
            return path.relative_to(self.root.resolve()).as_posix()
        return f"{split} row {index}" + (f" ({path.name})" if path else "")


def require_few(bad: Sequence[BadFile], allowed: int) -> None:
    """Raise ValueError with the list where there are more bad files than allowed."""
    if len(bad) > allowed:
        listed = "".join(f"\n  {file.where}: {file.reason}" for file in bad[:LISTED])
        more = f"\n  ... and {len(bad) - LISTED} more" if len(bad) > LISTED else ""
        raise ValueError(
            f"data: {len(bad)} of the pictures cannot be used, and {allowed} are allowed; "
            f"--max-bad {len(bad)} leaves them out:{listed}{more}"
        )


def _stack(examples: Sequence[Example]) -> Split:
    images = torch.from_numpy(np.stack([example.image for example in examples])).permute(0, 3, 1, 2).contiguous()
    return Split(images, tuple(example.captions for example in examples))
