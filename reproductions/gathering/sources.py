"""Where real pictures come from: shards, and folders, parquet files and hub data sets, read by Hugging Face's."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reproductions.gathering.data_presets import place_of
from reproductions.gathering.shards import BRACES, CAPTION_COLUMNS, Shards, shards

if TYPE_CHECKING:
    from datasets import Dataset, Features  # type: ignore[import-untyped]

PICTURE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2"}
)
METADATA_NAMES = frozenset({"metadata.jsonl", "metadata.csv", "metadata.parquet"})
HELD_OUT_NAMES = ("validation", "valid", "val", "dev", "test")


def looks_local(name: str) -> bool:
    """Whether `name` is a path rather than a hub id: it exists, or is written like a path, a parquet file or shards."""
    place = place_of(name)
    return path_of(name).exists() or place.startswith(("/", ".", "~")) or place.endswith((".parquet", ".tar"))


def path_of(name: str) -> Path:
    """The path that `name`, or its part behind the name of a preset, is."""
    return Path(place_of(name)).expanduser()


def files(path: Path) -> list[Path]:
    """Parquet files or shards of a folder, or the one that `path` is, or else its pictures and metadata, by name.

    A name such as `{00000..00009}.tar` stands for the shards of these numbers.

    Raises FileNotFoundError where there is no such path, ValueError where nothing in it can be read.
    """
    if BRACES.search(path.name) and not path.exists():
        return shards(path)
    if not path.exists():
        raise FileNotFoundError(f"data: no such file or folder: {path}")
    inside = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    parquet = [file for file in inside if file.suffix == ".parquet" and file.name not in METADATA_NAMES]
    tar = [file for file in inside if file.suffix == ".tar"]
    if parquet or tar:
        return parquet or tar
    pictures = [file for file in inside if file.suffix.lower() in PICTURE_SUFFIXES]
    if not path.is_dir() or not pictures:
        raise ValueError(
            f"data: {path} holds no pictures ({', '.join(sorted(PICTURE_SUFFIXES))}), no .parquet files and no .tar "
            "shards"
        )
    return pictures + [file for file in inside if file.name in METADATA_NAMES]


def open_local(path: Path) -> "dict[str, Dataset | Shards]":
    """Open the splits of a parquet file or shard, of a folder of these named after them, or of a folder of pictures."""
    import datasets

    found = files(path)
    by_split: dict[str, list[Path]] = {}
    for file in found:
        by_split.setdefault(_split_name(file.stem), []).append(file)
    if found[0].suffix == ".tar":
        return {name: Shards(several) for name, several in by_split.items()}
    datasets.disable_progress_bars()
    try:
        if found[0].suffix == ".parquet":
            paths = {name: [str(file) for file in several] for name, several in by_split.items()}
            return dict(datasets.load_dataset("parquet", data_files=paths))
        return dict(datasets.load_dataset("imagefolder", data_dir=str(path)))
    except Exception as error:  # the builders raise their own errors, wrapped in others
        reason = error.__cause__ or error
        raise ValueError(f"data: {path} cannot be read: {reason}") from error


def rows_at(rows: "Dataset | Shards", which: Iterable[int], names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Columns of the rows at indices that rise, one after the other; the first is of pictures, {"bytes", "path"}."""
    from datasets import Image

    if isinstance(rows, Shards):
        return rows.at(which, names)
    kept = rows.select_columns(list(names)).cast_column(names[0], Image(decode=False))
    return (kept[index] for index in which)


def open_hub(name: str, revision: str | None) -> "dict[str, Dataset]":
    """Download the splits of a hub data set. Raises ConnectionError where they cannot be had."""
    import datasets

    try:
        opened = datasets.load_dataset(place_of(name), revision=revision)
        return {split: named_as_usual(rows) for split, rows in opened.items()}
    except Exception as error:
        raise _unreachable(name, error) from error


