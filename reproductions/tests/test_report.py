"""Reports of made-up findings: their arithmetic, their files, their pictures."""

import base64
import html.parser
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

from reproductions.collect import over_seeds
from reproductions.report import html as page
from reproductions.report import table, write_report
from reproductions.reporting.curves import panels, smoothed, thinned
from reproductions.reporting.energy import Energy
from reproductions.reporting.findings import (
    Better,
    Cost,
    Curve,
    Measurement,
    MetricInfo,
    Report,
    RowResult,
    Samples,
    differences,
    summarise,
)
from reproductions.reporting.grids import comparison_grid, fitting_scale, grid, png
from reproductions.reporting.markdown import markdown
from reproductions.reporting.numerals import count, duration, figure, interval, signed

CAPTIONS = ["a big red circle", 'a <b>"bold"</b> & daring | square', "a small cyan triangle", "a long caption " * 12]
FRECHET = MetricInfo("FID[shapes]", Better.LOWER, "Frechet distance between the judge's features.")
ACCURACY = MetricInfo("caption accuracy", Better.HIGHER, "Share of samples read as <their> caption.")


def pictures(seed: int, n: int = len(CAPTIONS), side: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 3, side, side), generator=generator, dtype=torch.uint8)


def pixels(picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(picture))


def measured(*values: float) -> dict:
    return {
        "FID[shapes]": summarise({s: 10 * v for s, v in enumerate(values)}, 2000, 256),
        "caption accuracy": summarise(dict(enumerate(values)), None, 256),
    }


def report(**changes) -> Report:
    """Three rows and a cited one, three seeds, four captions."""
    rows = [
        RowResult("DALL-E", "AR", {"zero-shot FID-30K": 17.89}, None),
        RowResult(
            "ConPreDiff_con", "continuous", {"zero-shot FID-30K": 6.21}, measured(0.95, 0.96, 0.97), baseline="LDM"
        ),
        RowResult("LDM", "continuous", {"FID-30K": None, "zero-shot FID-30K": 12.63}, measured(0.90, 0.92, 0.91)),
        RowResult("GLIDE", "continuous", {"zero-shot FID-30K": 12.24}, None, note="cited <only>"),
    ]
    right = torch.tensor([True, False, True, True])
    whole = Report(
        table="table1",
        title="Text to image <here>",
        profile="cpu",
        comparable=False,
        data="shapes",
        data_note="Drawn on the fly.",
        rows=rows,
        metrics=[FRECHET, ACCURACY],
        captions=CAPTIONS,
        real=pictures(0),
        reconstructions={"VQ": pictures(1), "KL": pictures(2, n=2)},
        samples=[Samples("ConPreDiff_con", pictures(3), right), Samples("LDM", pictures(4), None)],
        curves=[
            Curve("LDM", {"loss/base": [(s, 1 / s) for s in range(1, 100)], "loss/context": [(1, 2.0), (2, 1.0)]}, seed)
            for seed in (0, 1)
        ],
        costs=[Cost("data", 8.24, None, None, None, True), Cost("LDM seed 0", 299.6, 1404.2, 4000, 1_612_345, False)],
        ceiling={"judge on fresh drawings": summarise({0: 0.999}, n_fake=2000)},
        environment={"device": "a processor", "torch": "2.15.0"},
        manifest={"commit": None, "seeds": [0, 1, 2], "sampling": {"discrete": {"steps": 25}}},
        notes=["One <note>."],
        command="nox -s reproduce_table1 -- --seeds 0,1,2",
    )
    return replace(whole, **changes)


def unrun(whole: Report) -> Report:
    """The same table with nothing run."""
    empty = torch.zeros(0, 3, 8, 8, dtype=torch.uint8)
    return replace(
        whole,
        rows=[replace(row, measured=None) for row in whole.rows],
        captions=[],
        real=empty,
        reconstructions={},
        samples=[],
        curves=[],
        costs=[],
        ceiling={},
        notes=[],
    )


@pytest.fixture(scope="module")
def whole_page() -> str:
    return page(report())


