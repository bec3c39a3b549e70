"""The jobs of continuous integration: nox's own sessions, those that a change can break.

    python workshop/matrix.py [--since REF]

Prints one line of JSON, `[{"session": ..., "python": ...}, ...]`. A package's suites run where it changed, with those
of what composes it; without `--since`, or where something changed that they all stand on, the whole runs.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
ON_THE_OLDEST = ("alone", "coverage", "elsewhere", "licences", "parity", "recipes")
RUNS_ON = {"tests": PYTHONS, "tests_oldest": PYTHONS} | dict.fromkeys(ON_THE_OLDEST, PYTHONS[:1])
"""The sessions that are jobs of their own, with their Pythons; all others are checks, which always run."""
REACHES = {
    "reproductions": ("reproductions", "together", "licences"),
    "tests": ("together",),
    "recipes": ("recipes",),
}
"""What stands on a folder; on a package stand all of these."""
ONLY_CHECKED = ("benchmarks", "docs")


def affected(paths: Iterable[str], packages: Collection[str]) -> set[str] | None:
    """The suites that a change of `paths` can break, or None for all of them.

    A package reaches its own suites and those of everything that composes packages. Pages (`*.md`) at the root reach
    none; any other file there, and any folder that is not known here, reaches all.
    """
    suites: set[str] = set()
    for path in map(Path, paths):
        top, *below = path.parts
        if top == "packages" and below and below[0] in packages:
            suites |= {below[0], *chain.from_iterable(REACHES.values())}
        elif top in REACHES:
            suites |= set(REACHES[top])
        elif top not in ONLY_CHECKED and (below or path.suffix != ".md"):
            return None
    return suites


def jobs(listed: Iterable[Mapping[str, Any]], suites: set[str] | None) -> list[dict[str, str]]:
    """What to run of `nox --list --json`: every session of a suite in `suites`, on each Python that it is held to."""
    return [
        {"session": session["session"], "python": python}
        for session in listed
        if suites is None or (session["call_spec"].get("suite", session["name"]) in suites)
        for python in RUNS_ON.get(session["name"], ())
    ]


def changed(since: str) -> list[str]:
    """The files that differ between the present commit and where it left `since`."""
    command = ["git", "diff", "--name-only", f"{since}...HEAD"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def listed_sessions() -> list[dict[str, Any]]:
    """What nox lists of the sessions that are jobs of their own."""
    command = [sys.executable, "-m", "nox", "--list", "--json", "--sessions", *RUNS_ON]
    listed: list[dict[str, Any]] = json.loads(
        subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    )
    return listed


def package_folders() -> list[str]:
    """The names of the packages' folders."""
    return sorted(path.parent.name for path in ROOT.glob("packages/*/pyproject.toml"))


def main() -> None:
    """Prints the jobs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--since", metavar="REF", help="run only what a change since this commit or branch can break")
    since = parser.parse_args().since
    suites = affected(changed(since), package_folders()) if since else None
    print(json.dumps(jobs(listed_sessions(), suites)))


if __name__ == "__main__":
    main()
