"""Tensors that are larger than memory: safetensors files that are written some rows at a time, and mapped to be read.

`Rows` goes on where an interrupted writing stopped, and ends with the very bytes that safetensors itself would write.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

WHOLE_ON_DEVICE = 4 << 30
"""Bytes of a tensor up to which an accelerator keeps all of it; of a larger one it is given the rows of each batch."""
PIECE = 1 << 20
KINDS = {torch.bool: "BOOL", torch.uint8: "U8", torch.int64: "I64", torch.float32: "F32"}


def near(tensor: Tensor, where: torch.device) -> Tensor:
    """The tensor on a device where it is small enough for that, and otherwise as it is, mapped from its file."""
    return tensor.to(where) if tensor.nbytes <= WHOLE_ON_DEVICE else tensor


def taken(tensor: Tensor, *indices: Tensor) -> Tensor:
    """`tensor[indices]` on the device of the indices, wherever the tensor lies."""
    return tensor[tuple(each.to(tensor.device) for each in indices)].to(indices[0].device)


def pieces(path: Path, name: str) -> Iterator[bytes]:
    """The bytes of a tensor in a safetensors file, in order, read a piece at a time."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        start, stop = json.loads(file.read(length))[name]["data_offsets"]
        file.seek(8 + length + start)
        for left in range(stop - start, 0, -PIECE):
            yield file.read(min(left, PIECE))


def is_whole(path: Path) -> bool:
    """Whether a file is there, was finished, and needs nothing more to go on."""
    return path.exists() and not _journal(path).exists()


def forget(path: Path) -> None:
    """Remove what `Rows` needs to go on."""
    _partial(path).unlink(missing_ok=True)
    _journal(path).unlink(missing_ok=True)


class Rows:
    """A safetensors file that is written some rows at a time, in any order.

    like: rows of each tensor (r, ...), for their type and shape alone; leading: the axes that count them, (N,) or
    (v, N), the same of all; whole: tensors that are not in rows.

    A journal beside the file has a line for each writing, with the hash of what was written. Of an interrupted writing
    all is kept up to the first line that does not fit. `done`: how much of the source was used up by what is kept.
    """

    def __init__(
        self,
        path: Path,
        like: Mapping[str, Tensor],
        leading: tuple[int, ...],
        whole: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.path, self.number, self.done = path, math.prod(leading), 0
        self.like, self.whole = {name: like[name][:0] for name in sorted(like)}, whole or {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and _journal(path).exists() and not _partial(path).exists():
            os.replace(path, _partial(path))
        header, self.places, size = self._layout(leading)
        begun = json.dumps({"header": hashlib.sha256(header).hexdigest()}) + "\n"
        if self._kept(begun.encode()):
            return
        with _partial(path).open("wb") as file:
            file.write(header)
            for name, value in self.whole.items():
                file.seek(self.places[name])
                file.write(_bytes(value))
            file.truncate(size)
        _journal(path).write_text(begun, encoding="utf-8")

    def write(self, where: Sequence[int], *, used: int | None = None, note: Any = None, **parts: Tensor) -> None:
        """Write rows (r, ...) of every tensor to the places `where` (r); used: of the source (None: r); see `notes`."""
        total = hashlib.sha256()
        with _partial(self.path).open("r+b") as file:
            for name in self.like:
                total.update(_bytes(parts[name]))
                for place, row in zip(where, parts[name], strict=True):
                    file.seek(self.places[name] + place * self._width(name))
                    file.write(_bytes(row))
        used = len(where) if used is None else used
        line = {"rows": list(where), "used": used, "sha256": total.hexdigest(), "note": note}
        with _journal(self.path).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(line) + "\n")
        self.done += used

    def notes(self) -> Iterator[tuple[list[int], Any]]:
        """The places of each writing, and what was noted of it."""
        with _journal(self.path).open(encoding="utf-8") as lines:
            next(lines)
            for line in map(json.loads, lines):
                yield line["rows"], line["note"]

    def finish(self) -> None:
        """Give the file its name. Rows that were never written are left out, for which the others are copied.

        What is needed to go on stays, until `forget`.
        """
        written = np.zeros(self.number, dtype=np.bool_)
        for where, _ in self.notes():
            written[where] = True
        if written.all():
            os.replace(_partial(self.path), self.path)
        else:
            self._copy(np.flatnonzero(written))

    def _copy(self, kept: npt.NDArray[np.int64]) -> None:
        fewer = self.path.with_name(self.path.name + ".fewer")
        header, places, _ = self._layout((len(kept),))
        with _partial(self.path).open("rb") as ours, fewer.open("wb") as theirs:
            theirs.write(header)
            for name, value in self.whole.items():
                theirs.seek(places[name])
                theirs.write(_bytes(value))
            for name in self.like:
                theirs.seek(places[name])
                for place in kept.tolist():
                    theirs.write(self._row(ours, name, place))
        os.replace(fewer, self.path)

    def _kept(self, begun: bytes) -> bool:
        """Whether there is something to go on with: counts it, and cuts the journal off behind it."""
        journal, partial = _journal(self.path), _partial(self.path)
        if not (journal.exists() and partial.exists()):
            return False
        with journal.open("rb") as lines, partial.open("rb") as file:
            if next(lines, b"") != begun:
                return False
            good = len(begun)
            for line in lines:
                used = self._used(line, file)
                if used is None:
                    break
                good, self.done = good + len(line), self.done + used
        os.truncate(journal, good)
        return True

    def _used(self, line: bytes, file: BinaryIO) -> int | None:
        """What a line of the journal says was used, None where it is torn or the file does not hold what it says."""
        if not line.endswith(b"\n"):
            return None
        try:
            noted = json.loads(line)
        except ValueError:
            return None
        total = hashlib.sha256()
        for name in self.like:
            for place in noted["rows"]:
                total.update(self._row(file, name, place))
        return int(noted["used"]) if total.hexdigest() == noted["sha256"] else None

    def _row(self, file: BinaryIO, name: str, place: int) -> bytes:
        file.seek(self.places[name] + place * self._width(name))
        return file.read(self._width(name))

    def _width(self, name: str) -> int:
        return self.like[name].element_size() * math.prod(self.like[name].shape[1:])

    def _layout(self, leading: tuple[int, ...]) -> tuple[bytes, dict[str, int], int]:
        """The head of the file, where each tensor begins, and where the last one ends.

        Larger elements first, then by name, as safetensors orders them.
        """
        shapes = {name: (rows.dtype, (*leading, *rows.shape[1:])) for name, rows in self.like.items()}
        shapes |= {name: (value.dtype, tuple(value.shape)) for name, value in self.whole.items()}
        entries: dict[str, Any] = {}
        end = 0
        for name, (kind, shape) in sorted(shapes.items(), key=lambda item: (-item[1][0].itemsize, item[0])):
            start, end = end, end + kind.itemsize * math.prod(shape)
            entries[name] = {"dtype": KINDS[kind], "shape": list(shape), "data_offsets": [start, end]}
        text = json.dumps(entries, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        header = len(text).to_bytes(8, "little") + text
        return (
            header,
            {name: len(header) + entry["data_offsets"][0] for name, entry in entries.items()},
            (len(header) + end),
        )


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().numpy().tobytes()


def _journal(path: Path) -> Path:
    return path.with_name(path.name + ".rows")


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")
