"""Pictures without captions, alone or with their labels."""

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
from reproductions.data_presets import verify
from reproductions.drawing import shuffled
from reproductions.pictures import BadPicture
from reproductions.shapes import SETS
from reproductions.sources import hub_features, looks_local, open_hub, open_local, path_of, pool_and_held_out

if TYPE_CHECKING:
    from datasets import Dataset, Features  # type: ignore[import-untyped]


def check_pictures(settings: DataSettings) -> None:
    """Find out whether `settings` can be read, before any work.

    Raises ValueError or OSError for unknown names and for missing paths, columns or pictures.
    """
    name = settings.name
    if looks_local(name):
        splits = open_local(path_of(name))
        pool, held = pool_and_held_out(splits)
        for split in (pool, held):
            if split is not None:
                _require_column(splits[split].features, settings.image_column)
        verify(name, splits, pool, held, settings.image_column)
    elif "/" in name:
        if features := hub_features(name, settings.revision):
            _require_column(features, settings.image_column)
    else:
        check(settings)


def load_pictures(settings: DataSettings, *, label: str | None = None, progress: Progress = plain) -> Splits:
    """Both splits of a data set, as `data.load` makes them, but of its pictures alone; drawn sets are as they are.

    label: column of labels with names; the names are the captions, and the labels (n, 1) the attributes.

    Raises ValueError where more than `max_bad` files or rows are bad, naming them.
    """
    check_pictures(settings)
    if settings.name in (*SETS, DIGITS):
        return load(settings, progress=progress)
    root = path_of(settings.name)
    splits = open_local(root) if looks_local(settings.name) else open_hub(settings.name, settings.revision)
    pool, held = pool_and_held_out(splits)
    if held is None:
        held, (held_rows, train_rows) = pool, hold_out(len(splits[pool]), settings)
    else:
        held_rows = shuffled(np.arange(len(splits[held])), settings.seed)[: settings.held_out_size]
        train_rows = shuffled(np.arange(len(splits[pool])), settings.seed)
    bad: list[BadFile] = []
    reader = PictureReader(settings, root, bad)
    train = reader.stack(splits[pool], pool, train_rows[: settings.train_size], progress, label)
    held_out = reader.stack(splits[held], held, held_rows, progress, label)
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

    def stack(
        self,
        rows: "Dataset",
        split: str,
        which: npt.NDArray[np.int64],
        progress: Progress,
        label: str | None = None,
    ) -> Split:
        """Good pictures among the rows `which`, in that order, with their labels where there is a column of them."""
        from datasets import Image as ImageColumn

        column, side = self.settings.image_column, self.settings.resolution
        names = [] if label is None else rows.features[label].names
        columns = [column] if label is None else [column, label]
        rows = rows.select_columns(columns).cast_column(column, ImageColumn(decode=False))
        images = torch.empty(len(which), 3, side, side, dtype=torch.uint8)
        labels: list[int] = []
        good = 0
        for index in progress(which.tolist(), len(which)):
            row = rows[index]
            cell: dict[str, Any] | None = row[column]
            try:
                if label is not None and (row[label] is None or row[label] < 0):
                    raise BadPicture("no label")
                images[good] = torch.from_numpy(self._image(cell).copy()).permute(2, 0, 1)
                good += 1
                labels += [] if label is None else [row[label]]
            except BadPicture as reason:
                self.bad.append(BadFile(self._where(cell, split, index), str(reason)))
        if label is None:
            return Split(images[:good].clone(), ((),) * good)
        said = tuple((names[number].replace("_", " "),) for number in labels)
        return Split(images[:good].clone(), said, torch.tensor(labels, dtype=torch.int64).view(-1, 1))


def _require_column(features: "Features", column: str) -> None:
    if column not in features:
        there = ", ".join(features) or "none"
        raise ValueError(f"data: no image column {column!r}; the columns are: {there} (choose with --image-column)")
