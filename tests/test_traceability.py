"""The books balance only when nothing is promised, implemented or checked in vain: each imbalance is made and found."""

import ast
import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs"))
books = importlib.import_module("books")
traceability = importlib.import_module("traceability")

PAPERS = """
[DDPM]
title = "Denoising"
authors = "Ho"
year = 2020
venue = "NeurIPS"

[DDPM.places]
"Eq. 4" = "equation"
"sampling" = "section"

[DDPM.left_out]
"Eq. 99" = "it says nothing"

[DDPM.results]
"Eq. 4" = ["results/four.json"]

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
        over two lines [limit].
    """

    limit: float = 1.0

    def draw(self):
        """Draws.

        Unstated: the seed; 0 [Process.limit].
        """
'''
TESTS = '''
def test_it_is():
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
        "results/four.json": "{}",
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
    return books.read_books(root).problems


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
        (
            "packages/noise/src/noise/process.py",
            "the seed; 0 [Process.limit].",
            "",
            "process.py:22: noise.process.Process.draw: `Unst",
        ),
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
            "test_it_is: Checks 'DDPM Eq. 5' is not",
        ),
        (
            "packages/noise/src/noise/process.py",
            "0 [Process.limit]",
            "0",
            "process.py:22: noise.process.Process.draw: end `Unstated:` with what changes the choice",
        ),
        (
            "packages/noise/src/noise/process.py",
            "[limit]",
            "[limits]",
            "process.py:13: noise.process.Process: [limits] is",
        ),
        ("packages/noise/src/noise/process.py", "DDPM sampling", "DDPM Eq. 99", "DDPM Eq. 99 is left out in papers.to"),
        ("papers.toml", '"Eq. 99" = "it', '"Eq. 4" = "it', "DDPM Eq. 4 is both promised and left out"),
        ("papers.toml", '"Eq. 4" = [', '"Eq. 5" = [', "DDPM Eq. 5 has results, but is not promised"),
        ("papers.toml", "four.json", "five.json", "DDPM Eq. 4: the result results/five.json is no file"),
    ],
)
def test_every_imbalance_is_found(root: Path, path: str, old: str, new: str, problem: str) -> None:
    replace(root, path, old, new)
    assert any(problem in found for found in problems(root)), problems(root)


def test_a_section_needs_no_test(root: Path) -> None:
    assert ("DDPM", "sampling") not in books.read_books(root).checks


def test_a_paper_is_said_once_for_the_places_that_follow() -> None:
    papers = ["DDPM", "Improved DDPM", "LDM"]
    assert books.places_named("DDPM Eq. 4, Eq. 7, Improved DDPM cosine  schedule, LDM U-Net.", papers) == [
        ("DDPM", "Eq. 4"),
        ("DDPM", "Eq. 7"),
        ("Improved DDPM", "cosine schedule"),
        ("LDM", "U-Net"),
    ]


def test_what_can_be_named_as_an_option() -> None:
    """A class, a function, a field, a parameter, also of a constructor; nothing else."""
    code = "class A:\n  x: int\n  def __init__(self, y): z = 1\n  def m(self, *, k): pass\ndef f(v): w = 2"
    found = {*books.names(ast.parse(code), "")} - {"A.self", "A.m.self"}
    assert found == {"A", "A.x", "A.y", "A.__init__", "A.m", "A.m.k", "f", "f.v"}


def test_pages_out_of_date_fail_until_they_are_written(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--root", str(root)]
    assert traceability.main(arguments) == 1
    told = capsys.readouterr().err
    pages = ("traceability", "deviations", "unstated", "papers/ddpm", "papers/improved-ddpm")
    assert all(f"docs/{name}.md is out of date" in told for name in pages)
    assert "README.md is out of date" in told
    assert traceability.main([*arguments, "--write"]) == 0
    assert traceability.main(arguments) == 0
    replace(root, "packages/noise/src/noise/process.py", "the seed; 0 [", "the seed; 1 [")
    assert traceability.main(arguments) == 1


def test_the_page_of_a_paper_that_is_gone_is_removed(root: Path) -> None:
    arguments = ["--root", str(root)]
    traceability.main([*arguments, "--write"])
    (root / "docs/papers/forgotten.md").write_text("# Forgotten\n")
    assert traceability.main(arguments) == 1
    assert traceability.main([*arguments, "--write"]) == 0
    assert not (root / "docs/papers/forgotten.md").exists()


def test_what_is_written(root: Path) -> None:
    traceability.main(["--root", str(root), "--write"])
    assert (root / "README.md").read_text() == (
        "before\n<!-- traceability -->\n"
        "| paper | places | implemented | checked by tests |\n|---|---:|---:|---:|\n"
        "| DDPM | 2 | 2 | 1 |\n| Improved DDPM | 1 | 1 | 1 |\n"
        "<!-- traceability -->\nafter\n"
    )
    assert "| [DDPM](papers/ddpm.md): Denoising | 2 | 2 | 1 | 1 |" in (root / "docs/traceability.md").read_text()
    code = "../../packages/noise/src/noise/process.py"
    test = "[it is](../../packages/noise/tests/test_process.py#test_it_is)"
    page = (root / "docs/papers/ddpm.md").read_text()
    result = "[four](../../results/four.json)"
    assert f"| Eq. 4<br>*equation* | noise | [`Process`]({code}#Process) | {test} | {result} |" in page
    assert f"| sampling<br>*section* | noise | [`process`]({code}) |  |  |" in page
    assert "## Left out\n\n* **Eq. 99**: it says nothing\n" in page


def test_choices_are_written_with_what_changes_them(root: Path) -> None:
    traceability.main(["--root", str(root), "--write"])
    code = "../packages/noise/src/noise/process.py"
    told = (root / "docs/deviations.md").read_text()
    assert "## noise\n" in told
    assert f"* [`Process`]({code}#Process): ours has p(x | y), and says so over two lines. → `limit`\n" in told
    open_ = (root / "docs/unstated.md").read_text()
    assert f"| the seed | 0 | `Process.limit` | [`Process.draw`]({code}#Process.draw) |" in open_
