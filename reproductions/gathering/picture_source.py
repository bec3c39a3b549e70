"""Pictures to be scored: a folder, a parquet file or a folder of them, read one by one, as they are or squared."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reproductions.drawn.drawing import shuffled
from reproductions.gathering.pictures import BadPicture, decode, fit
from reproductions.gathering.sources import METADATA_NAMES, files, hash_files, open_local


class PictureSource:
    """The pictures of a path, `count` of them chosen by a seed (all: None), and what identifies them.

    `size` brings each picture's central square to size x size pixels; without it all must have one size already.
    Raises FileNotFoundError or ValueError for paths without pictures and counts that they do not reach.
    """

    def __init__(
        self,
        path: Path,
        *,
        size: int | None = None,
        count: int | None = None,
        seed: int = 0,
        image_column: str = "image",
    ) -> None:
        self.path = path.expanduser()
        self.size = size
        self.image_column = image_column
        found = files(self.path)
        self._files = [file for file in found if file.name not in METADATA_NAMES]
        self._rows = self._open() if self._files[0].suffix == ".parquet" else None
        total = len(self._files) if self._rows is None else len(self._rows)
        if count is not None and not 1 <= count <= total:
            raise ValueError(f"{self.path} holds {total:,} pictures: --count {count} cannot be taken")
        self.chosen = list(range(total)) if count is None else sorted(shuffled(np.arange(total), seed)[:count].tolist())
        made = f"{hash_files(self.path, self._files)} {size} {image_column}"
        self.fingerprint = hashlib.sha256(made.encode()).hexdigest()

    def _open(self) -> Any:
        from datasets import Image as ImageColumn

        splits = open_local(self.path)
        if len(splits) > 1:
            raise ValueError(f"{self.path} holds the splits {', '.join(splits)}: give the file of one of them")
        (rows,) = splits.values()
        if self.image_column not in rows.features:
            there = ", ".join(rows.features)
            raise ValueError(
                f"{self.path} has no image column {self.image_column!r}; the columns are: {there} "
                "(choose with --image-column)"
            )
        return rows.cast_column(self.image_column, ImageColumn(decode=False))

    def __len__(self) -> int:
        """The number of pictures chosen."""
        return len(self.chosen)

    def where(self, index: int) -> str:
        """A name for a picture in messages."""
        return f"{self.path} row {index}" if self._rows is not None else str(self._files[index])

    def labels(self, column: str = "label") -> npt.NDArray[np.int64]:
        """The labels of the pictures chosen; ValueError where there is no such column."""
        if self._rows is None or column not in self._rows.features:
            raise ValueError(f"{self.path} has no column {column!r} of labels")
        return np.asarray(self._rows[column], dtype=np.int64)[self.chosen]

    def read(self, index: int) -> npt.NDArray[np.uint8]:
        """One picture (H, W, 3); BadPicture where it cannot be decoded."""
        if self._rows is None:
            data = self._files[index].read_bytes()
        else:
            cell = self._rows[index][self.image_column]
            if cell is None or cell["bytes"] is None:
                raise BadPicture("no picture")
            data = cell["bytes"]
        image = decode(data)
        return np.asarray(image) if self.size is None else fit(image, self.size)


def picture_batches(
    source: PictureSource, wanted: Sequence[int], batch: int, bad: dict[str, str]
) -> Iterator[tuple[list[int], Tensor]]:
    """Indices and uint8 images (b, 3, H, W), in order; what cannot be read is left out and noted in `bad`.

    Raises ValueError where a picture has another size than the first.
    """
    indices: list[int] = []
    images: list[npt.NDArray[np.uint8]] = []
    shape: tuple[int, ...] | None = None
    for index in wanted:
        try:
            image = source.read(index)
        except BadPicture as reason:
            bad[source.where(index)] = str(reason)
            continue
        shape = shape or image.shape
        if image.shape != shape:
            told = " and ".join(f"{width} x {height}" for height, width, _ in (image.shape, shape))
            raise ValueError(
                f"{source.where(index)}: pictures of {told} in one set; --size N brings all to N x N "
                "(central square, bicubic), which then is part of the score"
            )
        indices.append(index)
        images.append(image)
        if len(images) == batch:
            yield indices, _stacked(images)
            indices, images = [], []
    if images:
        yield indices, _stacked(images)


def _stacked(images: list[npt.NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
