"""First stages from the command line: trained, interrupted, measured, compared."""

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from diffusion_evaluation import LPIPS, VGG
from reproductions import __main__ as cli
from reproductions import training
from reproductions.artefacts import Desk
from reproductions.cifar_resnet import CifarResNet, cifar_resnet, layers
from reproductions.commands.first_stage_options import StudyOptions, TrainOptions
from reproductions.commands.first_stages import study, train
from reproductions.data import DataSettings, Split
from reproductions.gathering.uncaptioned import load_pictures
from reproductions.loop.steps import TrainingSettings
from reproductions.stages import presets
from reproductions.stages.presets import Coder, preset_training, train_preset
from reproductions.tests.tracks import Track

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
FEW = {"samples": 64, "train_size": 40, "held_out": 8, "workers": 0}


@pytest.fixture(autouse=True)
def datasets_cache(tmp_path, monkeypatch):
    from datasets import config

    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(config, "HF_DATASETS_OFFLINE", True, raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty pictures without captions."""
    (tmp_path / "pictures").mkdir()
    noise = np.random.default_rng(0)
    for index in range(40):
        pixels = noise.integers(0, 256, (12, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{index:02}.png")
    return tmp_path / "pictures"


@pytest.mark.filterwarnings("ignore:FID.pixels-8. of 8 real:UserWarning")
def test_a_preset_is_trained_on_drawings_and_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = TrainOptions(preset="kl-f4-32", out=tmp_path / "out", **FEW)
    assert train(options) == 0
    assert "| kl-f4-32 | 403,924 |" in capsys.readouterr().out
    results = json.loads((tmp_path / "out" / "autoencoders.json").read_text())
    (row,) = results["rows"]
    assert set(row["scores"]) == {"PSNR", "SSIM", "rFID[pixels-8]"}
    assert all(s["low"] <= s["value"] <= s["high"] for s in row["scores"].values())
    (weights,) = (tmp_path / "out").glob("stages/kl-f4-32-train-*/autoencoder/model.safetensors")
    assert not torch.equal(load_file(weights)["latent_scale"], torch.ones(4))
    with Image.open(tmp_path / "out" / "reconstructions.png") as picture:
        assert picture.size == (8 * 64 + 7 * 2, 2 * 64 + 2)
    written = weights.stat().st_mtime_ns
    assert train(options) == 0
    assert weights.stat().st_mtime_ns == written


def test_the_study_plans_every_bottleneck_and_a_second_gaussian(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study(StudyOptions(out=tmp_path, dry_run=True, **FEW)) == 0
    plan = capsys.readouterr().out
    for preset in ("vq-gradient", "vq-ema", "vq", "vq-cosine", "fsq", "lfq", "kl"):
        assert f"{preset}-f4-32 train" in plan
    assert plan.count("kl-f4-32 train") == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["vq-f4-32", "gumbel-f4-32", "fsq-f4-32"])
def test_an_interrupted_training_ends_bit_identical(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "SAVE_EVERY_SECONDS", 0.0)
    settings = preset_training(
        name,
        TrainingSettings(samples=48, batch=4, learning_rate=1e-3, warmup=4, log_every=2),
        reconstructions=4,
        unquantised=8,
        kl_weight=0.0,
    )
    images = torch.randint(256, (12, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    Split(images, ((),) * 12).save(tmp_path / "data" / "train")
    Split(images, ((),) * 12).save(tmp_path / "data" / "held_out")

    def run(run_name: str, stop: int | None) -> Path:
        where = tmp_path / run_name
        where.mkdir(exist_ok=True)
        train_preset(Desk(where, settings, {"data": tmp_path / "data"}, Track(stop), tmp_path / "board"))
        return where

    whole = run("whole", None)
    for stop in (1, 7):
        with pytest.raises(KeyboardInterrupt):
            run("killed", stop)
    killed = run("killed", None)
    for file in ("autoencoder/model.safetensors", "reconstructions.safetensors", "curves.json", "codes.json"):
        assert (whole / file).read_bytes() == (killed / file).read_bytes(), file
    last = json.loads((whole / "curves.json").read_text())[-1]
    assert 0 < last["codes used"] <= 1
    assert 1 <= last["perplexity"] <= 256
    assert list((tmp_path / "board").glob("events*"))


def test_bits_and_use_of_known_codes() -> None:
    coder = Coder(presets.PRESETS["fsq-f4-32"].build())
    coder.images = 2
    coder.counts[:4] = torch.tensor([64, 32, 16, 16])
    facts = coder.facts()
    assert facts["bits per image"] == 64 * 8
    assert facts["usage"] == 4 / 256
    assert math.log2(facts["perplexity"]) == pytest.approx(0.5 * 1 + 0.25 * 2 + 2 * 0.125 * 3)


def test_pictures_need_no_captions(folder: Path, tmp_path: Path) -> None:
    splits = load_pictures(DataSettings(name=str(folder), resolution=8, train_size=100, held_out_size=3), tmp_path)
    assert splits.train.images.shape == (37, 3, 8, 8)
    assert splits.held_out.images.shape == (3, 3, 8, 8)
    assert len(torch.unique(torch.cat([splits.train.images, splits.held_out.images]).flatten(1), dim=0)) == 40


def test_one_corrupt_picture_is_named_and_may_be_left_out(folder: Path, tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.effect_noise((20, 20), 50).save(picture, "JPEG")
    (folder / "torn.jpg").write_bytes(picture.getvalue()[:100])
    settings = DataSettings(name=str(folder), resolution=8, train_size=100, held_out_size=3)
    with pytest.raises(ValueError, match=r"(?s)1 of the pictures cannot be used, and 0 are allowed.*torn\.jpg"):
        load_pictures(settings, tmp_path / "read")
    splits = load_pictures(
        DataSettings(name=str(folder), resolution=8, train_size=99, held_out_size=3, max_bad=1), tmp_path / "read"
    )
    assert len(splits.train.images) + len(splits.held_out.images) == 40
    assert len(splits.bad) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "vq-f4-23"}, "there is no preset 'vq-f4-23'.*did you mean 'vq-f4-"),
        ({"samples": 0}, "--samples must be at least 1"),
        ({"precision": "fp8"}, "--precision must be no or bf16"),
        ({"data": "no/such/folder.parquet"}, "no such file"),
        ({"features": Path("missing.safetensors")}, "--features: there is no file missing.safetensors"),
    ],
)
def test_mistakes_are_told_before_any_work(
    changes: dict[str, object], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    assert train(TrainOptions(**{"out": tmp_path / "out", **FEW, **changes})) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_commands_are_grouped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = ["conprediff", "train", "autoencoder", "--preset", "kl-f8", "--out", str(tmp_path), "--dry-run"]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert "83,653,863" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["conprediff", "train"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "conprediff train {autoencoder" in capsys.readouterr().err


def test_residual_network_of_any_depth_is_read(tmp_path: Path) -> None:
    network = CifarResNet(3)
    save_file(network.state_dict(), tmp_path / "twenty.safetensors")
    read = cifar_resnet(tmp_path / "twenty.safetensors")
    assert layers(read) == 20
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.inference_mode():
        features = read(images)
        assert torch.equal(features, network.eval()(images))
        torch.testing.assert_close(read(images.repeat_interleave(2, 2).repeat_interleave(2, 3)), features)
    assert features.shape == (2, 64)
    save_file({"weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="holds no CIFAR residual network"):
        cifar_resnet(tmp_path / "other.safetensors")


@pytest.mark.parametrize("side", [8, 20, 48, 96])
def test_pictures_of_one_colour_have_its_features_at_any_side(side: int) -> None:
    network = CifarResNet(1).eval()
    colours = torch.tensor([[-1.0, 0.2, 1.0], [0.5, 0.5, -0.3]])[:, :, None, None]
    with torch.inference_mode():
        torch.testing.assert_close(network(colours.expand(-1, -1, side, side)), network(colours.expand(-1, -1, 32, 32)))


@pytest.mark.parity
def test_pretrained_residual_network_knows_its_classes() -> None:
    """Its published accuracy on the re-encoded test images is 83.4 %, measured on a thousand."""
    if not (SHARED / "cifar10_jpeg").is_dir():
        pytest.skip(f"no photographs at {SHARED}")
    from datasets import load_dataset

    rows = load_dataset("parquet", data_files=str(SHARED / "cifar10_jpeg" / "test.parquet"))["train"]
    rows = rows.select(range(0, 10_000, 40))
    pixels = np.stack([np.asarray(image.convert("RGB")) for image in rows["image"]])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
    network = cifar_resnet(SHARED / "weights_cifar_resnet" / "resnet56.safetensors")
    with torch.inference_mode():
        right = network.linear(network(images)).argmax(1) == torch.tensor(rows["label"])
    assert 0.75 < right.double().mean() < 0.92


@pytest.mark.filterwarnings("ignore:FID.pixels-8. of 8 real:UserWarning")
def test_lpips_is_the_perceptual_term_where_its_weights_are_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    network, files = LPIPS(VGG), (tmp_path / "trunk.safetensors", tmp_path / "heads.safetensors")
    save_file({f"features.{name}": value for name, value in network.features.state_dict().items()}, files[0])
    save_file({f"lin{i}.model.1.weight": head.weight.abs() for i, head in enumerate(network.heads)}, files[1])
    options = replace(TrainOptions(preset="vq-f4-32", batch=4, out=tmp_path / "out", **FEW), samples=8, lpips=files)
    assert train(options) == 0
    (curves,) = (tmp_path / "out").glob("stages/vq-f4-32-train-*/curves.json")
    perceived = json.loads(curves.read_text())[-1]["perceptual"]
    assert perceived > 0
    (weights,) = curves.parent.glob("autoencoder/model.safetensors")
    assert not any("perceptual" in name for name in load_file(weights))
    assert train(replace(options, lpips=files[1:], out=tmp_path / "again")) == 1
    assert "features.0.weight is missing" in capsys.readouterr().err
    assert train(replace(options, lpips=(tmp_path / "none",))) == 2
    assert "--lpips: there is no file" in capsys.readouterr().err
