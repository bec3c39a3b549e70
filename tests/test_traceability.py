"""The books balance only when nothing is promised, implemented or checked in vain: each imbalance is made and found."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
specification = importlib.util.spec_from_file_location("traceability", ROOT / "docs/traceability.py")
traceability = importlib.util.module_from_spec(specification)
sys.modules["traceability"] = traceability
specification.loader.exec_module(traceability)

PAPERS = """
[DDPM]
title = "Denoising"
authors = "Ho"
year = 2020
venue = "NeurIPS"

[DDPM.places]
"Eq. 4" = "equation"
"sampling" = "section"

["Improved DDPM"]
title = "Better"
authors = "Nichol"
year = 2021
venue = "ICML"

["Improved DDPM".places]
"cosine schedule" = "equation"
"""
CODE = '''
"""A package.

Source: DDPM sampling
"""


class Process:
    """A process.

    Source: DDPM Eq. 4, Improved DDPM
        cosine schedule
    Deviation: ours has p(x | y), and says so
        over two lines.
    """

    def draw(self):
        """Draws.

        Unstated: the seed; 0.
        """
'''
TESTS = '''
def test_marginal():
    """It is what it is.

    Checks: DDPM Eq. 4
    Checks: Improved DDPM cosine schedule
    """
'''


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small repository whose books balance."""
    for path, text in {
        "papers.toml": PAPERS,
        "README.md": "before\n<!-- traceability -->\nold\n<!-- traceability -->\nafter\n",
        "packages/noise/src/noise/process.py": CODE,
        "packages/noise/tests/test_process.py": TESTS,
        "docs/.keep": "",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def replace(root: Path, path: str, old: str, new: str) -> None:
    text = (root / path).read_text()
    assert old in text
    (root / path).write_text(text.replace(old, new))


def problems(root: Path) -> list[str]:
    return traceability.read_books(root).problems


def test_balanced_books_have_no_problem(root: Path) -> None:
    assert problems(root) == []


@pytest.mark.parametrize(
    ("path", "old", "new", "problem"),
    [
        ("papers.toml", '"Eq. 4" =', '"Eq. 9" = "section"\n"Eq. 4" =', "papers.toml:9: DDPM Eq. 9 is promised, but no"),
        (
            "papers.toml",
            '"Eq. 4" = "equation"\n',
            "",
            "process.py:11: noise.process.Process: Source 'DDPM Eq. 4' is not",
        ),
        ("papers.toml", '"section"', '"chapter"', "papers.toml:10: 'chapter' is no kind of place"),
        ("papers.toml", '"sampling"', '"sampling, fast"', "papers.toml:10: a place's name holds no comma"),
        ("packages/noise/src/noise/process.py", "DDPM sampling", "DPM sampling", "'DPM sampling' begins with no paper"),
        ("packages/noise/src/noise/process.py", "the seed; 0.", "", "process.py:20: noise.process.Process.draw: `Unst"),
        ("packages/noise/src/noise/process.py", "Source: DDPM s", "Checks: DDPM s", "`Checks:` belongs to tests"),
        ("packages/noise/tests/test_process.py", "Checks: DDPM", "Source: DDPM", "a test has `Checks:`, not `Source:`"),
        (
            "packages/noise/tests/test_process.py",
            "Checks: DDPM Eq. 4",
            "",
            "by noise.process.Process, but no test Checks",
        ),
        (
            "packages/noise/tests/test_process.py",
            "DDPM Eq. 4",
            "DDPM Eq. 5",
            "test_marginal: Checks 'DDPM Eq. 5' is not",
        ),
    ],
)
def test_every_imbalance_is_found(root: Path, path: str, old: str, new: str, problem: str) -> None:
    replace(root, path, old, new)
    assert any(problem in found for found in problems(root)), problems(root)


def test_a_section_needs_no_test(root: Path) -> None:
    assert ("DDPM", "sampling") not in traceability.read_books(root).checks


def test_a_paper_is_said_once_for_the_places_that_follow() -> None:
    papers = ["DDPM", "Improved DDPM", "LDM"]
    assert traceability.places_named("DDPM Eq. 4, Eq. 7, Improved DDPM cosine  schedule, LDM U-Net.", papers) == [
        ("DDPM", "Eq. 4"),
        ("DDPM", "Eq. 7"),
        ("Improved DDPM", "cosine schedule"),
        ("LDM", "U-Net"),
    ]


def test_tables_out_of_date_fail_until_they_are_written(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--root", str(root)]
    assert traceability.main(arguments) == 1
    told = capsys.readouterr().err
    assert all(f"{name} is out of date" in told for name in ("README.md", "docs/traceability.md", "docs/deviations.md"))
    assert traceability.main([*arguments, "--write"]) == 0
    assert traceability.main(arguments) == 0
    replace(root, "packages/noise/src/noise/process.py", "the seed; 0.", "the seed; 1.")
    assert traceability.main(arguments) == 1


def test_what_is_written(root: Path) -> None:
    traceability.main(["--root", str(root), "--write"])
    assert (root / "README.md").read_text() == (
        "before\n<!-- traceability -->\n"
        "| paper | places | implemented | checked by tests |\n|---|---:|---:|---:|\n"
        "| DDPM | 2 | 2 | 1 |\n| Improved DDPM | 1 | 1 | 1 |\n"
        "<!-- traceability -->\nafter\n"
    )
    link = "[`noise.process.Process`](../packages/noise/src/noise/process.py)"
    test = "[`test_process.test_marginal`](../packages/noise/tests/test_process.py)"
    assert f"| cosine schedule | equation | {link} | {test} |" in (root / "docs/traceability.md").read_text()
    told = (root / "docs/deviations.md").read_text()
    assert "## noise\n\n### Deviation\n\n* `process.Process`: ours has p(x | y), and says so over two lines.\n" in told
    assert "### Unstated\n\n* `process.Process.draw`: the seed; 0.\n" in told
