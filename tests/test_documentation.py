"""What the site is built with: docstrings keep what they say, and every broken link is found."""

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs"))
docstrings = importlib.import_module("docstrings")
links = importlib.import_module("links")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Plain words\nover two lines.", ["Plain words over two lines.", ""]),
        ("A name_ and x_t, *stars* and |bars|.", [r"A name\_ and x\_t, \*stars\* and \|bars\|.", ""]),
        ("Code `x_t` and a formula $x_t * 2$.", ["Code ``x_t`` and a formula :math:`x_t * 2`.", ""]),
        ("$$ \\sum_i\n   x_i $$", [".. math::", "", "    \\sum_i x_i", ""]),
        ("    loss = a_b", ["::", "", "    loss = a_b", ""]),
        ("With\n\n    x = 1\n\nafter.", ["With", "", "::", "", "    x = 1", "", "after.", ""]),
        (
            "Args:\n    x_t: tokens (b, n)\n        of a batch.\n    t: times.",
            ["*Args:*", "", "* ``x_t``: tokens (b, n) of a batch.", "* ``t``: times.", "", ""],
        ),
        ("* one\n  thing\n* another_", ["* one thing", r"* another\_", ""]),
        (
            "Source: DDPM Eq. 4\nDeviation: less\n    of it.",
            [":Source: DDPM Eq. 4", ":Deviation: less of it.", ""],
        ),
        ("Says so.\nSource: DDPM Eq. 4", ["Says so.", "", ":Source: DDPM Eq. 4", ""]),
    ],
)
def test_docstrings_in_the_markup_of_the_site(written: str, read: list[str]) -> None:
    assert docstrings.restructured(written.split("\n")) == read


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Two pages that lead to each other, to a part of one, to a picture and out of the site."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "a b.png").touch()
    page = '<a href="../index.html#part">x</a><a href="#top">x</a><a href="https://example.org/none">x</a>'
    (tmp_path / "deep/page.html").write_text(page)
    (tmp_path / "index.html").write_text('<p id="part"><img src="a%20b.png"><a href="deep/page.html">x</a></p>')
    return tmp_path


def test_whole_links_are_left_in_peace(site: Path) -> None:
    assert list(links.broken(site)) == []


@pytest.mark.parametrize(
    ("link", "told"),
    [
        ("gone.html", "index.html: gone.html leads nowhere"),
        ("deep/page.html#gone", "index.html: deep/page.html#gone has no such part"),
        ("#gone", "index.html: #gone has no such part"),
        ("deep", "index.html: deep leads nowhere"),
    ],
)
def test_broken_links_are_told(
    site: Path, link: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "index.html").write_text(f'<p id="part"></p><a href="{link}">x</a>')
    assert list(links.broken(site)) == [told]
    monkeypatch.setattr(sys, "argv", ["links.py", str(site)])
    assert links.main() == 1
    assert told in capsys.readouterr().err