class Elements(html.parser.HTMLParser):
    """The elements of a page, with what stands in their attributes and between them."""

    VOID = frozenset({"meta", "img", "wbr", "br", "path", "use", "line"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


# --- arithmetic


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=8))
def test_interval_is_student_t(values):
    found = summarise(dict(enumerate(values)), 10, 20)
    error = stats.sem(values)
    low, high = (
        stats.t.interval(0.95, len(values) - 1, loc=sum(values) / len(values), scale=error)
        if error
        else (values[0],) * 2
    )
    assert found.low == pytest.approx(low, rel=1e-9, abs=1e-9)
    assert found.high == pytest.approx(high, rel=1e-9, abs=1e-9)
    assert (found.n_real, found.n_fake) == (10, 20)


def test_interval_of_three_seeds_by_the_printed_quantile():
    """t = 4.303 for two degrees of freedom; 1, 2, 3 have mean 2 and deviation 1."""
    found = summarise({7: 3.0, 1: 1.0, 4: 2.0})
    assert (found.mean, found.std, found.seeds, found.values) == (2.0, 1.0, (1, 4, 7), (1.0, 2.0, 3.0))
    assert found.high - found.mean == pytest.approx(4.303 / math.sqrt(3), abs=1e-3)


def test_one_seed_has_no_spread():
    found = summarise({3: 0.5})
    assert (found.mean, found.std, found.low, found.high, found.seeds) == (0.5, None, None, None, (3,))


def test_no_seeds_are_refused():
    with pytest.raises(ValueError, match="`values` is empty"):
        summarise({})


def test_differences_are_paired_by_seed():
    """Seeds 0, 1, 2 differ by 0.05, 0.04, 0.06, whatever the seeds themselves differ by."""
    fid, accuracy = differences(report())
    assert (accuracy.row, accuracy.baseline, accuracy.metric) == ("ConPreDiff_con", "LDM", ACCURACY)
    assert accuracy.by_seed.values == pytest.approx((0.05, 0.04, 0.06))
    assert accuracy.by_seed.mean == pytest.approx(0.05)
    assert (accuracy.verdict, fid.verdict) == ("better", "worse")


def test_differences_use_shared_seeds_only():
    row, base = summarise({0: 1.0, 1: 2.0, 2: 9.0}), summarise({1: 1.0, 2: 1.0, 5: 7.0})
    rows = [
        RowResult("base", "discrete", {}, {"FID[shapes]": base}),
        RowResult("row", "discrete", {}, {"FID[shapes]": row}, baseline="base"),
    ]
    (found,) = differences(report(rows=rows))
    assert (found.by_seed.seeds, found.by_seed.values) == ((1, 2), (1.0, 8.0))
    assert found.verdict == "no difference shown"


def test_one_seed_claims_nothing():
    rows = [
        RowResult("base", "discrete", {}, measured(0.1)),
        RowResult("row", "discrete", {}, measured(0.9), baseline="base"),
    ]
    assert {found.verdict for found in differences(report(rows=rows))} == {"one seed: no spread, no claim"}


def test_not_finite_claims_nothing():
    rows = [
        RowResult("base", "discrete", {}, measured(0.1, 0.2)),
        RowResult("row", "discrete", {}, measured(math.nan, 0.2), baseline="base"),
    ]
    assert {found.verdict for found in differences(report(rows=rows))} == {"not finite: no claim"}


def test_no_difference_without_a_run_baseline():
    rows = [replace(row, measured=None) if row.approach == "LDM" else row for row in report().rows]
    assert list(differences(report(rows=rows))) == []


# --- what a report refuses


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"real": pictures(0).float()}, r"real: images must be uint8 .* not torch.float32 \(4, 3, 8, 8\)"),
        ({"samples": [Samples("LDM", pictures(0)[:, :1])]}, "samples of LDM: images must be uint8"),
        ({"samples": [Samples("LDM", pictures(0, n=3))]}, "samples of LDM: 3 images for 4 captions"),
        ({"samples": [Samples("LDM", pictures(0), torch.ones(3).bool())]}, r"samples of LDM: `right` is \(3,\)"),
        ({"reconstructions": {"VQ": pictures(0, n=9)}}, "reconstructions VQ: 9 images"),
        ({"metrics": [FRECHET]}, "row ConPreDiff_con: `metrics` does not say what caption accuracy means"),
        ({"rows": [RowResult("A", "GAN", {}, None, baseline="B")]}, "row A: its baseline 'B' is no row"),
    ],
)
def test_inconsistent_reports_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        report(**changes)


