"""Pictures of real data sets, read one after the other into files: memory holds a few of them, and their captions."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reproductions.drawn.drawing import shuffled
from reproductions.gathering.pictures import BadPicture, decode, fit
from reproductions.gathering.rows import Rows, forget
from reproductions.gathering.shards import Shards
from reproductions.gathering.sources import looks_local, open_hub, open_local, path_of, pool_and_held_out, rows_at
from reproductions.gathering.splits import (
    HELD_OUT,
    PICTURES,
    TRAIN,
    BadFile,
    DataSettings,
    Split,
    Splits,
    digest,
    write_captions,
)

if TYPE_CHECKING:
    from datasets import Dataset  # type: ignore[import-untyped]

AT_ONCE = 64
LISTED = 20
PURPOSES = {TRAIN: "for training", HELD_OUT: "to hold out"}
Progress = Callable[[Iterable[Any], int, int], Iterable[Any]]
Cells = Mapping[str, Any]


def plain(iterable: Iterable[Any], total: int, done: int = 0) -> Iterable[Any]:
    """No progress bar."""
    return iterable


@dataclass(frozen=True)
class Telling:
    """What is said of a picture by the columns of its row.

    captions: of the row's cells; label: likewise, one number (None: there is none). Both may raise BadPicture.
    """

    columns: tuple[str, ...] = ()
    captions: Callable[[Cells], tuple[str, ...]] = lambda cells: ()
    label: Callable[[Cells], int] | None = None


def hold_out(count: int, settings: DataSettings) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Choose rows to hold out (a tenth, `held_out_size` at most) and those to train on, both shuffled by the seed."""
    if count < 2:
        raise ValueError(
            f"data: {settings.name} has {count} picture(s); at least two are needed, to train and to hold out"
        )
    order = shuffled(np.arange(count), settings.seed)
    number = min(settings.held_out_size, max(1, count // 10))
    return order[:number], order[number:]


def read_real(
    settings: DataSettings, folder: Path, tell: Callable[[Mapping[str, Any]], Telling], progress: Progress
) -> Splits:
    """Read a folder, files or a hub's data set into `folder`, or go on with what an interrupted reading left there.

    tell: of the columns' types, what is read beside the pictures.

    Raises ValueError where more than `max_bad` files or rows are bad, naming them.
    """
    name = settings.name
    splits = open_local(path_of(name)) if looks_local(name) else open_hub(name, settings.revision)
    pool, held = pool_and_held_out(splits)
    if held is None:
        held_rows, train_rows = hold_out(len(splits[pool]), settings)
        held, origin = pool, f"held out from {pool!r} with seed {settings.seed}, for want of a split of its own"
    else:
        held_rows = shuffled(np.arange(len(splits[held])), settings.seed)[: settings.held_out_size]
        train_rows, origin = shuffled(np.arange(len(splits[pool])), settings.seed), f"from the split {held!r}"
    parts = [
        SplitReader(settings, splits[split], split, tell(splits[split].features), folder / own)
        for split, own in ((pool, TRAIN), (held, HELD_OUT))
    ]
    for part, which in zip(parts, (train_rows[: settings.train_size], held_rows), strict=True):
        part.read(which, progress)
    train, held_out = (part.finish() for part in _usable(parts, settings))
    note = (
        f"Training: {len(train.images):,} of {len(splits[pool]):,} from {pool!r}, chosen by seed {settings.seed}. "
        f"Held out: {len(held_out.images):,}, {origin}. "
        f"Central square of each picture, bicubic to {settings.resolution} pixels."
    )
    bad = tuple(file for part in parts for file in part.bad)
    return Splits(name, train, held_out, digest(train, held_out), bad, note)


def _usable(parts: Sequence["SplitReader"], settings: DataSettings) -> Sequence["SplitReader"]:
    """The same, unless too many pictures are bad, or all of a split: what was written of them then goes."""
    try:
        require_few([file for part in parts for file in part.bad], settings.max_bad)
        for part in parts:
            if not any(where for where, _ in part.rows.notes()):
                what = f"{PURPOSES[part.folder.name]} is left of the split {part.split!r} of {settings.name}"
                raise ValueError(f"data: nothing usable {what}")
    except ValueError:
        for part in parts:
            forget(part.rows.path)
        raise
    return parts


class SplitReader:
    """Reads one split of a data set into a folder; `bad`: what could not be used."""

    def __init__(
        self, settings: DataSettings, source: "Dataset | Shards", split: str, telling: Telling, folder: Path
    ) -> None:
        self.settings, self.source, self.split, self.telling, self.folder = settings, source, split, telling, folder
        self.bad: list[BadFile] = []
        self.rows: Rows

    def read(self, which: npt.NDArray[np.int64], progress: Progress) -> None:
        """Write the good pictures among the rows `which`, each to its place in that order.

        They are read in the order in which they lie, so that every file is gone through once.
        """
        side = self.settings.resolution
        like = {"images": torch.empty(0, 3, side, side, dtype=torch.uint8)}
        if self.telling.label is not None:
            like["attributes"] = torch.empty(0, 1, dtype=torch.int64)
        self.rows = Rows(self.folder / PICTURES, like, (len(which),))
        self.bad += [BadFile(*file) for _, note in self.rows.notes() for file in note["bad"]]
        columns = (self.settings.image_column, *self.telling.columns)
        left = np.argsort(which)[self.rows.done :]
        source = zip(left.tolist(), rows_at(self.source, which[left].tolist(), columns), strict=True)
        batch = _Batch()
        for place, cells in progress(source, len(which), self.rows.done):
            try:
                captions = self.telling.captions(cells)
                label = None if self.telling.label is None else self.telling.label(cells)
                batch.add(place, self._image(cells[columns[0]]), captions, label)
            except BadPicture as reason:
                batch.bad.append(BadFile(self._where(cells[columns[0]], int(which[place])), str(reason)))
            if batch.used == AT_ONCE:
                self._write(batch)
                batch = _Batch()
        if batch.used:
            self._write(batch)

    def finish(self) -> Split:
        """The split as it lies in its folder; what is needed to go on stays there."""
        said: dict[int, list[str]] = {}
        for where, note in self.rows.notes():
            said.update(zip(where, note["captions"], strict=True))
        self.rows.finish()
        write_captions(self.folder, (said[place] for place in sorted(said)))
        return Split.load(self.folder)

    def _write(self, batch: "_Batch") -> None:
        noted = [(file.where, file.reason) for file in batch.bad]
        self.rows.write(
            batch.places,
            used=batch.used,
            note={"captions": batch.captions, "bad": noted},
            **batch.tensors(self.rows.like),
        )
        self.bad += batch.bad

    def _image(self, cell: Mapping[str, Any] | None) -> npt.NDArray[np.uint8]:
        if cell is None or (cell["bytes"] is None and cell["path"] is None):
            raise BadPicture("no picture")
        content = cell["bytes"]
        if content is None:
            try:
                content = Path(cell["path"]).read_bytes()
            except OSError as error:
                raise BadPicture(str(error)) from error
        return fit(decode(content), self.settings.resolution)

    def _where(self, cell: Mapping[str, Any] | None, index: int) -> str:
        path = Path(cell["path"]) if cell and cell["path"] else None
        root = path_of(self.settings.name).resolve()
        if path is not None and path.is_relative_to(root):
            return path.relative_to(root).as_posix()
        return f"{self.split} row {index}" + (f" ({path.name})" if path else "")


class _Batch:
    """Pictures that are written together."""

    def __init__(self) -> None:
        self.places: list[int] = []
        self.images: list[npt.NDArray[np.uint8]] = []
        self.captions: list[tuple[str, ...]] = []
        self.labels: list[int] = []
        self.bad: list[BadFile] = []

    @property
    def used(self) -> int:
        """Rows of the source that are in it, good or bad."""
        return len(self.places) + len(self.bad)

    def add(self, place: int, image: npt.NDArray[np.uint8], captions: tuple[str, ...], label: int | None) -> None:
        self.places.append(place)
        self.images.append(image)
        self.captions.append(captions)
        self.labels += [] if label is None else [label]

    def tensors(self, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What is written, by name."""
        found = {"attributes": torch.tensor(self.labels, dtype=torch.int64).view(-1, 1), "images": like["images"]}
        if self.images:
            found["images"] = torch.from_numpy(np.stack(self.images)).permute(0, 3, 1, 2)
        return {name: found[name] for name in like}


def require_few(bad: Sequence[BadFile], allowed: int) -> None:
    """Raise ValueError with the list where there are more bad files than allowed."""
    if len(bad) > allowed:
        listed = "".join(f"\n  {file.where}: {file.reason}" for file in bad[:LISTED])
        more = f"\n  ... and {len(bad) - LISTED} more" if len(bad) > LISTED else ""
        raise ValueError(
            f"data: {len(bad)} of the pictures cannot be used, and {allowed} are allowed; "
            f"--max-bad {len(bad)} leaves them out:{listed}{more}"
        )
