"""What an installation brings along: its size and the licences it comes under.

    python workshop/requirements.py [--write]

Reads the metadata of what is installed beside it, follows the requirements of each package and of the reproductions,
and verifies `docs/licences.md`, or writes it. It fails, too, where a licence is neither known nor permissive.
"""

import argparse
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "licences.md"
NOTICE = "<!-- Written by `nox -s licences -- --write` from the metadata of what is installed. -->\n"
PERMISSIVE = re.compile(r"apache|bsd|\bmit\b|psf|python software foundation|\bisc\b|zlib|cc0|hpnd", re.IGNORECASE)
COPYLEFT = re.compile(r"GPL|general public", re.IGNORECASE)
WEAK_COPYLEFT = re.compile(r"mpl|mozilla", re.IGNORECASE)
PROPRIETARY = re.compile(r"nvidia", re.IGNORECASE)
"""What torch for CUDA brings: free of charge, not free software. Torch for the CPU brings none of it."""


READ = {"cuda-toolkit": "NVIDIA; holds nothing, and asks for the distributions that do"}
"""What states no licence in its metadata, and what was found by reading it."""

Node = tuple[str, str]
"""A distribution and one of its extras; `""` for itself."""
FOLDERS = {
    tomllib.loads(path.read_text())["project"]["name"]: path.parent for path in ROOT.glob("packages/*/pyproject.toml")
}
"""Where each package's sources stand, by the name that it is installed under."""


@dataclass(frozen=True)
class Installed:
    """One installed distribution: its `licence` as its metadata say it, and its `size` on disk in bytes."""

    name: str
    version: str
    licence: str
    size: int


def licence(found: Distribution) -> str:
    """The licence of a distribution: its SPDX expression, its classifiers, or the first line of its free text."""
    expression = found.metadata.get("License-Expression")
    classifiers = [
        line.rpartition(" :: ")[2]
        for line in found.metadata.get_all("Classifier", [])
        if line.startswith("License :: ") and not line.endswith("OSI Approved")
    ]
    text = (found.metadata.get("License") or "").strip().partition("\n")[0]
    return expression or ", ".join(classifiers) or text or "unknown"


def read_installed(name: str) -> Installed:
    """What is installed under a name."""
    found = distribution(name)
    stated = licence(found)
    size = sum(file.size or 0 for file in found.files or [])
    return Installed(name, found.version, READ.get(name, stated) if stated == "unknown" else stated, size)


def asked_for(node: Node) -> set[Node]:
    """What a distribution, or one of its extras, asks for on this machine.

    Raises:
        SystemExit: it is not installed.
    """
    name, extra = node
    try:
        lines = distribution(name).requires or []
    except PackageNotFoundError:
        sys.exit(f"{name} is not installed: `nox -s licences` installs everything first")
    found = set()
    for each in map(Requirement, lines):
        always = not each.marker or each.marker.evaluate({"extra": ""})
        if always if not extra else not always and each.marker and each.marker.evaluate({"extra": extra}):
            found |= {(canonicalize_name(each.name), wanted) for wanted in {"", *each.extras}}
    return found


def closure(node: Node, asked_for: Callable[[Node], set[Node]] = asked_for) -> set[str]:
    """All that a distribution, or one of its extras, asks for, directly or not; without itself."""
    reached: set[Node] = set()
    waiting = [node]
    while waiting:
        new = asked_for(waiting.pop()) - reached
        reached |= new
        waiting += new
    return {name for name, _ in reached} - {node[0]}


def refused(installed: Iterable[Installed]) -> Iterator[str]:
    """The distributions whose licence is not known to let everybody use and pass on what builds on them."""
    for each in installed:
        known = any(kind.search(each.licence) for kind in (PERMISSIVE, WEAK_COPYLEFT, PROPRIETARY))
        if not known or (COPYLEFT.search(each.licence) and " OR " not in each.licence):
            yield f"{each.name} {each.version} comes under {each.licence!r}: read it, and note it here, in READ"


