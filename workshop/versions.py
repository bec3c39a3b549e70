"""The next version of a package, and the three places where it is written."""

import re
from datetime import date
from pathlib import Path

STEPS = ("major", "minor", "patch")
UNRELEASED = re.compile(r"^## .*unreleased.*\n(?P<body>(?:(?!## ).*\n?)*)", re.IGNORECASE | re.MULTILINE)
DECLARED = re.compile(r'^(version|__version__) = "([^"]+)"$', re.MULTILINE)


def parse(version: str) -> tuple[int, int, int]:
    """The numbers of `X.Y.Z`.

    Raises:
        ValueError: anything else.
    """
    match = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", version)
    if not match:
        raise ValueError(f"{version!r} is neither {', '.join(STEPS)} nor a version such as 1.2.3")
    return int(match[1]), int(match[2]), int(match[3])


def following(present: str, step: str) -> str:
    """The version that a step of `major`, `minor` or `patch` leads to from the present one, or the one named.

    Raises:
        ValueError: neither a step nor a version, or one before the present.
    """
    major, minor, patch = parse(present)
    steps = {"major": (major + 1, 0, 0), "minor": (major, minor + 1, 0), "patch": (major, minor, patch + 1)}
    wanted = steps.get(step) or parse(step)
    if wanted < parse(present):
        raise ValueError(f"{step} lies before the present version, {present}")
    return ".".join(map(str, wanted))


def declared_version(project_file: str) -> str:
    """The version that the text of a `pyproject.toml` declares.

    Raises:
        ValueError: none, or several.
    """
    found = DECLARED.findall(project_file)
    if len(found) != 1:
        raise ValueError(f"pyproject.toml declares {len(found)} versions; one line 'version = \"X.Y.Z\"' is needed")
    return str(found[0][1])


def with_version(text: str, version: str) -> str:
    """A `pyproject.toml`, or a module with a `__version__`, that declares another version."""
    return DECLARED.sub(rf'\1 = "{version}"', text)


def unreleased(changelog: str) -> str:
    """The entries of a changelog that no version has yet; empty where there are none."""
    match = UNRELEASED.search(changelog)
    return match["body"].strip() if match else ""


def with_release(changelog: str, version: str, day: date) -> str:
    """A changelog whose unreleased entries are those of `version`, below an empty section for what comes.

    Raises:
        ValueError: no entries are unreleased.
    """
    if not unreleased(changelog):
        raise ValueError("the changelog has no entries under a heading '## Unreleased'")
    heading = f"## Unreleased\n\n## {version} ({day.isoformat()})\n"
    return UNRELEASED.sub(lambda match: f"{heading}{match['body']}", changelog, count=1)


def write_version(package: Path, version: str, day: date) -> list[Path]:
    """Write the version into a package's project file, changelog and `__version__`, and tell which files changed."""
    project, changelog = package / "pyproject.toml", package / "CHANGELOG.md"
    modules = [path for path in sorted(package.glob("src/*/__init__.py")) if DECLARED.search(path.read_text())]
    new = {path: with_version(path.read_text(), version) for path in (project, *modules)}
    new[changelog] = with_release(changelog.read_text(), version, day)
    for path, text in new.items():
        path.write_text(text)
    return list(new)
