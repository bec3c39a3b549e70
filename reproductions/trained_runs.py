"""Finished trainings of denoisers in the folder of a run: which there are, what they were told, what they read."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from reproductions.artefacts import RECEIPT

TRAININGS = re.compile(r"discrete train|continuous train|imagebart \d+ model")
BEGUN = re.compile(r"(discrete|continuous|imagebart)-.*(train|model)-")
READ = {
    "data": ("pictures",),
    "autoencoder": ("autoencoder",),
    "clean": ("tokens", "latents"),
    "captions": ("captions",),
}


@dataclass(frozen=True)
class TrainedRun:
    """A finished training: the name of its stage, its settings as JSON has them, and the folders that it read."""

    folder: Path
    name: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, Path]


def trained_run(path: Path) -> TrainedRun:
    """The finished training in the folder of a run, or in the folder of one of its stages.

    Raises:
        FileNotFoundError: where there is no such folder.
        ValueError: where it holds no finished training, or several.
    """
    path = path.expanduser().resolve()
    if not path.is_dir():
        raise FileNotFoundError(f"--run: there is no folder {path}")
    stages = path.parent if (path / RECEIPT).is_file() else path / "stages"
    finished = {folder: noted for folder in sorted(stages.glob("*")) if (noted := _receipt(folder)) is not None}
    wanted = [path] if stages == path.parent else list(finished)
    found = [folder for folder in wanted if TRAININGS.fullmatch(finished[folder]["stage"])]
    if not found:
        begun = [each.name for each in stages.glob("*.partial") if BEGUN.match(each.name)]
        why = f"its training is not finished ({', '.join(begun)})" if begun else "it holds no training of a denoiser"
        raise ValueError(
            f"--run: {path}: {why}; give the command `conprediff train discrete|continuous ... --out {path}` "
            f"{'again, and it goes on' if begun else 'first'}"
        )
    if len(found) > 1:
        raise ValueError(f"--run: {path} holds several trainings; give one of {', '.join(map(str, found))}")
    (folder,) = found
    noted = finished[folder]
    return TrainedRun(folder, noted["stage"], noted["settings"], _inputs(folder, noted, finished))


def _receipt(folder: Path) -> Mapping[str, Any] | None:
    if folder.suffix in (".partial", ".damaged"):
        return None
    try:
        noted: Mapping[str, Any] = json.loads((folder / RECEIPT).read_text())
    except (OSError, ValueError):
        return None
    return noted


def _inputs(folder: Path, noted: Mapping[str, Any], finished: Mapping[Path, Mapping[str, Any]]) -> dict[str, Path]:
    """What a training read, as its receipt says; of earlier receipts, what there is only one of."""
    if "inputs" in noted:
        return {key: folder.parent / name for key, name in noted["inputs"].items()}
    found: dict[str, Path] = {}
    for key, names in READ.items():
        there = [each for each, other in finished.items() if other["stage"] in names]
        if len(there) > 1:
            raise ValueError(
                f"--run: {folder.parent.parent} holds {', '.join(each.name for each in there)}, and its receipt does "
                "not say which of them the training read; move the others away"
            )
        if there:
            found[key] = there[0]
    return found


def restored(kind: Any, value: Any) -> Any:
    """A value of a type (dataclass, enum, tuple, or one of these or None) from the JSON that it was written as."""
    if value is None:
        return None
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        kinds = [each for each in arguments if each is not NoneType]
        (inner,) = kinds if len(kinds) == 1 else [each for each in kinds if _names(each) == set(value)]
        return restored(inner, value)
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        return kind(**{each.name: restored(hints[each.name], value[each.name]) for each in _there(kind, value)})
    if origin is tuple:
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(restored(inner, item) for inner, item in zip(kinds, value, strict=True))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    return value


def _names(kind: Any) -> set[str]:
    return {each.name for each in fields(kind)}


def _there(kind: Any, value: Mapping[str, Any]) -> Sequence[Any]:
    return [each for each in fields(kind) if each.name in value]
