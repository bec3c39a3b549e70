"""Pictures of trained runs: sampled and filled in, each once, each by its own seed."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reproductions.artefacts import plain
from reproductions.commands import generation, hiding
from reproductions.commands.denoiser_options import DenoiserOptions, DiscreteOptions
from reproductions.commands.denoisers import train_continuous, train_discrete
from reproductions.commands.generation_options import InpaintOptions, SampleOptions
from reproductions.commands.prompting import for_pictures, for_samples
from reproductions.commands.scale_denoisers import train_imagebart
from reproductions.conditioning import Conditioning, Kind
from reproductions.recipes.denoiser_recipes import LATENTS, TOKENS
from reproductions.recipes.scale_recipes import chain
from reproductions.stages import latent_denoising, scale_denoising, token_denoising
from reproductions.stages.autoencoding import PRESETS
from reproductions.stages.evaluating import REPAINT_MASKS
from reproductions.stages.generating import Asked, opened
from reproductions.trained_runs import restored, trained_run

pytestmark = pytest.mark.filterwarnings("ignore:.*of [0-9]+ real:UserWarning")
FEW = {"preset": "smoke", "resolution": 16, "generated": 12, "train_size": 24, "held_out": 12, "workers": 0}
KINDS = ("discrete", "continuous", "imagebart")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """Finished trainings: of tokens and scales for classes, of pixels for captions."""
    root = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    PRESETS["vq-f4-32"].build().save_pretrained(root / "autoencoder")
    tokens = {"data": "digits", "condition": "class", "autoencoder": root / "autoencoder", **FEW}
    assert train_discrete(DenoiserOptions(out=root / "discrete", **tokens)) == 0
    assert train_imagebart(DiscreteOptions(out=root / "imagebart", kind="imagebart", scales=2, **tokens)) == 0
    assert train_continuous(DenoiserOptions(data="shapes", condition="caption", out=root / "continuous", **FEW)) == 0
    return {kind: root / kind for kind in KINDS}


def pixels(path: Path) -> torch.Tensor:
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_depend_on_their_seed_alone_and_are_drawn_once(kind: str, runs, tmp_path: Path, capsys) -> None:
    options = SampleOptions(run=runs[kind], out=tmp_path / "few", number=3)
    assert generation.sample(options) == 0
    first = tmp_path / "few" / "00000.png"
    written = first.stat().st_mtime_ns
    (tmp_path / "few" / "00001.png").unlink()
    assert generation.sample(replace(options, number=5, batch=2)) == 0
    assert "3 pictures drawn, 2 there already" in capsys.readouterr().out
    assert first.stat().st_mtime_ns == written
    assert generation.sample(replace(options, number=5, out=tmp_path / "all")) == 0
    for i in range(5):
        few, whole = (tmp_path / each / f"{i:05d}.png" for each in ("few", "all"))
        assert few.read_bytes() == whole.read_bytes()
    assert pixels(first).shape == (3, 16, 16)
    assert first.read_bytes() != (tmp_path / "few" / "00001.png").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_filled_in_behind_a_mask_and_nowhere_else(kind: str, runs, photographs, tmp_path: Path) -> None:
    mask = np.zeros((16, 16), np.uint8)
    mask[2:10, 4:15] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    what = "a red circle" if kind == "continuous" else "seven"
    options = InpaintOptions(
        run=runs[kind], out=tmp_path / "out", images=photographs, mask=str(tmp_path / "mask.png"), condition=what
    )
    assert generation.inpaint(options) == 0
    hidden = torch.from_numpy(mask > 0).expand(3, -1, -1)
    source = generation.PictureSource(photographs, size=16)
    for i, name in enumerate("abc"):
        given = torch.from_numpy(source.read(i).copy()).permute(2, 0, 1)
        filled = pixels(tmp_path / "out" / f"{name}.png")
        assert torch.equal(filled[~hidden], given[~hidden])
        assert not torch.equal(filled[hidden], given[hidden])
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["pictures"] == dict.fromkeys("abc", what)
    again = replace(options, out=tmp_path / "again", images=photographs / "a.png", batch=1)
    assert generation.inpaint(again) == 0
    assert (tmp_path / "again" / "a.png").read_bytes() == (tmp_path / "out" / "a.png").read_bytes()


def test_both_ways_fill_in_pixels(runs, photographs, tmp_path: Path) -> None:
    options = InpaintOptions(
        run=runs["continuous"], out=tmp_path / "mixing", images=photographs, mask="half", condition="x", method="mixing"
    )
    assert generation.inpaint(options) == 0
    assert generation.inpaint(replace(options, out=tmp_path / "repaint", method=None)) == 0
    mixing, repaint = (pixels(tmp_path / way / "a.png") for way in ("mixing", "repaint"))
    assert torch.equal(mixing[:, :, :8], repaint[:, :, :8])
    assert not torch.equal(mixing, repaint)


def test_a_class_or_captions_are_drawn_for(runs, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("a red circle\n\na blue square\n")
    spoken = SampleOptions(run=runs["continuous"], out=tmp_path / "spoken", number=3, captions=tmp_path / "words.txt")
    assert generation.sample(spoken) == 0
    told = json.loads((tmp_path / "spoken" / "manifest.json").read_text())["pictures"]
    assert list(told.values()) == ["a red circle", "a blue square", "a red circle"]
    one = SampleOptions(run=runs["discrete"], out=tmp_path / "one", number=9, only="eight")
    assert generation.sample(one) == 0
    assert generation.sample(replace(one, out=tmp_path / "all", only=None)) == 0
    eights = [(tmp_path / each / "00008.png").read_bytes() for each in ("one", "all")]
    assert eights[0] == eights[1]
    told = opened(trained_run(runs["discrete"]), Asked())
    assert for_samples(told, 12, None, "eight").values.tolist() == [8] * 12
    assert for_samples(told, 12, None, None).values.tolist() == [*range(10), 0, 1]
    assert for_pictures(told, 2, "eight").values.tolist() == [8, 8]


def test_a_folder_with_other_pictures_is_left_alone(runs, tmp_path: Path, capsys) -> None:
    options = SampleOptions(run=runs["discrete"], out=tmp_path, number=2)
    assert generation.sample(options) == 0
    assert generation.sample(replace(options, seed=1)) == 2
    assert "holds pictures made otherwise (seed)" in capsys.readouterr().err
    assert generation.sample(replace(options, only="two")) == 2
    assert "what 00000.png is drawn for" in capsys.readouterr().err


def test_a_stage_is_a_run_too_and_says_what_it_read(runs) -> None:
    whole = trained_run(runs["imagebart"])
    assert trained_run(whole.folder) == whole
    assert {"autoencoder", "clean", "data", "scale 1", "scale 2"} == set(whole.inputs)
    assert all(folder.is_dir() for folder in whole.inputs.values())


def test_receipts_of_before_are_read_too(runs, tmp_path: Path) -> None:
    shutil.copytree(runs["discrete"], tmp_path / "run")
    receipt = trained_run(tmp_path / "run").folder / "stage.json"
    noted = json.loads(receipt.read_text())
    told = {key: value for key, value in noted.items() if key != "inputs"}
    receipt.write_text(json.dumps(told))
    inputs = trained_run(tmp_path / "run").inputs
    assert {key: folder.name for key, folder in inputs.items()} == noted["inputs"]


@pytest.mark.parametrize(
    "settings",
    [
        token_denoising.Training(TOKENS["small"], Conditioning(Kind.CLASS, ("a", "b"))),
        latent_denoising.Training(LATENTS["pixels"], Conditioning(Kind.CAPTION, captions=TOKENS["small"].captions)),
        scale_denoising.Training(chain("small-2", codes=8, grid=(2, 2), classes=3), Conditioning(Kind.NONE)),
    ],
)
def test_settings_come_back_from_their_receipt(settings) -> None:
    read = json.loads(json.dumps(plain(settings)))
    again = restored(type(settings), read)
    assert plain(again) == plain(settings)
    assert again.told == settings.told


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("discrete", {"run": "nowhere"}, "--run: there is no folder"),
        ("discrete", {"run": "."}, "holds no training of a denoiser"),
        ("discrete", {"number": 0}, "--number must be at least 1"),
        ("discrete", {"batch": 0}, "--batch must be at least 1"),
        ("discrete", {"only": "sevn"}, "there is no class 'sevn'.*did you mean 'seven'"),
        ("discrete", {"captions": "words"}, "--captions: the run was trained for the classes zero, one"),
        ("discrete", {"steps": 99}, "99 are not in 1..10"),
        ("discrete", {"guidance": -1.0}, "--guidance must be positive"),
        ("continuous", {"only": "seven"}, "--class: the run was trained for captions"),
        ("continuous", {"captions": "words"}, "holds no caption"),
        ("imagebart", {"steps": 3}, "ImageBART has its scales instead of steps"),
    ],
)
def test_mistakes_in_sampling_are_told(kind, changes, message, runs, tmp_path: Path, capsys) -> None:
    (tmp_path / "words").write_text("\n")
    changes = {name: tmp_path / value if name in ("run", "captions") else value for name, value in changes.items()}
    given = {"run": runs[kind], "out": tmp_path / "out", "number": 2, **changes}
    assert generation.sample(SampleOptions(**given)) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("discrete", {"mask": "nothing.png"}, "is no file, and none of the kinds wide, narrow, super-resolve-2x"),
        ("discrete", {"condition": None}, "--condition: give what to fill in for"),
        ("discrete", {"method": "mixing"}, "mixing fills in pixels and latents"),
        ("discrete", {"images": "nowhere"}, "nowhere"),
        ("discrete", {"out": "photographs"}, "is where the pictures are"),
    ],
)
def test_mistakes_in_filling_in_are_told(kind, changes, message, runs, photographs, tmp_path, capsys) -> None:
    given = {"run": runs[kind], "out": "out", "images": "photographs", "mask": "half", "condition": "one", **changes}
    given |= {name: tmp_path / given[name] for name in ("out", "images")}
    assert generation.inpaint(InpaintOptions(**given)) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((8, 9), np.uint8), "has 9 x 8 pixels, and the run draws 8 x 8"),
        (np.array([[0, 255], [37, 0]], np.uint8).repeat(4, 0).repeat(4, 1), "holds the values 37"),
        (np.zeros((8, 8), np.uint8), "black everywhere"),
        (np.full((8, 8), 255, np.uint8), "white everywhere"),
        (np.eye(8, dtype=np.uint8)[..., None] * np.array([255, 0, 0], np.uint8), "holds colours"),
    ],
)
def test_masks_that_say_nothing_are_told(mask, message, tmp_path: Path) -> None:
    Image.fromarray(mask).save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match=message):
        hiding.check_mask(str(tmp_path / "mask.png"), 8)


def test_masks_are_read_in_both_scales_and_by_name(tmp_path: Path) -> None:
    for white in (1, 255):
        Image.fromarray(np.eye(8, dtype=np.uint8) * white).save(tmp_path / f"{white}.png")
        found = hiding.masks(str(tmp_path / f"{white}.png"), [0, 1], 8, 0)
        assert torch.equal(found, torch.eye(8).bool().expand(2, 1, 8, 8))
    assert {kind.name.replace(" ", "-") for kind in REPAINT_MASKS} <= set(hiding.KINDS)
    wide = hiding.masks("wide", [3, 5], 32, 7)
    assert torch.equal(wide, hiding.draw_masks(hiding.KINDS["wide"], 6, 32, 32, seed=7)[[3, 5]])


def test_an_unfinished_training_is_told(tmp_path: Path) -> None:
    (tmp_path / "stages" / "discrete-train-0123.partial").mkdir(parents=True)
    with pytest.raises(ValueError, match="its training is not finished .*again, and it goes on"):
        trained_run(tmp_path)


def test_several_trainings_are_told(runs, tmp_path: Path) -> None:
    shutil.copytree(runs["discrete"], tmp_path / "run")
    folder = trained_run(tmp_path / "run").folder
    shutil.copytree(folder, folder.with_name("discrete-train-other"))
    with pytest.raises(ValueError, match="holds several trainings; give one of .*discrete-train-other"):
        trained_run(tmp_path / "run")


def test_a_broken_picture_is_named(runs, photographs, tmp_path: Path, capsys) -> None:
    (photographs / "torn.png").write_bytes((photographs / "a.png").read_bytes()[:200])
    options = InpaintOptions(
        run=runs["discrete"], out=tmp_path / "out", images=photographs, mask="half", condition="one"
    )
    assert generation.inpaint(options) == 2
    assert "torn.png" in capsys.readouterr().err