def test_two_pictures_of_one_name_are_refused(tmp_path):
    samples = [Samples("A_b", pictures(0)), Samples("A-B", pictures(1))]
    with pytest.raises(ValueError, match=r"two pictures would be called a-b.png"):
        write_report(tmp_path, report(samples=samples))
    assert list(tmp_path.iterdir()) == []


# --- JSON


def test_json_has_the_agreed_format(tmp_path):
    write_report(tmp_path, report(curves=[]))
    found = json.loads((tmp_path / "table1.json").read_text())
    assert set(found) == {"table", "profile", "comparable", "data", "rows", "environment", "manifest"}
    assert [row["approach"] for row in found["rows"]] == ["DALL-E", "ConPreDiff_con", "LDM", "GLIDE"]
    assert all(set(row) == {"approach", "kind", "paper", "measured"} for row in found["rows"])
    assert found["rows"][0]["measured"] is None
    assert found["rows"][2]["paper"] == {"FID-30K": None, "zero-shot FID-30K": 12.63}
    measurement = found["rows"][2]["measured"]["FID[shapes]"]
    assert set(measurement) == {"mean", "std", "low", "high", "seeds", "n_real", "n_fake"}
    assert measurement["mean"] == report().rows[2].measured["FID[shapes]"].mean
    assert measurement["seeds"] == [0, 1, 2]


def test_json_has_null_for_what_is_not_finite(tmp_path):
    rows = [RowResult("A", "GAN", {}, measured(math.nan, 1.0))]
    write_report(tmp_path, report(rows=rows, samples=[], curves=[]))
    found = json.loads((tmp_path / "table1.json").read_text())["rows"][0]["measured"]["FID[shapes]"]
    assert (found["mean"], found["low"], found["seeds"]) == (None, None, [0, 1])
    assert "not finite" in (tmp_path / "table1.html").read_text()


def test_times_are_in_the_manifest_and_not_in_the_table(tmp_path):
    slower = [replace(cost, seconds=2 * cost.seconds, reused=True) for cost in report().costs]
    assert table(report()) == table(report(costs=slower))
    write_report(tmp_path, report(curves=[]))
    found = json.loads((tmp_path / "manifest.json").read_text())
    assert found["costs"]["LDM seed 0"]["wall_seconds"] == 299.6
    assert found["sampling"] == {"discrete": {"steps": 25}}


def test_energy_is_said_where_it_is_known(whole_page):
    assert "Energy: not reported by this machine." in whole_page
    taken = Energy({"processors": 3600.0, "GPUs": 7200.0}, 90.0, 2)
    for text in (page(report(energy=taken, curves=[])), markdown(report(energy=taken))):
        said = " ".join(text.split())
        assert "1 Wh processors, 2 Wh GPUs, in 1 min 30 s of 2 runs of this command" in said


def test_the_page_holds_every_table_as_a_file(tmp_path, whole_page):
    """Oracle: the files beside it, read from the links."""
    write_report(tmp_path, report(curves=[]))
    links = [attributes for tag, attributes in Elements(whole_page).found if tag == "a" and "download" in attributes]
    names = {f"table1{part}.{end}" for part in ("", "-differences", "-ceiling", "-costs") for end in ("csv", "tex")}
    assert {link["download"] for link in links} == names
    for link in links:
        content = base64.b64decode(link["href"].partition("base64,")[2])
        assert content == (tmp_path / link["download"]).read_bytes()


def test_equal_reports_give_equal_bytes(tmp_path):
    for folder in ("a", "b"):
        write_report(tmp_path / folder, report())
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert {str(file) for file in files} >= {"table1.json", "table1.md", "table1.html", "manifest.json"}
    assert not [file for file in files if file.suffix == ".partial"]
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    write_report(tmp_path, report(curves=[]))
    before = (tmp_path / "table1.json").read_bytes()

    def broken(source, target):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", broken)
    with pytest.raises(OSError, match="disk full"):
        write_report(tmp_path, report(profile="smoke", curves=[]))
    assert (tmp_path / "table1.json").read_bytes() == before


