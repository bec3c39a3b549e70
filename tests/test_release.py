"""A release changes three lines and a heading, or nothing at all; what is built holds what it should and no more."""

import importlib
import io
import subprocess
import sys
import tarfile
import zipfile
from datetime import date
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "workshop"))
artefacts, release, versions = (importlib.import_module(name) for name in ("artefacts", "release", "versions"))

DAY = date(2026, 11, 21)
PROJECT = """[project]
name = "al-pha"
version = "0.1.0"
requires-python = ">=3.11"
license = "Apache-2.0"
dependencies = ["numpy>=1.26", "torch>=2.6"]
"""
CHANGELOG = "# Changelog\n\n## 0.1.0 (unreleased)\n\n### Added\n\n- All.\n"
METADATA = """Metadata-Version: 2.4
Name: al-pha
Version: 0.1.0
License-Expression: Apache-2.0
Requires-Python: >=3.11
Requires-Dist: numpy>=1.26
Requires-Dist: torch>=2.6
Requires-Dist: numba>=0.61; extra == "fast"
"""
PACKAGE = Path("packages/alpha")


def files(**changes: str | None) -> dict[str, str]:
    """The package's own files by their paths, some of them changed, or left out with None."""
    content: dict[str, str | None] = {
        "pyproject.toml": PROJECT,
        "CHANGELOG.md": CHANGELOG,
        "LICENSE": "Apache",
        "README.md": "# al-pha\n",
        "src/al_pha/__init__.py": '__version__ = "0.1.0"\n',
        "src/al_pha/loss.py": "",
        "src/al_pha/py.typed": "",
        "tests/test_loss.py": "",
    }
    return {name: text for name, text in (content | changes).items() if text is not None}


def written(folder: Path, content: dict[str, str]) -> Path:
    for name, text in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def wheel(folder: Path, **changes: str | None) -> Path:
    about = "al_pha-0.1.0.dist-info"
    content: dict[str, str | None] = {
        **{name.removeprefix("src/"): text for name, text in files().items() if name.startswith("src/")},
        f"{about}/METADATA": METADATA,
        f"{about}/RECORD": "",
        f"{about}/licenses/LICENSE": "Apache",
    }
    path = folder / "al_pha-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in (content | changes).items():
            if text is not None:
                archive.writestr(name, text)
    return path


def source_archive(folder: Path, **changes: str | None) -> Path:
    content = {name: text for name, text in files().items() if not name.startswith("tests/")} | {"PKG-INFO": METADATA}
    path = folder / "al_pha-0.1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in (content | changes).items():
            if text is not None:
                member = tarfile.TarInfo(f"al_pha-0.1.0/{name}")
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text.encode()))
    return path


def test_steps_count_one_number_up_and_zero_those_after_it() -> None:
    assert [versions.following("1.2.3", step) for step in versions.STEPS] == ["2.0.0", "1.3.0", "1.2.4"]
    assert versions.following("0.1.0", "0.1.0") == "0.1.0"
    assert versions.following("0.9.0", "0.10.0") == "0.10.0"


@pytest.mark.parametrize("step", ["minr", "1.2", "v1.2.3", "1.2.3rc1", "0.0.9"])
def test_other_steps_are_refused_with_what_is_known(step: str) -> None:
    with pytest.raises(ValueError, match=r"such as 1\.2\.3|before the present version"):
        versions.following("0.1.0", step)


def test_a_project_declares_its_version_once() -> None:
    assert versions.declared_version(PROJECT) == "0.1.0"
    with pytest.raises(ValueError, match="declares 0 versions"):
        versions.declared_version("[project]\nname = 'x'\n")


@pytest.mark.parametrize(
    "heading", ["## 0.1.0 (unreleased)", "## [0.1.0] - unreleased", "## Unreleased", "## [Unreleased]"]
)
def test_unreleased_entries_move_below_the_version(heading: str) -> None:
    older = "\n## 0.0.1 (2025-01-01)\n\n- Begun.\n"
    moved = versions.with_release(f"# Changelog\n\n{heading}\n\n- New.\n{older}", "0.2.0", DAY)
    assert moved == f"# Changelog\n\n## Unreleased\n\n## 0.2.0 (2026-11-21)\n\n- New.\n{older}"
    assert versions.unreleased(moved) == ""
    with pytest.raises(ValueError, match="no entries under a heading"):
        versions.with_release(moved, "0.3.0", DAY)


