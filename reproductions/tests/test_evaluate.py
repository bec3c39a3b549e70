"""`conprediff evaluate` on pictures of every kind, killed and resumed, and on what cannot be scored."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reproductions.commands.evaluate import evaluate
from reproductions.commands.evaluation_options import EvaluateOptions
from reproductions.gathering.picture_source import PictureSource
from reproductions.stages import evaluating


def folder(path: Path, count: int, seed: int, side: int = 16) -> Path:
    path.mkdir()
    random = np.random.default_rng(seed)
    for i in range(count):
        pixels = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path / f"{i:03}.png")
    return path


def bytes_of(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


@pytest.fixture
def options(tmp_path: Path) -> EvaluateOptions:
    real, fake = folder(tmp_path / "real", 30, 0), folder(tmp_path / "fake", 24, 1)
    return EvaluateOptions(real, fake, features="pixels", resamples=4, batch=7, out=tmp_path / "out")


def report(options: EvaluateOptions) -> dict:
    return json.loads((options.out / "evaluate.json").read_text())


def values(options: EvaluateOptions) -> list[float]:
    return [score["value"] for score in report(options)["scores"]]


def features(path: Path) -> torch.Tensor:
    space = evaluating.space_of("pixels", None)
    pixels = np.stack([np.asarray(Image.open(file)) for file in sorted(path.iterdir())])
    return space(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous())


def test_folders_are_scored_as_their_pixels_are(options: EvaluateOptions, capsys: pytest.CaptureFixture[str]):
    assert evaluate(options) == 0
    told = capsys.readouterr().out.splitlines()
    real, fake = features(options.real), features(options.fake)
    assert told[0].startswith("FID[pixels-8, N=30/24] ") and told[0].endswith("]")
    assert [line.split("[")[0] for line in told[1:4]] == ["KID", "precision", "recall"]
    assert any(line.startswith("note: FID[pixels-8] of 30 real and 24 fake") for line in told)
    distance = evaluating.frechet_distance
    with pytest.warns(evaluating.SmallSampleWarning):
        assert values(options)[0] == pytest.approx(distance(real, fake).value, rel=1e-9)
    both = evaluating.precision_recall(real, fake)
    assert values(options)[2:] == [both.precision.value, both.recall.value]


@pytest.mark.parametrize(("metrics", "count", "needed"), [("fid", 1, 2), ("kid,pr", 3, 4), ("dc", 5, 6)])
def test_too_few_pictures_are_counted(
    metrics: str, count: int, needed: int, options: EvaluateOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    few = folder(tmp_path / "few", count, 2)
    assert evaluate(replace(options, fake=few, metrics=metrics)) == 2
    assert f"{few}: {count} pictures are too few for" in (said := capsys.readouterr().err)
    assert f"need {needed} at least; give more of them" in said
    enough = folder(tmp_path / "enough", needed, 3)
    assert evaluate(replace(options, fake=enough, metrics=metrics)) == 0


def test_a_killed_run_goes_on_and_ends_the_same(
    options: EvaluateOptions, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    whole = replace(options, out=options.out.with_name("whole"))
    assert evaluate(whole) == 0
    read, seen = PictureSource.read, []

    def killed(source: PictureSource, index: int):
        seen.append(index)
        if len(seen) == 40:
            raise KeyboardInterrupt
        return read(source, index)

    monkeypatch.setattr(PictureSource, "read", killed)
    assert evaluate(options) == 130
    assert "give the same command again" in capsys.readouterr().err
    assert not (options.out / "evaluate.json").exists()
    assert evaluate(options) == 0
    assert len(seen) == 40 + (30 + 24) - (30 + 7)  # whole batches of seven are kept, and all of the first side
    assert report(options)["scores"] == report(whole)["scores"]
    assert evaluate(options) == 0
    assert len(seen) == 57


def test_every_kind_of_picture_is_read_or_named(options: EvaluateOptions, capsys: pytest.CaptureFixture[str]):
    red = Image.new("RGB", (16, 16), (200, 30, 40))
    kinds = {
        "palette.png": bytes_of(red.convert("P", palette=Image.Palette.ADAPTIVE)),
        "cmyk.tif": bytes_of(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "TIFF"),
        "sixteen.png": bytes_of(Image.fromarray(np.full((16, 16), 32_768, dtype=np.uint16))),
        "alpha.png": bytes_of(Image.new("RGBA", (16, 16), (200, 30, 40, 128))),
    }
    for name, data in kinds.items():
        (options.fake / name).write_bytes(data)
    assert evaluate(options) == 0
    assert report(options)["scores"][0]["n_fake"] == 28
    capsys.readouterr()
    (options.fake / "zz.png").write_bytes(bytes_of(Image.effect_noise((16, 16), 60))[:100])
    assert evaluate(options) == 2
    error = capsys.readouterr().err
    assert "1 of the pictures cannot be used, and 0 are allowed; --max-bad 1 leaves them out:" in error
    assert "fake/zz.png: " in error
    assert evaluate(replace(options, max_bad=1)) == 0
    assert report(options)["scores"][0]["n_fake"] == 28
    assert "left out: " in capsys.readouterr().out


def test_pictures_of_other_sizes_are_named_or_squared(options: EvaluateOptions, capsys: pytest.CaptureFixture[str]):
    Image.new("RGB", (40, 20)).save(options.fake / "zz.png")
    assert evaluate(options) == 2
    assert "zz.png: pictures of 40 x 20 and 16 x 16 in one set; --size N brings all" in capsys.readouterr().err
    assert evaluate(replace(options, size=8)) == 0
    assert report(options)["size"] == 8 and report(options)["scores"][0]["n_fake"] == 25


def test_statistics_stand_for_pictures(options: EvaluateOptions, capsys: pytest.CaptureFixture[str]):
    assert evaluate(options) == 0
    statistics = evaluating.Statistics.of(features(options.real), evaluating.space_of("pixels", None).identity)
    ours, theirs = options.out / "real.safetensors", options.out / "real.npz"
    statistics.save(ours)
    np.savez(theirs, mu=statistics.mean.numpy(), sigma=statistics.covariance.numpy())
    for path, count in ((ours, None), (theirs, 30)):
        scored = replace(options, real=path, n_real=count, metrics="fid", out=options.out.with_name("statistics"))
        assert evaluate(scored) == 0
        assert values(scored)[0] == pytest.approx(values(options)[0], rel=1e-6)
        assert report(scored)["scores"][0]["n_real"] == 30
    capsys.readouterr()
    assert evaluate(replace(options, real=theirs, metrics="fid")) == 2
    assert "does not say of how many images it was made" in capsys.readouterr().err
    assert evaluate(replace(options, real=theirs, n_real=30)) == 2
    assert "from which only fid can be computed, not kid, pr" in capsys.readouterr().err


def test_a_count_is_chosen_by_the_seed(options: EvaluateOptions):
    first = PictureSource(options.real, count=10, seed=0)
    assert len(first) == len(set(first.chosen)) == 10
    assert first.chosen == PictureSource(options.real, count=10, seed=0).chosen
    assert first.chosen != PictureSource(options.real, count=10, seed=1).chosen
    assert evaluate(replace(options, count=10)) == 0
    assert report(options)["scores"][0]["n_real"] == report(options)["scores"][0]["n_fake"] == 10


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"metrics": "fid,fud"}, "--metrics: 'fid,fud' is not a list of different ones of fid, kid, pr"),
        ({"features": "incepton"}, "there is no feature space 'incepton'; choose from pixels, inception"),
        ({"features": "absent.safetensors"}, "--features: there is no file absent.safetensors"),
        ({"real": Path("absent")}, "no such file or folder: absent"),
        ({"count": 31}, "holds 30 pictures: --count 31 cannot be taken"),
        ({"batch": 0}, "--batch must be at least 1"),
    ],
)
def test_mistakes_are_told(options: EvaluateOptions, changes: dict, told: str, capsys: pytest.CaptureFixture[str]):
    assert evaluate(replace(options, **changes)) == 2
    assert told in capsys.readouterr().err


def test_parquet_is_read_row_by_row(options: EvaluateOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    datasets = pytest.importorskip("datasets")
    cells = [{"bytes": file.read_bytes(), "path": None} for file in sorted(options.fake.iterdir())]
    rows = datasets.Dataset.from_dict({"image": cells, "label": list(range(24))})
    rows = rows.cast_column("image", datasets.Image(decode=False))
    path = tmp_path / "fake.parquet"
    rows.to_parquet(path)
    assert evaluate(options) == 0
    expected = values(options)
    scored = replace(options, fake=path)
    assert evaluate(scored) == 0
    assert values(scored) == pytest.approx(expected, rel=1e-9)
    assert PictureSource(path, count=5).labels().tolist() == PictureSource(path, count=5).chosen
    assert evaluate(replace(scored, image_column="picture")) == 2
    assert "has no image column 'picture'; the columns are: image, label" in capsys.readouterr().err
    with pytest.raises(ValueError, match="has no column 'label' of labels"):
        PictureSource(options.fake).labels()


def test_missing_inception_weights_end_the_run_with_advice(
    options: EvaluateOptions, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert evaluate(replace(options, features="inception", weights=str(options.out / "absent.pth"))) == 2
    error = capsys.readouterr().err
    assert "absent.pth: no such file. Wanted is weights-inception-2015-12-05-6726825d.pth" in error
    assert not (options.out / "features").exists()
