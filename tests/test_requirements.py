"""What an installation brings, under which licences, and which versions go together, read from what says so."""

import importlib
import sys
from email.message import Message
from importlib.metadata import Distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "workshop"))
compatibility, requirements = (importlib.import_module(name) for name in ("compatibility", "requirements"))

ASKS = {
    ("alpha", ""): {("torch", "")},
    ("alpha", "fast"): {("numba", "")},
    ("torch", ""): {("cuda", ""), ("cuda", "blas"), ("alpha", "")},
    ("cuda", ""): set(),
    ("cuda", "blas"): {("blas", "")},
    ("blas", ""): set(),
    ("numba", ""): {("llvm", ""), ("cuda", "")},
    ("llvm", ""): set(),
}


class Described(Distribution):
    """A distribution that is nothing but its metadata."""

    def __init__(self, **fields: str | list[str]) -> None:
        self.message = Message()
        for field, value in fields.items():
            for line in [value] if isinstance(value, str) else value:
                self.message[field.replace("_", "-")] = line

    @property
    def metadata(self) -> Message:
        return self.message

    def read_text(self, filename: str) -> str | None:
        return None

    def locate_file(self, path: object) -> Path:
        raise FileNotFoundError(path)


def test_what_is_asked_for_is_followed_through_extras_and_circles() -> None:
    assert requirements.closure(("alpha", ""), ASKS.__getitem__) == {"torch", "cuda", "blas"}
    assert requirements.closure(("alpha", "fast"), ASKS.__getitem__) == {"numba", "llvm", "cuda"}
    assert requirements.closure(("llvm", ""), ASKS.__getitem__) == set()


def test_a_tree_opens_each_distribution_once() -> None:
    lines = requirements.tree({("torch", ""), ("numba", ""), ("blas", "")}, set(), ASKS.__getitem__)
    assert list(lines) == [
        "- blas",
        "- numba",
        "  - cuda",
        "  - llvm",
        "- torch",
        "  - alpha",
        "    - torch (above)",
        "  - cuda (above)",
    ]


def test_this_environment_tells_what_pytest_asks_for() -> None:
    assert {"pluggy", "iniconfig", "packaging"} <= requirements.closure(("pytest", ""))
    assert requirements.read_installed("pytest").licence == "MIT"
    assert requirements.read_installed("pytest").size > 100_000
    with pytest.raises(SystemExit, match="no-such-thing is not installed"):
        requirements.asked_for(("no-such-thing", ""))


@pytest.mark.parametrize(
    ("fields", "licence"),
    [
        ({"License_Expression": "MIT", "License": "not this"}, "MIT"),
        ({"Classifier": ["Typing :: Typed", "License :: OSI Approved :: BSD License"], "License": "no"}, "BSD License"),
        ({"Classifier": "License :: OSI Approved", "License": "Apache 2.0\nThe whole\ntext"}, "Apache 2.0"),
        ({}, "unknown"),
    ],
)
def test_a_licence_is_read_where_it_is_said_best(fields: dict, licence: str) -> None:
    assert requirements.licence(Described(**fields)) == licence


@pytest.mark.parametrize(
    ("licence", "wrong"),
    [
        ("Apache-2.0 OR BSD-2-Clause", False),
        ("MIT License", False),
        ("MPL-2.0", False),
        ("NVIDIA Proprietary Software", False),
        ("GPL-3.0-only", True),
        ("MIT AND LGPL-2.1", True),
        ("BSD License, GNU General Public License v3 (GPLv3)", True),
        ("MIT OR GPL-2.0", False),
        ("Permitted for research", True),
        ("unknown", True),
    ],
)
def test_licences_that_bind_who_builds_on_them_are_refused(licence: str, wrong: bool) -> None:
    found = list(requirements.refused([requirements.Installed("x", "1", licence, 0)]))
    assert bool(found) == wrong
    assert all(repr(licence) in each for each in found)


def test_constraints_have_one_version_or_several_by_python() -> None:
    numpy = ["numpy==2.4 ; python_full_version < '3.12'", "numpy==2.5 ; python_full_version >= '3.12'"]
    assert compatibility.pins("\n".join(["# by uv", "a-b==1.2.post1", *numpy])) == {
        "a-b": ["1.2.post1"],
        "numpy": ["2.4", "2.5"],
    }


def test_floors_tell_who_declares_them() -> None:
    projects = [
        {"name": "alpha", "dependencies": ["torch>=2.6"], "optional-dependencies": {"fast": ["numba>=0.61"]}},
        {"name": "beta", "dependencies": ["torch>=2.6", "numba>=0.60"]},
    ]
    assert list(compatibility.floor_table(projects, {"torch": ["2.15.0"]}))[1:] == [
        "| numba | 0.61 | - | alpha[fast] |",
        "| numba | 0.60 | - | beta |",
        "| torch | 2.6 | 2.15.0 | every package |",
    ]
    with pytest.raises(ValueError, match=r"beta requires 'torch==2\.6', which is no floor"):
        compatibility.floors([{"name": "beta", "dependencies": ["torch==2.6"]}])


def test_a_result_tells_the_versions_of_its_manifest() -> None:
    manifests = {
        "two": {"commit": "b" * 40, "packages": {"alpha": "0.2.0"}},
        "one": {"commit": "a" * 40, "packages": {"alpha": "0.1.0", "torch": "2.15.0"}},
    }
    assert list(compatibility.manifest_table(manifests)) == [
        "| result | alpha | torch | commit |\n|---|---|---|---|",
        "| one | 0.1.0 | 2.15.0 | `aaaaaaaa` |",
        "| two | 0.2.0 | - | `bbbbbbbb` |",
    ]


def test_every_floor_of_this_repository_has_a_newest_version() -> None:
    table = compatibility.page(ROOT).partition("## Measured together")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| ")]
    assert {row[0] for row in rows} >= {"torch", "numpy", "jaxtyping"}
    assert all(newest != "-" for _, _, newest, _ in rows[1:])
