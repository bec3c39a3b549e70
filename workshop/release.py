"""One package's release: checked, built, tried where nothing else is, and only then committed and tagged.

    python workshop/release.py PACKAGE_FOLDER major|minor|patch|VERSION [--dry-run]

Everything is built and tried in a clone of the present commit in a temporary folder, so that nothing uncommitted gets
into a release, and a release that fails leaves no trace. `--dry-run` goes the whole way and leaves none either.
The version goes into the package's `pyproject.toml`, its changelog and, where it has one, its `__version__`.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from artefacts import check_folder
from versions import STEPS, declared_version, following, unreleased, write_version

ROOT = Path(__file__).resolve().parent.parent
BRANCH = "main"


@dataclass(frozen=True)
class Release:
    """Which package of which repository, at which version, on which day; `package` is its folder from the root."""

    root: Path
    package: Path
    version: str
    day: date

    @property
    def name(self) -> str:
        """The name under which the package is installed."""
        project = tomllib.loads((self.root / self.package / "pyproject.toml").read_text())["project"]
        return str(project["name"])

    @property
    def tag(self) -> str:
        """The tag that publishes it."""
        return f"{self.name}-v{self.version}"


def git(root: Path, *arguments: str | Path) -> str:
    """What git prints."""
    return subprocess.run(["git", *arguments], cwd=root, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def obstacles(release: Release) -> list[str]:
    """What stands in the way of a release, one sentence each."""
    found = []
    if changes := git(release.root, "status", "--porcelain"):
        found.append(f"the tree has changes that are not committed:\n{changes}")
    if (branch := git(release.root, "rev-parse", "--abbrev-ref", "HEAD")) != BRANCH:
        found.append(f"releases are made on {BRANCH}, and this is {branch}")
    if git(release.root, "tag", "--list", release.tag):
        found.append(f"{release.tag} exists already")
    if not unreleased((release.root / release.package / "CHANGELOG.md").read_text()):
        found.append(f"{release.package}/CHANGELOG.md has no entries under a heading '## Unreleased'")
    return found


def build(package: Path, folder: Path) -> None:
    """Build a wheel and a source archive, and check what is in them and what they say.

    Raises:
        SystemExit: they do not hold what they should.
        subprocess.CalledProcessError: they cannot be built, or their description cannot be shown.
    """
    command: list[str | Path] = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, package]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *folder.iterdir()], check=True)
    if faults := check_folder(package, folder):
        sys.exit("\n".join(faults))


def try_out(artefact: Path, clone: Path, package: Path, environment: Path) -> None:
    """Run the package's tests where only `artefact`, what it requires and the tests' own tools are installed."""
    subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, environment], check=True)
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    command: list[str | Path] = ["uv", "pip", "install", "--quiet", "--python", python, "-c", clone / "constraints.txt"]
    subprocess.run([*command, f"--group={clone}/pyproject.toml:test", artefact], check=True)
    subprocess.run([python, "-m", "pytest", "-q", "--markdown-docs", package], cwd=clone, check=True)


def prove(clone: Path, package: Path, folder: Path) -> None:
    """Build both artefacts of `package` into `folder` and try each of them out."""
    build(clone / package, folder)
    for number, artefact in enumerate(sorted(folder.iterdir())):
        print(f"trying {artefact.name} where nothing else is", flush=True)
        with TemporaryDirectory() as environments:
            try_out(artefact, clone, package, Path(environments) / str(number))


def carry_out(
    release: Release, *, dry_run: bool = False, prove: Callable[[Path, Path, Path], None] = prove
) -> list[str]:
    """Release, or with `dry_run` try everything and change nothing; returns what stood in a dry run's way.

    Raises:
        SystemExit: something stands in the way, unless it is a dry run.
    """
    found = obstacles(release)
    if found and not dry_run:
        sys.exit("\n".join([f"{release.tag} cannot be released:", *found]))
    with TemporaryDirectory() as folder:
        clone, built = Path(folder) / "clone", Path(folder) / "dist"
        git(release.root, "clone", "--quiet", release.root, clone)
        write_version(clone / release.package, release.version, release.day)
        prove(clone, release.package, built)
        if not dry_run:
            commit(release, built)
    return found


def commit(release: Release, built: Path) -> None:
    """Write the version into the tree, keep what was built in `dist/`, commit and tag."""
    written = write_version(release.root / release.package, release.version, release.day)
    shutil.copytree(built, release.root / "dist", dirs_exist_ok=True)
    title = f"Release {release.name} {release.version}"
    git(release.root, "commit", "--quiet", "--message", title, "--", *written)
    git(release.root, "tag", "--annotate", "--message", title, release.tag)


def main() -> None:
    """Releases a package of this repository."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, metavar="PACKAGE_FOLDER", help="from the root, as packages/evaluation")
    parser.add_argument(
        "step", metavar="major|minor|patch|VERSION", help="a step from the present version, or the next"
    )
    parser.add_argument("--dry-run", action="store_true", help="do everything, and leave no trace")
    asked = parser.parse_args()
    present = declared_version((ROOT / asked.package / "pyproject.toml").read_text())
    try:
        version = following(present, asked.step)
    except ValueError as error:
        parser.error(str(error))
    release = Release(ROOT, asked.package, version, datetime.now(UTC).date())
    untagged = not git(ROOT, "tag", "--list", f"{release.name}-v{present}")
    if untagged and asked.step in STEPS:
        print(
            f"note: {present} was never released; name it in place of {asked.step} to release it as it stands",
            flush=True,
        )
    found = carry_out(release, dry_run=asked.dry_run)
    if asked.dry_run:
        print("\n".join([f"{release.tag} was tried; nothing was changed.", *(f"In the way: {each}" for each in found)]))
    else:
        print(f"{release.tag} stands in dist/ and in the history; `git push --follow-tags` publishes it")


if __name__ == "__main__":
    main()