# --- HTML


def test_html_refers_to_nothing_outside(whole_page):
    text = whole_page
    besides = re.sub(r"data:[a-z/]+;(charset=utf-8;)?base64,[A-Za-z0-9+/=]+", "", text)
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", besides)
    elements = Elements(text)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in elements.found}
    ids = {attributes["id"] for _, attributes in elements.found if "id" in attributes}
    for _, attributes in elements.found:
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/png;base64,", "data:text/plain;")) or value[1:] in ids


@pytest.mark.parametrize("build", [lambda: report(), lambda: unrun(report())], ids=["run", "not run"])
def test_html_is_well_formed_and_its_ids_are_its_own(build):
    elements = Elements(page(build()))
    assert elements.open == []
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_html_escapes_what_it_is_given(whole_page):
    text = whole_page
    assert "<b>" not in text and "<here>" not in text and "<note>" not in text and "<their>" not in text
    assert "a &lt;b&gt;&#34;bold&#34;&lt;/b&gt; &amp; daring | square" in text
    assert 'a <b>"bold"</b> & daring | square' in "".join(Elements(text).text)


def test_html_pictures_have_words(whole_page):
    images = [attributes for tag, attributes in Elements(whole_page).found if tag == "img"]
    compared, walls, reconstructed = 3 * len(CAPTIONS), 2 * len(CAPTIONS), 4 + 4 + 2
    assert len(images) == compared + walls + reconstructed
    assert all(image["alt"] for image in images)


def test_html_marks_what_the_judge_reads_otherwise(whole_page):
    images = [attributes["alt"] for tag, attributes in Elements(whole_page).found if tag == "img"]
    assert [alt for alt in images if alt.endswith("(judged wrong)")] == [
        f"ConPreDiff_con: {CAPTIONS[1]} (judged wrong)"
    ] * 2
    unjudged = report(samples=[Samples("LDM", pictures(4))], curves=[])
    assert "judge reads" not in page(unjudged) and "judged wrong" not in page(unjudged)


def test_html_says_what_it_cannot_claim(whole_page):
    text = whole_page
    assert "Not comparable with the paper." in text
    assert text.count("cited, not run") == 2
    assert "Not comparable" not in page(report(comparable=True, curves=[]))


def test_html_of_a_table_without_runs_cites_all_rows():
    text = page(unrun(report()))
    assert "Run here" not in text and "Loss curves" not in text and "Side by side" not in text
    assert all(row.approach in text for row in report().rows)


def test_rows_follow_their_baselines():
    assert [row.approach for row in report().run_rows] == ["LDM", "ConPreDiff_con"]
    assert [samples.approach for samples in report().paired_samples] == ["LDM", "ConPreDiff_con"]


# --- Markdown and numerals


def test_markdown_cells_stay_in_their_cells():
    text = markdown(report(rows=[RowResult("a|b\nc <i>", "GAN", {"FID": 1.0}, None), *report().rows]))
    tables = [line for line in text.splitlines() if line.startswith("|")]
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in tables[:7]}
    assert widths == {8}
    assert r"a\|b c \<i\>" in text
    assert "**Not comparable with the paper.**" in text and "cited, not run" in text


def test_markdown_of_a_table_without_runs():
    lines = markdown(unrun(report())).splitlines()
    assert "| DALL-E | AR | 17.89 | – |" in lines and not any("## Differences" in line for line in lines)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "–"),
        (0.0, "0.000"),
        (-2.3e-18, "0.000"),
        (123.456, "123.5"),
        (12.3456, "12.35"),
        (0.98765, "0.988"),
        (-0.00456, "−0.0046"),
        (0.00996, "0.010"),
        (0.0000996, "0.00010"),
        (math.inf, "not finite"),
    ],
)
def test_figures(value, written):
    assert figure(value) == written