def test_the_packages_of_this_repository_can_be_given_a_version(tmp_path: Path) -> None:
    for source in sorted(ROOT.glob("packages/*")):
        modules = {f"src/{path.parent.name}/__init__.py": path.read_text() for path in source.glob("src/*/__init__.py")}
        kept = {name: (source / name).read_text() for name in ("pyproject.toml", "CHANGELOG.md")}
        copy = written(tmp_path / source.name, kept | modules)
        changed = versions.write_version(copy, "7.8.9", DAY)
        assert versions.declared_version((copy / "pyproject.toml").read_text()) == "7.8.9"
        assert "## 7.8.9 (2026-11-21)" in (copy / "CHANGELOG.md").read_text()
        old, new = ((folder / "pyproject.toml").read_text().splitlines() for folder in (source, copy))
        assert [line for line in new if line not in old] == ['version = "7.8.9"']
        for name, text in modules.items():
            assert ((copy / name) in changed) == ("__version__ =" in text) == ((copy / name).read_text() != text)


def test_whole_artefacts_have_no_faults(tmp_path: Path) -> None:
    package, folder = written(tmp_path / "alpha", files()), tmp_path / "dist"
    folder.mkdir()
    assert artefacts.check_folder(package, folder) == [
        f"{folder}/al_pha-0.1.0-py3-none-any.whl was not built",
        f"{folder}/al_pha-0.1.0.tar.gz was not built",
    ]
    wheel(folder), source_archive(folder)
    (folder / "beta-0.1.0.tar.gz").write_bytes(b"another package's")
    assert artefacts.check_folder(package, folder) == []


ABOUT = "al_pha-0.1.0.dist-info"
FAULTS = [
    (wheel, {"al_pha/py.typed": None}, "al_pha/py.typed is missing"),
    (wheel, {"al_pha/loss.py": "changed"}, "al_pha/loss.py is missing or differs"),
    (wheel, {"al_pha/weights.bin": "data"}, "al_pha/weights.bin does not belong there"),
    (wheel, {"tests/test_loss.py": ""}, "tests/test_loss.py does not belong there"),
    (wheel, {f"{ABOUT}/licenses/LICENSE": None}, "licenses/LICENSE is missing"),
    (wheel, {f"{ABOUT}/METADATA": METADATA.replace("0.1.0", "0.2.0")}, "Version is 0.2.0"),
    (wheel, {f"{ABOUT}/METADATA": METADATA.replace("torch>=2.6", "torch>=2.7")}, "requires"),
    (wheel, {f"{ABOUT}/METADATA": None}, "has no metadata"),
    (source_archive, {"LICENSE": "MIT"}, "LICENSE is missing or is not the package's"),
    (source_archive, {"src/al_pha/py.typed": None}, "src/al_pha/py.typed is missing"),
    (source_archive, {"tests/test_loss.py": ""}, "tests/test_loss.py does not belong there"),
    (source_archive, {"PKG-INFO": METADATA.replace("Apache-2.0", "MIT")}, "License-Expression is MIT"),
]


@pytest.mark.parametrize(("make", "changes", "fault"), FAULTS, ids=[fault for _, _, fault in FAULTS])
def test_every_fault_is_found_alone(tmp_path: Path, make, changes: dict[str, str | None], fault: str) -> None:
    package = written(tmp_path / "alpha", files())
    (found,) = artefacts.faults(package, artefacts.read_artefact(make(tmp_path, **changes)))
    assert fault in found


