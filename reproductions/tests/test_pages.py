"""Pages as a browser shows them: nothing asked of the network, nothing said on the console, nothing cut off."""

import html
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from reproductions.commands.compare import CompareOptions, compare
from reproductions.report import write_report
from reproductions.reporting.findings import Illustration, RowResult
from reproductions.reporting.grids import grid, png
from reproductions.tests.test_report import measured, pictures, report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PHONE = 390
FRAME = """<!doctype html><body><iframe src="{page}" width="{width}" height="800"></iframe><pre></pre>
<script>onload = () => {{
  const frame = document.querySelector("iframe"), page = frame.contentDocument;
  document.querySelector("pre").textContent = JSON.stringify({{
    width: page.documentElement.scrollWidth,
    broken: [...page.images].filter(each => !each.naturalWidth).map(each => each.alt),
    asked: frame.contentWindow.performance.getEntriesByType("resource").map(each => each.name),
  }});
}}</script></body>"""
WRONG = """<!doctype html><title>x</title><p style="width: 900px">wide</p><img alt="away" src="http://nowhere.invalid/a.png">
<script>console.error("wrong")</script>"""


@dataclass(frozen=True)
class Seen:
    """What a browser says of a page on a phone."""

    width: int
    broken: list[str]
    asked: list[str]
    console: list[str]


def seen(browser: str, page: Path) -> Seen:
    """Show a page in a frame as wide as a phone."""
    frame = page.with_name(f"frame-{page.name}")
    frame.write_text(FRAME.format(page=page.as_uri(), width=PHONE))
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom"]
    options += [
        "--enable-logging=stderr",
        f"--user-data-dir={page.parent / 'profile'}",
        "--no-first-run",
        "--hide-scrollbars",
    ]
    options += ["--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND"]
    done = subprocess.run([browser, *options, frame.as_uri()], capture_output=True, text=True, timeout=300, check=True)
    told = json.loads(html.unescape(done.stdout.partition("<pre>")[2].partition("</pre>")[0]))
    asked = [address for address in told["asked"] if not address.startswith("data:")]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Seen(told["width"], told["broken"], asked, console)


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium or Chrome is installed to show pages with")
    return found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report with everything that reports have, names and numbers long, and a comparison of two."""
    root = tmp_path_factory.mktemp("pages")
    long = [
        RowResult("Improved VQ-Diffusion + context, some-data-set-256", "discrete", {"FID": 1.0}, measured(1e-4, 2))
    ]
    shown = Illustration("nearest-1", "Nearest", "words " * 40, png(grid(pictures(5, 40), 10, 12)))
    write_report(root / "a", report(illustrations=[shown]))
    write_report(root / "b", report(rows=[*report().rows, *long], command="nox -s x -- " + "long-" * 60))
    assert compare(CompareOptions((root / "a", root / "b"), root / "compare.html")) == 0
    return {"report": root / "a" / "table1.html", "long": root / "b" / "table1.html", "compared": root / "compare.html"}


@pytest.mark.parametrize("name", ["report", "long", "compared"])
def test_a_page_fits_a_phone_and_asks_for_nothing(name: str, browser: str, pages: dict[str, Path]) -> None:
    """Oracle: the browser."""
    assert seen(browser, pages[name]) == Seen(PHONE, [], [], [])


def test_what_is_wrong_with_a_page_is_seen(browser: str, tmp_path: Path) -> None:
    (tmp_path / "wrong.html").write_text(WRONG)
    found = seen(browser, tmp_path / "wrong.html")
    assert found.width > 900
    assert (found.broken, found.asked) == (["away"], ["http://nowhere.invalid/a.png"])
    assert any("wrong" in line for line in found.console)
