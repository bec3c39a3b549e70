"""Files and folders outside a run, known by what they hold and not by where they lie."""

import hashlib
from pathlib import Path

from reproductions.artefacts import sha256


class Located:
    """A path whose place in settings is taken by the SHA-256 of its content, so that it may be moved."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().resolve()
        self.digest = _digest(self.path)

    def __str__(self) -> str:
        return f"sha256:{self.digest}"

    __repr__ = __str__


def _digest(path: Path) -> str:
    if path.is_file():
        return sha256(path)
    if not path.is_dir():
        raise FileNotFoundError(f"there is no file or folder {path}")
    total = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        total.update(f"{file.relative_to(path).as_posix()}\0{sha256(file)}\n".encode())
    return total.hexdigest()
