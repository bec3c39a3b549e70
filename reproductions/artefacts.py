"""Stages and their artefacts: settings in, one folder out, at a path named by the hash of what it reads.

A stage works in `<name>-<digest>.partial` and is renamed when it is complete, so that a folder without that suffix is
always a finished one. `stage.json` inside lists every file with its hash; a damaged artefact is found and remade.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

RECEIPT = "stage.json"


class Track(Protocol):
    """Wraps an iterable of steps in a progress bar; `note` is shown beside it."""

    def __call__(self, steps: Iterable[Any], total: int | None = None, done: int = 0) -> Iterator[Any]: ...

    def note(self, text: str) -> None: ...


@dataclass(frozen=True)
class Desk:
    """What a running stage has before it: its settings, its inputs' folders, its own folder, a progress bar.

    rank: which of `ranks` processes this is that run the stage together; the first writes the artefact.
    """

    folder: Path
    settings: Any
    inputs: Mapping[str, Path]
    track: Track
    tensorboard: Path
    rank: int = 0
    ranks: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the artefact."""
        return self.rank == 0


@dataclass(frozen=True)
class Stage:
    """One step of a pipeline.

    run: a module-level function that reads `desk.inputs` and writes into `desk.folder`; settings: a dataclass with all
    that it reads besides (a change of it gives another digest); version: raised when `run` changes its meaning;
    size: parameters and steps, for the plan; cost: what `costs` counts of it, which takes seconds; shared: whether all
    ranks run it together, where there are several (otherwise the first does alone).
    """

    name: str
    run: Callable[[Desk], None]
    settings: Any
    inputs: Mapping[str, "Stage"] = field(default_factory=dict)
    version: int = 1
    size: Callable[[], Mapping[str, int]] | None = None
    cost: Callable[[], Mapping[str, int]] | None = None
    shared: bool = False

    @cached_property
    def digest(self) -> str:
        """Hash of the function's name and version, the settings, and the inputs' digests."""
        read = {
            "run": f"{self.run.__module__}.{self.run.__qualname__}",
            "version": self.version,
            "settings": plain(self.settings),
            "inputs": {key: stage.digest for key, stage in self.inputs.items()},
        }
        return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()

    def folder(self, root: Path) -> Path:
        """Where the finished artefact lies."""
        return root / f"{self.name.replace(' ', '-')}-{self.digest[:16]}"


def plain(value: Any) -> Any:
    """`value` as JSON-able data."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)


def write_json(path: Path, value: Any) -> None:
    """Write `value` so that `path` is never half-written."""
    write_whole(path, (json.dumps(plain(value), indent=1, sort_keys=True) + "\n").encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is never half there: under a partial name, then renamed."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)


def sha256(path: Path) -> str:
    """Hash of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def begin(stage: Stage, root: Path) -> Path:
    """The folder to work in: what an earlier, interrupted attempt left is kept."""
    partial = stage.folder(root).with_name(stage.folder(root).name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    return partial


def finish(stage: Stage, root: Path, cost: Mapping[str, float | None]) -> None:
    """List the files with their hashes and give the folder its final name."""
    partial = begin(stage, root)
    files = {str(p.relative_to(partial)): sha256(p) for p in sorted(partial.rglob("*")) if p.is_file()}
    files.pop(RECEIPT, None)
    inputs = {key: needed.folder(root).name for key, needed in stage.inputs.items()}
    noted = {"stage": stage.name, "settings": plain(stage.settings), "inputs": inputs, "files": files}
    write_json(partial / RECEIPT, {**noted, "cost": dict(cost)})
    os.replace(partial, stage.folder(root))


def receipt(stage: Stage, root: Path) -> dict[str, Any] | None:
    """What a finished stage noted (None: not finished), once every file was found as it was written.

    A damaged artefact is moved aside, with a `.damaged` suffix, and counts as not finished.
    """
    folder = stage.folder(root)
    if not folder.exists():
        return None
    try:
        noted: dict[str, Any] = json.loads((folder / RECEIPT).read_text())
        wrong = [
            n for n, digest in noted["files"].items() if not (folder / n).is_file() or sha256(folder / n) != digest
        ]
    except (OSError, ValueError, KeyError, TypeError):
        wrong = [RECEIPT]
    if not wrong:
        return noted
    aside = folder.with_name(folder.name + ".damaged")
    shutil.rmtree(aside, ignore_errors=True)
    os.replace(folder, aside)
    print(f"{stage.name}: {', '.join(wrong)} is damaged; the stage is run again (the old files are in {aside})")
    return None


def upstream(stages: Iterable[Stage]) -> list[Stage]:
    """`stages` and all that they need, each once, inputs before those that read them."""
    found: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        if stage.digest not in found:
            for needed in stage.inputs.values():
                visit(needed)
            found[stage.digest] = stage

    for stage in stages:
        visit(stage)
    return list(found.values())
