"""Pictures without captions, alone or with their labels."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reproductions.data import DIGITS, DataSettings, Progress, Splits, check, load, plain
from reproductions.drawn.shapes import SETS
from reproductions.gathering.data_presets import verify
from reproductions.gathering.pictures import BadPicture
from reproductions.gathering.reading import Telling, read_real
from reproductions.gathering.sources import hub_features, looks_local, open_local, path_of, pool_and_held_out


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


def load_pictures(
    settings: DataSettings, folder: Path, *, label: str | None = None, progress: Progress = plain
) -> Splits:
    """Both splits of a data set, as `data.load` makes them, but of its pictures alone; drawn sets are as they are.

    label: column of labels with names; the names are the captions, and the labels (n, 1) the attributes.

    Raises ValueError where more than `max_bad` files or rows are bad, naming them.
    """
    check_pictures(settings)
    if settings.name in (*SETS, DIGITS):
        return load(settings, folder, progress=progress)
    tell = _silent if label is None else _labelled(label)
    return read_real(settings, folder, tell, progress)


def _silent(features: Mapping[str, Any]) -> Telling:
    return Telling()


def _labelled(column: str) -> Callable[[Mapping[str, Any]], Telling]:
    """What reads labels with names."""

    def label(cells: Mapping[str, Any]) -> int:
        found: int | None = cells[column]
        if found is None or found < 0:
            raise BadPicture("no label")
        return found

    def tell(features: Mapping[str, Any]) -> Telling:
        names = features[column].names
        return Telling((column,), lambda cells: (names[label(cells)].replace("_", " "),), label)

    return tell


def _require_column(features: Mapping[str, Any], column: str) -> None:
    if column not in features:
        there = ", ".join(features) or "none"
        raise ValueError(f"data: no image column {column!r}; the columns are: {there} (choose with --image-column)")
