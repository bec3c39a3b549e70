"""What a wheel and a source archive must hold, and what they must not.

    python workshop/artefacts.py PACKAGE_FOLDER ARTEFACT_FOLDER

Both hold every module of the package, `py.typed` and the licence, and no tests and no data; their metadata say what
`pyproject.toml` says. Standard library only.
"""

import argparse
import re
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path, PurePosixPath
from typing import Any

PAGES = {"CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml", "PKG-INFO", ".gitignore"}


@dataclass(frozen=True)
class Artefact:
    """A built file as a mapping: `files` by their paths, below the archive's own folder in a source archive."""

    name: str
    files: Mapping[str, bytes]


def read_artefact(path: Path) -> Artefact:
    """The files of a wheel or of a source archive, read without unpacking it to disk."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return Artefact(path.name, {name: wheel.read(name) for name in wheel.namelist()})
    with tarfile.open(path) as archive:
        read = ((member.name, archive.extractfile(member)) for member in archive if member.isfile())
        return Artefact(path.name, {name.partition("/")[2]: file.read() for name, file in read if file})


def source_files(package: Path) -> dict[str, bytes]:
    """The modules and `py.typed` of a package's source, by their paths below `src`."""
    found = [path for path in (package / "src").rglob("*") if path.suffix == ".py" or path.name == "py.typed"]
    return {path.relative_to(package / "src").as_posix(): path.read_bytes() for path in found}


def faults(package: Path, artefact: Artefact) -> Iterator[str]:
    """What is wrong with an artefact of `package`, one sentence each; nothing where it is whole."""
    is_wheel = artefact.name.endswith(".whl")
    declared = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    about = next((name for name in artefact.files if name.endswith((".dist-info/METADATA", "PKG-INFO"))), None)
    if about is None:
        yield f"{artefact.name} has no metadata"
        return
    yield from _differing(artefact, Parser().parsestr(artefact.files[about].decode()), declared)
    inside = PurePosixPath(about).parent.as_posix() + "/" if is_wheel else ""
    licence = f"{inside}licenses/LICENSE" if is_wheel else "LICENSE"
    if artefact.files.get(licence) != (package / "LICENSE").read_bytes():
        yield f"{artefact.name}: {licence} is missing or is not the package's"
    sources = {("" if is_wheel else "src/") + name: content for name, content in source_files(package).items()}
    if not any(name.endswith("/py.typed") for name in sources):
        yield f"{package}/src holds no py.typed: type checkers will not read it"
    for name, content in sources.items():
        if artefact.files.get(name) != content:
            yield f"{artefact.name}: {name} is missing or differs from the source"
    for name in artefact.files.keys() - sources.keys():
        if not (name.startswith(inside) if is_wheel else name in PAGES):
            yield f"{artefact.name}: {name} does not belong there"


def _differing(artefact: Artefact, metadata: Message, declared: Mapping[str, Any]) -> Iterator[str]:
    wanted = {
        "Name": declared["name"],
        "Version": declared["version"],
        "License-Expression": declared["license"],
        "Requires-Python": declared["requires-python"],
    }
    for field, value in wanted.items():
        if metadata[field] != value:
            yield f"{artefact.name}: {field} is {metadata[field]}, where pyproject.toml has {value}"
    required = {re.sub(r"\s", "", item) for item in metadata.get_all("Requires-Dist", []) if "extra ==" not in item}
    if required != {re.sub(r"\s", "", item) for item in declared["dependencies"]}:
        yield f"{artefact.name} requires {sorted(required)}, where pyproject.toml has {declared['dependencies']}"


def check_folder(package: Path, folder: Path) -> list[str]:
    """The faults of the one wheel and the one source archive of `package` in a folder, and their absence.

    Other packages' artefacts may lie beside them.
    """
    declared = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    stem = f"{declared['name'].replace('-', '_')}-{declared['version']}"
    found = [folder / f"{stem}-py3-none-any.whl", folder / f"{stem}.tar.gz"]
    missing = [f"{path} was not built" for path in found if not path.is_file()]
    return missing or [fault for path in found for fault in faults(package, read_artefact(path))]


def main() -> None:
    """Ends with the faults, if there are any."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, metavar="PACKAGE_FOLDER")
    parser.add_argument("folder", type=Path, metavar="ARTEFACT_FOLDER")
    asked = parser.parse_args()
    if found := check_folder(asked.package, asked.folder):
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
