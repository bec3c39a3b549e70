"""Runs side by side: by made-up reports, written as tables write them."""

from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats

from reproductions.commands.compare import CompareOptions, compare, difference, lines, names, read, settings
from reproductions.report import write_report
from reproductions.reporting.findings import RowResult, summarise
from reproductions.tests.test_report import Elements, measured, report


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs of three rows; the second has other settings, another value and no LDM."""
    root = tmp_path_factory.mktemp("runs")
    rows = [RowResult("ConPreDiff_con", "continuous", {}, measured(0.5, 0.6)), *report().rows[3:]]
    other = {"commit": None, "seeds": [0, 1], "sampling": {"discrete": {"steps": 100}}}
    write_report(root / "a", report(curves=[]))
    write_report(root / "b", report(curves=[], rows=rows, manifest=other, profile="gpu", samples=[]))
    return [root / "a", root / "b"]


def test_rows_stand_beside_each_other(runs: list[Path]) -> None:
    """Oracle: what the two reports were made of."""
    found = {(line.approach, line.metric): line for line in lines(read(runs))}
    assert len(found) == 4
    one = found["ConPreDiff_con", "caption accuracy"]
    assert [m.mean for m in one.found] == pytest.approx([0.96, 0.55])
    assert one.differences[0].mean == pytest.approx(0.55 - 0.96)
    assert found["LDM", "FID[shapes]"].found[1] is None
    assert found["LDM", "FID[shapes]"].differences == [None]


def test_the_interval_of_a_difference_is_welch_s() -> None:
    """Oracle: SciPy's unpaired test of unequal variances."""
    one, other = (1.0, 1.4, 0.9, 1.3), (2.0, 2.9, 2.2)
    found = difference(summarise(dict(enumerate(one))), summarise(dict(enumerate(other))))
    expected = stats.ttest_ind(other, one, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_one_seed_has_no_interval_and_equal_seeds_no_width() -> None:
    assert difference(summarise({0: 1.0}), summarise({0: 3.0, 1: 4.0})).low is None
    same = summarise({0: 1.0, 1: 1.0})
    assert (difference(same, same).low, difference(same, same).high) == (0, 0)


def test_settings_that_differ_are_named_and_no_others(runs: list[Path]) -> None:
    assert settings(read(runs)) == {
        "profile": ["cpu", "gpu"],
        "seeds": ["0, 1, 2", "0, 1"],
        "sampling / discrete / steps": ["25", "100"],
    }


def test_the_page_is_whole(runs: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "new" / "compare.html"
    assert compare(CompareOptions(tuple(runs), out)) == 0
    elements = Elements(out.read_text())
    assert elements.open == []
    text = " ".join(" ".join(elements.text).split())
    assert "sampling / discrete / steps 25 100" in text
    assert "Welch" in text
    images = [attributes["alt"] for tag, attributes in elements.found if tag == "img"]
    assert "samples/real.png of a" in images and "samples/real.png of b" in images
    assert not any(alt.startswith("samples/ldm.png") for alt in images)


def test_the_same_runs_differ_in_nothing(runs: list[Path], tmp_path: Path) -> None:
    write_report(tmp_path / "again", report(curves=[]))
    found = read([runs[0], tmp_path / "again"])
    assert settings(found) == {}
    assert all(m.mean == 0 for line in lines(found) for m in line.differences)


def test_names_tell_runs_apart() -> None:
    assert names([Path("/x/a"), Path("/x/b")]) == ["a", "b"]
    assert names([Path("/x/one/out"), Path("/x/two/out")]) == ["one/out", "two/out"]


def test_mistakes_are_named(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_report(tmp_path / "other", replace(report(curves=[]), table="table3"))
    (tmp_path / "empty").mkdir()
    for given, said in (
        (runs[:1], "compare needs two runs at least, not 1"),
        ([runs[0], runs[0]], "the same folder was given twice"),
        ([runs[0], tmp_path / "nowhere"], "there is no folder"),
        ([runs[0], tmp_path / "empty"], "holds no finished table"),
        ([runs[0], tmp_path / "other"], "runs of different tables: a (table1), other (table3)"),
    ):
        assert compare(CompareOptions(tuple(given), tmp_path / "x.html")) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "x.html").exists()
