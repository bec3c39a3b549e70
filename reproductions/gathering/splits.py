"""What is to be read of a data set, and what comes of it: two splits of pictures and captions."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Int64, UInt8
from safetensors.torch import load_file, save_file
from torch import Tensor

from reproductions.artefacts import write_whole
from reproductions.gathering import rows

PICTURES, CAPTIONS = "pictures.safetensors", "captions.json"
TRAIN, HELD_OUT = "train", "held_out"


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


@dataclass(frozen=True)
class BadFile:
    """Something that could not be used: which file or row, and why."""

    where: str
    reason: str


@dataclass(frozen=True)
class Split:
    """Pictures, one or more captions for each, and what the first caption says as numbers: attributes, or a label.

    folder: where they lie, which the pictures then are mapped from.
    """

    images: UInt8[Tensor, "n 3 s s"]
    captions: tuple[tuple[str, ...], ...]
    attributes: Int64[Tensor, "n a"] | None = None
    folder: Path | None = None

    def save(self, folder: Path) -> None:
        """Write `pictures.safetensors` and `captions.json` into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        attributes = {} if self.attributes is None else {"attributes": self.attributes.contiguous()}
        save_file({"images": self.images.contiguous(), **attributes}, folder / PICTURES)
        write_captions(folder, self.captions)

    @classmethod
    def load(cls, folder: Path) -> "Split":
        """Read what `save` wrote: the captions into memory, and the pictures as they are used."""
        tensors = load_file(folder / PICTURES)
        captions = json.loads((folder / CAPTIONS).read_text(encoding="utf-8"))
        return cls(tensors["images"], tuple(map(tuple, captions)), tensors.get("attributes"), folder)

    def pieces(self) -> Iterable[bytes | memoryview]:
        """The bytes of the pictures, then of the attributes."""
        for name, tensor in (("images", self.images), ("attributes", self.attributes)):
            if tensor is not None and self.folder is not None:
                yield from rows.pieces(self.folder / PICTURES, name)
            elif tensor is not None:
                yield tensor.contiguous().numpy().data


def write_captions(folder: Path, captions: Iterable[Iterable[str]]) -> None:
    """Write `captions.json`."""
    text = json.dumps([list(several) for several in captions], ensure_ascii=False, indent=0)
    write_whole(folder / CAPTIONS, text.encode())


def pictures(folder: Path) -> UInt8[Tensor, "n 3 s s"]:
    """The pictures of a split alone, mapped: only what is used of them need be in memory."""
    return load_file(folder / PICTURES)["images"]


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


def digest(*splits: Split) -> str:
    """SHA-256 of pixels, captions and attributes."""
    total = hashlib.sha256()
    for split in splits:
        total.update(json.dumps([list(split.images.shape), split.captions]).encode())
        for piece in split.pieces():
            total.update(piece)
    return total.hexdigest()