def named_as_usual(rows: "Dataset") -> "Dataset":
    """Rows of a hub's shards with the columns that others have: `image`; `text`, of a file or of the JSON; `label`."""
    from datasets import Image

    if "__key__" not in rows.features:
        return rows
    if "json" in rows.features:
        rows = rows.flatten()
    pictures = [name for name, feature in rows.features.items() if isinstance(feature, Image)]
    said = [f"json.{name}" for name in CAPTION_COLUMNS if f"json.{name}" in rows.features]
    usual = {"image": pictures, "text": [name for name in ("txt", *said) if name in rows.features]}
    usual["label"] = [name for name in ("cls",) if name in rows.features]
    names = {found[0]: name for name, found in usual.items() if found and name not in rows.features}
    return rows.rename_columns(names)


def hub_features(name: str, revision: str | None) -> "Features | None":
    """The columns of a hub data set where it declares them, without its pictures.

    Raises ConnectionError where it cannot be reached.
    """
    import datasets

    try:
        return datasets.load_dataset_builder(place_of(name), revision=revision).info.features
    except Exception as error:
        raise _unreachable(name, error) from error


def _unreachable(name: str, error: Exception) -> ConnectionError:
    return ConnectionError(
        f"data: {name!r} is no file or folder here, and could not be fetched from the hub "
        f"({type(error).__name__}: {error}); check its spelling and the network, or give the path "
        "of a folder or parquet file"
    )


def _split_name(stem: str) -> str:
    """Read a split off the name of a parquet file, as in `train-00000-of-00002`: train where it says nothing."""
    word = stem.lower().replace("_", "-").replace(".", "-").split("-")[0]
    return word if word in HELD_OUT_NAMES else "train"


def pool_and_held_out(splits: Mapping[str, Any]) -> tuple[str, str | None]:
    """Name the split to train on, and the one to hold out (None: there is none)."""
    pool = "train" if "train" in splits else next(iter(splits))
    return pool, next((name for name in HELD_OUT_NAMES if name in splits and name != pool), None)


def choose_columns(features: "Features", image: str, caption: str | None) -> str:
    """Check that there is the image column, and choose the caption column: `caption`, or the first known one.

    Raises ValueError, with the columns that there are, where one is missing.
    """
    from datasets import ClassLabel

    there = ", ".join(features) or "none"
    if image not in features:
        raise ValueError(f"data: no image column {image!r}; the columns are: {there} (choose with --image-column)")
    if caption is None:
        usable = (c for c in CAPTION_COLUMNS if c in features and (c != "label" or isinstance(features[c], ClassLabel)))
        caption = next(usable, None)
        if caption is None:
            raise ValueError(
                f"data: no captions found; the columns are: {there} (choose with --caption-column; for a folder, write "
                'metadata.jsonl beside the pictures, a line {"file_name": "a.jpg", "text": "what it shows"} for each)'
            )
    if caption not in features:
        raise ValueError(
            f"data: no caption column {caption!r}; the columns are: {there} (choose with --caption-column)"
        )
    if not _speaks(features[caption]):
        raise ValueError(f"data: column {caption!r} holds {features[caption]}, not text (choose with --caption-column)")
    return caption


def _speaks(feature: Any) -> bool:
    """Whether a column holds text, several texts, or labels that have names."""
    from datasets import ClassLabel, Value

    inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", feature)
    return isinstance(feature, ClassLabel) or (isinstance(inner, Value) and inner.dtype in ("string", "large_string"))


def captions_of(value: Any, feature: Any) -> tuple[str, ...]:
    """The captions in one cell: text, several texts, or the name of a label; what is blank or no text is left out."""
    from datasets import ClassLabel

    if isinstance(feature, ClassLabel):
        value = None if value is None or value < 0 else feature.int2str(value).replace("_", " ")
    several = value if isinstance(value, list | tuple) else [value]
    return tuple(text.strip() for text in several if isinstance(text, str) and text.strip())


def hash_files(root: Path, found: Iterable[Path]) -> str:
    """SHA-256 over (relative name, size, SHA-256) of every file."""
    total = hashlib.sha256()
    for file in found:
        with file.open("rb") as opened:
            content = hashlib.file_digest(opened, "sha256").hexdigest()
        name = file.relative_to(root).as_posix() if file != root else file.name
        total.update(f"{name}\0{file.stat().st_size}\0{content}\n".encode())
    return total.hexdigest()