def test_a_package_without_py_typed_is_found(tmp_path: Path) -> None:
    package = written(tmp_path / "alpha", files(**{"src/al_pha/py.typed": None}))
    found = list(artefacts.faults(package, artefacts.read_artefact(wheel(tmp_path, **{"al_pha/py.typed": None}))))
    assert found == [f"{package}/src holds no py.typed: type checkers will not read it"]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "ada@example.org")
    root = tmp_path / "repository"
    written(root / PACKAGE, files())
    (root / ".gitignore").write_text("dist/\n")
    release.git(root, "init", "--quiet", "--initial-branch", "main")
    release.git(root, "add", ".")
    release.git(root, "commit", "--quiet", "--message", "Begin")
    return root


def state(root: Path) -> tuple[str, ...]:
    return tuple(release.git(root, *command.split()) for command in ("rev-parse HEAD", "status --porcelain", "tag"))


def built(clone: Path, package: Path, folder: Path) -> None:
    """Stands in for building and testing, and sees what they would."""
    assert versions.declared_version((clone / package / "pyproject.toml").read_text()) == "0.2.0"
    assert (clone / package / "src/al_pha/__init__.py").read_text() == '__version__ = "0.2.0"\n'
    folder.mkdir()
    (folder / "al_pha-0.2.0.tar.gz").write_text("archive")


def failing(clone: Path, package: Path, folder: Path) -> None:
    raise subprocess.CalledProcessError(1, "pytest")


def test_a_release_is_one_commit_and_one_tag(repository: Path) -> None:
    asked = release.Release(repository, PACKAGE, "0.2.0", DAY)
    assert release.carry_out(asked, prove=built) == []
    assert (
        release.git(repository, "log", "-1", "--format=%s %D")
        == "Release al-pha 0.2.0 HEAD -> main, tag: al-pha-v0.2.0"
    )
    changed = release.git(repository, "show", "--name-only", "--format=").splitlines()
    inside = ["CHANGELOG.md", "pyproject.toml", "src/al_pha/__init__.py"]
    assert changed == [f"{PACKAGE.as_posix()}/{name}" for name in inside]
    assert release.git(repository, "cat-file", "-t", "al-pha-v0.2.0") == "tag"
    assert release.git(repository, "status", "--porcelain") == ""
    assert (repository / "dist/al_pha-0.2.0.tar.gz").read_text() == "archive"
    with pytest.raises(SystemExit, match="al-pha-v0.2.0 exists already"):
        release.carry_out(asked, prove=built)


def test_a_dry_run_goes_the_whole_way_and_leaves_no_trace(repository: Path) -> None:
    before = state(repository)
    asked = release.Release(repository, PACKAGE, "0.2.0", DAY)
    seen: list[Path] = []

    def prove(clone: Path, package: Path, folder: Path) -> None:
        built(clone, package, folder)
        seen.append(clone)

    assert release.carry_out(asked, dry_run=True, prove=prove) == []
    assert state(repository) == before
    assert not (repository / "dist").exists()
    assert not seen[0].exists()


def test_a_release_whose_tests_fail_leaves_no_trace(repository: Path) -> None:
    before = state(repository)
    with pytest.raises(subprocess.CalledProcessError):
        release.carry_out(release.Release(repository, PACKAGE, "0.2.0", DAY), prove=failing)
    assert state(repository) == before


def test_what_is_not_committed_or_not_on_main_or_says_nothing_is_not_released(repository: Path) -> None:
    asked = release.Release(repository, PACKAGE, "0.2.0", DAY)
    release.git(repository, "checkout", "--quiet", "-b", "side")
    (repository / PACKAGE / "CHANGELOG.md").write_text("# Changelog\n")
    found = release.obstacles(asked)
    assert [each.partition(" ")[0] for each in found] == ["the", "releases", "packages/alpha/CHANGELOG.md"]
    assert "CHANGELOG.md" in found[0]
    assert "this is side" in found[1]
    with pytest.raises(SystemExit, match="al-pha-v0.2.0 cannot be released"):
        release.carry_out(asked, prove=built)


def test_a_dry_run_tells_what_would_stand_in_the_way_and_tries_what_is_committed(repository: Path) -> None:
    (repository / PACKAGE / "src/al_pha/loss.py").write_text("half done")
    (found,) = release.carry_out(release.Release(repository, PACKAGE, "0.2.0", DAY), dry_run=True, prove=built)
    assert "src/al_pha/loss.py" in found
