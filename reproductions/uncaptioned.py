"""Pictures without captions, for what needs none: the first stages."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from reproductions.data import (
    DIGITS,
    BadFile,
    DataSettings,
    Progress,
    RowReader,
    Split,
    Splits,
    check,
    digest,
    hold_out,
    load,
    plain,
    require_few,
)
from reproductions.drawing import shuffled
from reproductions.pictures import BadPicture
from reproductions.shapes import SETS
from reproductions.sources import hub_features, looks_local, open_hub, open_local, pool_and_held_out

if TYPE_CHECKING:
    from datasets import Dataset, Features  # type: ignore[import-untyped]


def check_pictures(settings: DataSettings) -> None:
    """Find out whether `settings` can be read, before any work.

    Raises ValueError or OSError for unknown names and for missing paths, columns or pictures.
    """
    name = settings.name
    if looks_local(name):
        splits = open_local(Path(name).expanduser())
        for split in pool_and_held_out(splits):
            if split is not None:
                _require_column(splits[split].features, settings.image_column)
    elif "/" in name:
        if features := hub_features(name, settings.revision):
            _require_column(features, settings.image_column)
    else:
        check(settings)


def load_pictures(settings: DataSettings, *, progress: Progress = plain) -> Splits:
    """Both splits of a data set, as `data.load` makes them, but of its pictures alone; drawn sets are as they are.

    Raises ValueError where more than `max_bad` files or rows are bad, naming them.
    """
    check_pictures(settings)
    if settings.name in (*SETS, DIGITS):
        return load(settings, progress=progress)
    root = Path(settings.name).expanduser()
    splits = open_local(root) if looks_local(settings.name) else open_hub(settings.name, settings.revision)
    pool, held = pool_and_held_out(splits)
    if held is None:
        held, (held_rows, train_rows) = pool, hold_out(len(splits[pool]), settings)
    else:
        held_rows = shuffled(np.arange(len(splits[held])), settings.seed)[: settings.held_out_size]
        train_rows = shuffled(np.arange(len(splits[pool])), settings.seed)
    bad: list[BadFile] = []
    reader = PictureReader(settings, root, bad)
    train = reader.stack(splits[pool], pool, train_rows[: settings.train_size], progress)
    held_out = reader.stack(splits[held], held, held_rows, progress)
    require_few(bad, settings.max_bad)
    if not len(train.images) or not len(held_out.images):
        raise ValueError(f"data: nothing usable is left of {settings.name}")
    note = (
        f"Training: {len(train.images):,} pictures of {pool!r}; held out: {len(held_out.images):,} of {held!r}; chosen "
        f"by seed {settings.seed}. Central square of each, bicubic to {settings.resolution} pixels."
    )
    return Splits(settings.name, train, held_out, digest(train, held_out), tuple(bad), note)


class PictureReader(RowReader):
    """Reads the pictures of rows into one tensor, and notes the bad ones."""

    def stack(self, rows: "Dataset", split: str, which: npt.NDArray[np.int64], progress: Progress) -> Split:
        """Good pictures among the rows `which`, in that order."""
        from datasets import Image as ImageColumn

        column, side = self.settings.image_column, self.settings.resolution
        rows = rows.select_columns([column]).cast_column(column, ImageColumn(decode=False))
        images = torch.empty(len(which), 3, side, side, dtype=torch.uint8)
        good = 0
        for index in progress(which.tolist(), len(which)):
            cell: dict[str, Any] | None = rows[index][column]
            try:
                images[good] = torch.from_numpy(self._image(cell).copy()).permute(2, 0, 1)
                good += 1
            except BadPicture as reason:
                self.bad.append(BadFile(self._where(cell, split, index), str(reason)))
        return Split(images[:good].clone(), ((),) * good)


def _require_column(features: "Features", column: str) -> None:
    if column not in features:
        there = ", ".join(features) or "none"
        raise ValueError(f"data: no image column {column!r}; the columns are: {there} (choose with --image-column)")