def tree(asked: set[Node], shown: set[str], asked_for: Callable[[Node], set[Node]] = asked_for) -> Iterator[str]:
    """A line for each distribution that is asked for; what it asks for stands below it, unless that was `shown`."""
    for name in sorted({each for each, _ in asked}):
        below = set().union(*(asked_for(node) for node in asked if node[0] == name))
        new = name not in shown
        shown.add(name)
        yield f"- {name}" + ("" if new or not below else " (above)")
        if new:
            yield from (f"  {line}" for line in tree(below, shown, asked_for))


def table_of_sizes(packages: Mapping[str, Sequence[str]], installed: Mapping[str, Installed]) -> Iterator[str]:
    """A line for each package: what it asks for, how much that brings, and what each extra adds."""
    yield "| package | itself, MB | asks for | behind those | torch and its own, MB | the rest, MB | extras add, MB |"
    yield "|---|---|---|---|---|---|---|"
    torch = {"torch", *closure(("torch", ""))}
    for name, extras in packages.items():
        everything, direct = closure((name, "")), {each for each, _ in asked_for((name, ""))}
        added = {extra: closure((name, extra)) - everything for extra in extras}
        own = sum(path.stat().st_size for path in FOLDERS[name].glob("src/**/*.py")) / 1e6
        sizes = [total(everything & torch, installed), total(everything - torch, installed)]
        more = ", ".join(f"`{extra}` {total(new, installed)}" for extra, new in added.items()) or "-"
        cells = [name, f"{own:.1f}", ", ".join(sorted(direct)), str(len(everything - direct)), *sizes, more]
        yield f"| {' | '.join(cells)} |"


def trees(packages: Iterable[str]) -> Iterator[str]:
    """What each package asks for, and what that asks for; each distribution is opened once."""
    shown: set[str] = set()
    for name in packages:
        yield f"\n```\n{name}"
        yield from tree(asked_for((name, "")), shown)
        yield "```"


def total(names: Iterable[str], installed: Mapping[str, Installed]) -> str:
    """The size of several distributions in megabytes."""
    size = sum(installed[name].size for name in names) / 1e6
    return f"{size:.1f}" if size < 100 else f"{size:.0f}"


def table_of_licences(packages: Mapping[str, Sequence[str]], installed: Mapping[str, Installed]) -> Iterator[str]:
    """A line for each distribution that comes along, with its licence and what asks for it."""
    yield "| distribution | version | licence | for |\n|---|---|---|---|"
    plain = {name: closure((name, "")) for name in packages}
    extras = {f"{name}[{extra}]": closure((name, extra)) - plain[name] for name in packages for extra in packages[name]}
    for name in sorted(installed):
        users = [user for user, brought in plain.items() if name in brought]
        users = ["every package"] if len(users) == len(plain) else users
        users += [user for user, brought in extras.items() if name in brought]
        each = installed[name]
        yield f"| {name} | {each.version} | {each.licence} | {', '.join(users) or 'the reproductions'} |"


def page(packages: Mapping[str, Sequence[str]], installed: Mapping[str, Installed]) -> str:
    """The Markdown page: what each package brings, and the licence of everything."""
    about = (
        "What `pip install` of each package brings on Linux, at the versions of `constraints.txt`; sizes as unpacked."
    )
    lines = [f"{NOTICE}# What comes along\n\n{about}\n", *table_of_sizes(packages, installed)]
    lines += ["\nWhat asks for what, without extras:", *trees(packages)]
    lines += ["\nLicences, as each distribution states its own:\n", *table_of_licences(packages, installed)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Verifies the page, or writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the page")
    write = parser.parse_args().write
    paths = [*sorted(ROOT.glob("packages/*/pyproject.toml")), ROOT / "reproductions" / "pyproject.toml"]
    declared = [tomllib.loads(path.read_text())["project"] for path in paths]
    every = {each["name"]: list(each.get("optional-dependencies", {})) for each in declared}
    packages = {name: extras for name, extras in every.items() if name != declared[-1]["name"]}
    nodes = [(name, extra) for name, extras in every.items() for extra in ["", *extras]]
    brought = set().union(*map(closure, nodes)) - every.keys()
    installed = {name: read_installed(name) for name in brought}
    text = page(packages, installed)
    if write:
        PAGE.write_text(text)
    wrong = list(refused(installed.values()))
    if not PAGE.is_file() or PAGE.read_text() != text:
        wrong.append(f"{PAGE.relative_to(ROOT)} is out of date: nox -s licences -- --write")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
