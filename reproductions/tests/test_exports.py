"""Tables for other programs: CSV that reads back exactly, LaTeX that LaTeX reads."""

import csv
import io
import math
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from reproductions.reporting.exports import escaped, files, sheets
from reproductions.reporting.findings import RowResult, summarise
from reproductions.tests.test_report import report, unrun

NASTY = 'a & b_c 50% #1 {x} ~ ^ $y$ \\z, "quoted"\nline'


def read(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def test_csv_reads_back_in_full_precision() -> None:
    """Oracle: the report's own measurements."""
    rows = {row["approach"]: row for row in read(files(report())["table1.csv"])}
    assert list(rows) == ["LDM", "ConPreDiff_con", "DALL-E", "GLIDE"]
    measured = next(row for row in report().rows if row.approach == "LDM").measured["FID[shapes]"]
    assert float(rows["LDM"]["FID[shapes]"]) == measured.mean
    assert float(rows["LDM"]["FID[shapes] low"]) == measured.low
    assert rows["LDM"]["FID[shapes] seeds"] == "3"
    assert rows["LDM"]["FID-30K (paper)"] == ""
    assert float(rows["GLIDE"]["zero-shot FID-30K (paper)"]) == 12.24
    assert rows["GLIDE"]["FID[shapes]"] == ""


def test_csv_of_differences_costs_and_ceiling() -> None:
    written = files(report())
    differences = read(written["table1-differences.csv"])
    assert [(row["row"], row["minus"], row["reading"]) for row in differences][1] == ("ConPreDiff_con", "LDM", "better")
    assert float(differences[1]["difference"]) == pytest.approx(0.05)
    assert [float(row["seconds"]) for row in read(written["table1-costs.csv"])] == [8.24, 299.6]
    assert read(written["table1-ceiling.csv"])[0]["images"] == "2000"


def test_a_table_without_rows_is_not_written() -> None:
    assert [sheet.name for sheet in sheets(unrun(report()))] == ["table1"]


def test_what_is_not_finite_is_empty_in_csv() -> None:
    rows = [RowResult("A", "GAN", {}, {"FID[shapes]": summarise({0: math.nan})})]
    (row,) = read(files(report(rows=rows, samples=[]))["table1.csv"])
    assert row["FID[shapes]"] == ""


def test_latex_has_as_many_cells_in_every_line_and_escapes_what_it_is_given() -> None:
    rows = [replace(row, approach=NASTY) if row.approach == "GLIDE" else row for row in report().rows]
    for sheet in sheets(report(rows=rows, title=NASTY)):
        text = sheet.latex()
        columns = len(re.search(r"\\begin\{tabular\}\{([lr]+)\}", text).group(1))
        lines = [line for line in text.splitlines() if line.endswith(r"\\")]
        assert len(lines) == len(sheet.cells)
        assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {columns - 1}
        assert "\\toprule" in text and "\\bottomrule" in text
    assert r"a \& b\_c 50\% \#1 \{x\} \textasciitilde{} \textasciicircum{} \$y\$ \textbackslash{}z" in escaped(NASTY)


def test_latex_reads_it(tmp_path: Path) -> None:
    """Oracle: LaTeX, where it is installed."""
    program = shutil.which("pdflatex")
    if program is None:
        pytest.skip("pdflatex is not installed")
    body = "".join(sheet.latex() for sheet in sheets(report()))
    page = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}" + body + "\\end{document}"
    (tmp_path / "page.tex").write_text(page)
    line = [program, "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
