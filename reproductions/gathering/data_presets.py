"""The paper's data sets by name, `coco=PLACE`: what each must hold, so that a wrong copy is told before any work."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset  # type: ignore[import-untyped]

    from reproductions.gathering.shards import Shards

LOOKED_AT = 32


@dataclass(frozen=True)
class Preset:
    """What a data set holds.

    train, held_out: pictures of its splits (None: any number); captions, labels: whether pictures have them; several:
    captions of a picture, at least; side: of its smallest pictures, at least.
    """

    title: str
    train: int | None
    held_out: int | None
    several: int = 0
    labels: bool = False
    side: int = 256


DATA_PRESETS: Mapping[str, Preset] = {
    "coco": Preset("MS-COCO", 82_783, 40_504, several=5, side=51),
    "coco-karpathy": Preset("MS-COCO", 113_287, 5_000, several=5, side=51),
    "ffhq": Preset("FFHQ", 60_000, 10_000),
    "celebahq": Preset("CelebA-HQ", 25_000, 5_000),
    "churches": Preset("LSUN-Churches", 126_227, 300),
    "bedrooms": Preset("LSUN-Bedrooms", 3_033_042, 300),
    "imagenet": Preset("ImageNet", 1_281_167, 50_000, labels=True, side=1),
    "cub": Preset("CUB-200", 8_855, 2_933, several=10, side=1),
    "laion": Preset("LAION", None, None, several=1, side=1),
}
"""By name. The splits are the official ones: MS-COCO's of 2014; those of taming-transformers of both sets of faces.

Source: VQ-Diffusion training recipe
"""


def preset_of(name: str) -> Preset | None:
    """The preset of `NAME=PLACE`, None where no preset is named.

    Raises:
        ValueError: for a preset without a place.
    """
    called, given, place = name.partition("=")
    preset = DATA_PRESETS.get(called)
    if preset is not None and not (given and place):
        raise ValueError(
            f"data: {called!r} is the name of a data set whose files have a place: give {called}=PATH, of a folder of "
            f"pictures, parquet files or .tar shards, or {called}=OWNER/NAME on the hub"
        )
    if preset is None and given and "/" not in called and "." not in called:
        nearest = difflib.get_close_matches(called, DATA_PRESETS, n=1, cutoff=0.5)
        if nearest:
            raise ValueError(f"data: no preset is called {called!r}; did you mean {nearest[0]}={place}?")
    return preset


def place_of(name: str) -> str:
    """Where a data set lies: what stands behind the name of a preset, or else all of it."""
    return name if preset_of(name) is None else name.partition("=")[2]


def verify(name: str, splits: "Mapping[str, Dataset | Shards]", pool: str, held: str | None, image: str) -> None:
    """Check opened splits against the preset that `name` begins with, if any.

    image: column of the pictures; counts are compared first, then some pictures evenly spread over each split.

    Raises:
        ValueError: saying all that is wrong, and what to do.
    """
    preset = preset_of(name)
    if preset is None:
        return
    wrong = _counted(preset, splits, pool, held)
    for split in (pool, held):
        if split is not None:
            wrong += _looked(preset, splits[split], split, image)
    if wrong:
        listed = "".join(f"\n  {each}" for each in wrong)
        raise ValueError(
            f"data: {place_of(name)} is not {preset.title} as the paper's numbers have it:{listed}\n"
            f"Mend the copy, or give --data {place_of(name)} to take it as it is, as a data set of its own."
        )


def _counted(preset: Preset, splits: "Mapping[str, Dataset | Shards]", pool: str, held: str | None) -> list[str]:
    if preset.train is None or preset.held_out is None:
        return []
    if held is None:
        whole = preset.train + preset.held_out
        if len(splits[pool]) in (whole, preset.train):
            return []
        return [f"one split {pool!r} of {len(splits[pool]):,} pictures; expected {whole:,}, or {preset.train:,}"]
    found = {pool: preset.train, held: preset.held_out}
    return [
        f"split {split!r}: {len(splits[split]):,} pictures; expected {count:,}"
        for split, count in found.items()
        if len(splits[split]) != count
    ]


def _looked(preset: Preset, rows: "Dataset | Shards", split: str, image: str) -> list[str]:
    """What is wrong with some rows of a split."""
    from reproductions.gathering.sources import captions_of, choose_columns, rows_at

    wrong = []
    columns = [image]
    caption = None
    if preset.several:
        try:
            caption = choose_columns(rows.features, image, None)
            columns.append(caption)
        except ValueError as error:
            wrong.append(f"split {split!r}: {str(error).removeprefix('data: ')}")
    if preset.labels and "label" not in rows.features:
        wrong.append(f"split {split!r}: no column 'label'; the columns are: {', '.join(rows.features)}")
    if image not in rows.features:
        return wrong
    few, small = [], []
    looked_at = range(0, len(rows), max(1, len(rows) // LOOKED_AT))
    for index, row in zip(looked_at, rows_at(rows, looked_at, columns), strict=True):
        if caption is not None and (said := len(captions_of(row[caption], rows.features[caption]))) < preset.several:
            few.append((index, said))
        if (side := _side(row[image])) is not None and side < preset.side:
            small.append((index, side))
    for found, what, least in ((few, "captions", preset.several), (small, "pixels on the short side", preset.side)):
        if found:
            index, number = found[0]
            wrong.append(
                f"split {split!r}: {len(found)} of the rows looked at have too few {what}, row {index} has {number}; "
                f"expected at least {least}"
            )
    return wrong


def _side(cell: Any) -> int | None:
    """The short side of a picture; None where it cannot be told here (bad files are told when they are read)."""
    from PIL import Image

    try:
        picture = Image.open(BytesIO(cell["bytes"]) if cell["bytes"] is not None else cell["path"])
        with picture:
            return int(min(picture.size))
    except (OSError, TypeError, ValueError, KeyError, Image.DecompressionBombError):
        return None