def test_other_numerals():
    assert (signed(0.5), signed(-0.5), signed(0.0), signed(2.3e-18)) == ("+0.500", "−0.500", "0.000", "0.000")
    spaced = [duration(8.24), duration(59.97), duration(299.6), duration(3_599.7), count(1_612_345), count(12.4, "MiB")]
    written = ["8.2 s", "1 min 00 s", "5 min 00 s", "1 h 00 min", "1 612 345", "12 MiB"]
    assert [text.replace("\N{NO-BREAK SPACE}", " ") for text in spaced] == written
    assert count(None) == "–"


def test_an_interval_over_samples_is_called_so():
    one = Measurement(2.0, None, None, None, (0,), 10, 10, (2.0,), (1.5, 2.5))
    assert interval(one) == "1.50 to 2.50 over samples"
    assert interval(replace(one, sampled=None)) == "one seed"
    assert interval(summarise({0: 1.0, 1: 3.0})) == "−10.71 to 14.71"


def test_scores_of_one_seed_keep_their_interval_over_samples():
    def score(value):
        return {"value": value, "n_real": 4, "n_fake": 4, "low": value - 1, "high": value + 1}

    assert over_seeds({3: {"FID": score(5.0)}})["FID"].sampled == (4.0, 6.0)
    several = over_seeds({3: {"FID": score(5.0)}, 4: {"FID": score(6.0)}})["FID"]
    assert (several.sampled, several.mean) == (None, 5.5)


# --- pictures


def test_grid_places_every_pixel():
    images = pictures(0, n=5, side=4)
    found = pixels(grid(images, columns=3, scale=2))
    assert found.shape == (2 * 10 - 2, 3 * 10 - 2, 3)
    for i, image in enumerate(images):
        top, left = i // 3 * 10, i % 3 * 10
        square = found[top : top + 8, left : left + 8].permute(2, 0, 1)
        assert torch.equal(square, image.repeat_interleave(2, 1).repeat_interleave(2, 2))
    assert found[8].eq(255).all() and found[10:, 20:].eq(255).all()


@pytest.mark.parametrize(("n", "columns", "scale"), [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_grid_refuses_nothing_to_lay_out(n, columns, scale):
    with pytest.raises(ValueError, match="grid needs"):
        grid(pictures(0, n=n), columns, scale)


def test_fitting_scale_is_a_whole_number_near_the_side():
    assert [fitting_scale(pictures(0, 1, side), 96) for side in (8, 32, 64, 256)] == [12, 3, 2, 1]


def test_comparison_grid_shows_models_after_the_real_images(tmp_path):
    picture = comparison_grid(report(), rows=2, side=96)
    right_edge = picture.width - 8
    expected = Image.fromarray(report().samples[0].images[0].permute(1, 2, 0).numpy())
    corner = picture.crop((right_edge - 96, 30, right_edge, 30 + 96)).resize((8, 8), Image.Resampling.NEAREST)
    assert torch.equal(pixels(corner), pixels(expected))
    assert png(picture) == png(comparison_grid(report(), rows=2, side=96))


def test_curves_have_one_panel_a_stage_and_term():
    found = panels(report().curves)
    assert [(panel.stage, panel.term) for panel in found] == [("LDM", "loss/base"), ("LDM", "loss/context")]
    assert found[0].words == "from 1 at step 1 to 0.0101 at step 99"
    assert all("seed 1" in panel.svg and "currentColor" in panel.svg and "#0102" not in panel.svg for panel in found)


def test_curves_leave_out_terms_without_values_and_bear_what_is_not_finite():
    found = panels(
        [Curve("a", {"empty": [], "diverged": [(1, 2.0), (2, math.nan), (3, math.inf)], "once": [(1, 1.0)]})]
    )
    assert [panel.term for panel in found] == ["diverged", "once"]


def test_smoothing_keeps_lines_and_thinning_keeps_ends():
    line = [(step, 2.0 * step) for step in range(1000)]
    assert smoothed(line, 11)[5:-5] == line[5:-5]
    few = thinned(line)
    assert len(few) <= 300 and few[-1] == line[-1] and set(few) <= set(line)
