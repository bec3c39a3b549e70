"""Corruptions that grow with their strength, and the study that asks whether scores follow."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reproductions.commands.evaluation_options import CorruptionOptions
from reproductions.drawn.degradations import DROPPED, PER_PICTURE, Degradation, keeping, ranks_as_it_should
from reproductions.gathering.picture_source import PictureSource
from reproductions.studies.corruption_report import series
from reproductions.studies.corruptions import study


def picture(seed: int) -> np.ndarray:
    """Coloured blocks with a soft slope, as photographs have."""
    random = np.random.default_rng(seed)
    blocks = random.integers(40, 216, (4, 4, 3)).repeat(8, 0).repeat(8, 1)
    return (blocks + np.linspace(-20, 20, 32)[:, None, None]).round().astype(np.uint8)


@pytest.mark.parametrize("degradation", PER_PICTURE, ids=lambda d: d.name)
def test_each_strength_is_farther_from_the_picture(degradation: Degradation):
    assert len(degradation.strengths) == 5
    errors = []
    for strength in degradation.strengths:
        worse = [degradation.apply(picture(i), strength, np.random.RandomState(i)) for i in range(8)]
        assert all(image.shape == (32, 32, 3) and image.dtype == np.uint8 for image in worse)
        errors.append(np.mean([np.square(w - picture(i).astype(float)).mean() for i, w in enumerate(worse)]))
    assert errors[0] > 0 and all(after > before for before, after in zip(errors, errors[1:], strict=False))


def test_noise_and_shift_have_their_strength():
    grey = np.full((64, 64, 3), 128, dtype=np.uint8)
    by_name = {degradation.name: degradation.apply for degradation in PER_PICTURE}
    assert by_name["noise"](grey, 12, np.random.RandomState(0)).std() == pytest.approx(12, rel=0.03)
    assert by_name["colour shift"](grey, 24, np.random.RandomState(0))[0, 0].tolist() == [152, 128, 104]


def test_dropped_classes_are_gone_and_the_count_stays():
    labels = np.arange(40) % 4
    order = np.random.default_rng(0).permutation(40)
    for dropped in range(3):
        kept = keeping(labels, dropped, 20, order)
        assert len(set(kept)) == 20 and set(labels[kept]) == set(range(dropped, 4))
    with pytest.raises(ValueError, match="without 3 of the classes 10 pictures are left, not 20"):
        keeping(labels, 3, 20, order)


def test_an_order_is_one_without_exceptions():
    assert ranks_as_it_should([1, 2, 3], rising=True) and ranks_as_it_should([3, 2, 1], rising=False)
    assert not ranks_as_it_should([1, 3, 2], rising=True) and not ranks_as_it_should([1, 1], rising=True)


@pytest.fixture
def options(tmp_path: Path) -> CorruptionOptions:
    datasets = pytest.importorskip("datasets")
    paths = []
    for name, first in (("real", 0), ("fake", 1000)):
        cells = []
        for i in range(120):
            stream = io.BytesIO()
            Image.fromarray(picture(first + i)).save(stream, "PNG")
            cells.append({"bytes": stream.getvalue(), "path": None})
        rows = datasets.Dataset.from_dict({"image": cells, "label": [i % 10 for i in range(120)]})
        paths.append(tmp_path / f"{name}.parquet")
        rows.cast_column("image", datasets.Image(decode=False)).to_parquet(paths[-1])
    return CorruptionOptions(*paths, real_count=100, fake_count=60, resamples=2, out=tmp_path / "out")


def test_the_study_scores_every_strength_and_goes_on(
    options: CorruptionOptions, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    read, seen = PictureSource.read, []

    def killed(source: PictureSource, index: int):
        seen.append(index)
        if len(seen) == 700:
            raise KeyboardInterrupt
        return read(source, index)

    monkeypatch.setattr(PictureSource, "read", killed)
    assert study(options) == 130
    assert study(options) == 0
    needed = 100 + len(needed_places(options)) + 60 * 5 * len(PER_PICTURE)
    assert needed <= len(seen) <= needed + options.batch + 1
    report = json.loads((options.out / "corruptions.json").read_text())
    assert len(report["rows"]) == 1 + 5 * (len(PER_PICTURE) + 1)
    assert {(s["n_real"], s["n_fake"]) for row in report["rows"] for s in row["scores"]} == {(100, 60)}
    noise = [score["value"] for score in series(report, "noise", "FID")]
    assert report["ranks"]["FID"]["noise"] == (noise == sorted(noise))
    assert report["ranks"]["FID"]["colour shift"] is True
    assert report["ranks"]["precision"]["mode dropping"] is None
    assert (options.out / "corruptions.png").read_bytes().startswith(b"\x89PNG")
    assert "| FID | " in capsys.readouterr().out
    assert [score["strength"] for score in series(report, "mode dropping", "KID")] == [0, *DROPPED]


def needed_places(options: CorruptionOptions) -> set[int]:
    from reproductions.drawn.drawing import shuffled

    source = PictureSource(options.fake)
    order, labels = shuffled(np.arange(len(source)), 0), source.labels()
    return set().union(*(keeping(labels, n, options.fake_count, order) for n in (0, *DROPPED)))


def test_too_few_pictures_are_told(options: CorruptionOptions, capsys: pytest.CaptureFixture[str]):
    from dataclasses import replace

    assert study(replace(options, fake_count=61)) == 2
    assert "without 5 of the classes 60 pictures are left, not 61" in capsys.readouterr().err
