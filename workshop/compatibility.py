"""Which versions are known to work together: the oldest, the newest, and those of every measured table.

    python workshop/compatibility.py [--write]

Reads the floors of the packages, `constraints.txt` and the manifests of `reproductions/results/`, and verifies
`docs/compatibility.md`, or writes it. Standard library only.
"""

import argparse
import json
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "compatibility.md"
TEXT = """<!-- Written by `nox -s compatibility -- --write` from floors, constraints and manifests; edit those. -->
# Versions that work together

The packages import none of each other, so that any version of one goes with any of the others; what they share is torch
and a few libraries. `nox -s tests_oldest` tests each package with the oldest versions below, on Python 3.11 (later
Pythons start at the first version with a wheel for them), and `nox -s tests` with the newest, which are those of
`constraints.txt`. Of the extras both install geomloss, numba, POT and tokenizers; `nox -s parity` tests the others with
the newest only.

"""
PIN = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>[\w.+]+)(?: ; (?P<marker>.*))?$")
FLOOR = re.compile(r"^(?P<name>[\w.-]+)(?:\[.*\])?>=(?P<version>[\w.]+)$")


def pins(constraints: str) -> dict[str, list[str]]:
    """The versions that `constraints.txt` has for a distribution: one, or several by Python."""
    found: dict[str, list[str]] = defaultdict(list)
    for match in filter(None, map(PIN.match, constraints.splitlines())):
        found[match["name"]].append(match["version"])
    return dict(found)


def floors(projects: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, list[str]]]:
    """The oldest versions by distribution, and the packages, or extras of theirs, that declare each.

    Raises:
        ValueError: a requirement that is no floor.
    """
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for project in projects:
        for extra, requirements in {"": project["dependencies"], **project.get("optional-dependencies", {})}.items():
            for requirement in requirements:
                if not (match := FLOOR.match(requirement)):
                    raise ValueError(
                        f"{project['name']} requires {requirement!r}, which is no floor such as 'torch>=2.6'"
                    )
                found[match["name"]][match["version"]].append(project["name"] + (f"[{extra}]" if extra else ""))
    return {name: dict(versions) for name, versions in sorted(found.items())}


def floor_table(projects: list[Mapping[str, Any]], pinned: Mapping[str, list[str]]) -> Iterator[str]:
    """A line for each distribution that a package or an extra asks for: the oldest version, the newest, who asks."""
    yield "| | oldest | newest | asked for by |\n|---|---|---|---|"
    for name, versions in floors(projects).items():
        newest = " or ".join(pinned.get(name, ["-"]))
        for version, users in versions.items():
            who = "every package" if len(users) == len(projects) else ", ".join(users)
            yield f"| {name} | {version} | {newest} | {who} |"


def manifest_table(manifests: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A line for each measured result: the versions that its manifest tells."""
    columns = sorted({name for manifest in manifests.values() for name in manifest["packages"]})
    yield f"| result | {' | '.join(columns)} | commit |\n|---{'|---' * len(columns)}|---|"
    for result, manifest in sorted(manifests.items()):
        versions = [manifest["packages"].get(name, "-") for name in columns]
        yield f"| {result} | {' | '.join(versions)} | `{manifest['commit'][:8]}` |"


def page(root: Path) -> str:
    """The Markdown page of the repository below `root`."""
    projects = [tomllib.loads(path.read_text())["project"] for path in sorted(root.glob("packages/*/pyproject.toml"))]
    results = {path: json.loads(path.read_text()) for path in root.glob("reproductions/results/*.manifest.json")}
    manifests = {path.name.removesuffix(".manifest.json"): manifest for path, manifest in results.items()}
    lines = [*floor_table(projects, pins((root / "constraints.txt").read_text())), "", "## Measured together", ""]
    lines += ["What the manifests beside the results in `reproductions/results/` tell.", "", *manifest_table(manifests)]
    return TEXT + "\n".join(lines) + "\n"


def main() -> None:
    """Verifies the page, or writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the page")
    text = page(ROOT)
    if parser.parse_args().write:
        PAGE.write_text(text)
    if not PAGE.is_file() or PAGE.read_text() != text:
        sys.exit(f"{PAGE.relative_to(ROOT)} is out of date: nox -s compatibility -- --write")


if __name__ == "__main__":
    main()
