"""Denoisers trained to fill in and to enlarge: what they read, what they are scored by, and what they are used for."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from reproductions import training
from reproductions.artefacts import Desk, plain
from reproductions.commands import generation
from reproductions.commands.denoiser_options import ContinuousOptions
from reproductions.commands.generation_options import InpaintOptions, SampleOptions, UpscaleOptions
from reproductions.commands.restorers import plan, train
from reproductions.conditioning import Conditioning, Kind
from reproductions.data import Split
from reproductions.loop.streams import stream
from reproductions.recipes.denoiser_recipes import LATENTS
from reproductions.recipes.tasks import Inpainting, SuperResolution
from reproductions.stages import beside, coding, latent_denoising, restoring
from reproductions.stages.autoencoding import PRESETS, to_bytes, to_signed
from reproductions.stages.continuous import Condition, ForwardProcess, schedule
from reproductions.stages.evaluating import NARROW, REPAINT_MASKS, WIDE, draw_masks
from reproductions.stages.generating import Asked, opened
from reproductions.stages.restoring import Restoring, bicubic, mean_colour
from reproductions.tests.tracks import Track
from reproductions.trained_runs import restored, trained_run

pytestmark = pytest.mark.filterwarnings("ignore:.*of [0-9]+ real:UserWarning")
FEW = {"preset": "smoke", "resolution": 16, "generated": 12, "train_size": 24, "held_out": 12, "workers": 0}
CPU = torch.device("cpu")


def pictures(number: int, side: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(number)
    return torch.randint(256, (number, 3, side, side), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """Finished trainings: to fill in pixels for classes; to enlarge latents for captions, augmented; to draw."""
    root = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    PRESETS["kl-f4-32"].build().save_pretrained(root / "autoencoder")
    fill = ContinuousOptions(data="digits", condition="class", task="inpainting", out=root / "inpainting", **FEW)
    assert train(fill) == 0
    small = {"task": "super-resolution", "factor": 4, "augmentation": 300, "flip": True}
    coded = {"data": "shapes", "condition": "caption", "autoencoder": root / "autoencoder"}
    assert train(ContinuousOptions(out=root / "super-resolution", **small, **coded, **FEW)) == 0
    assert train(ContinuousOptions(data="digits", out=root / "drawing", **FEW)) == 0
    return {name: root / name for name in ("inpainting", "super-resolution", "drawing", "autoencoder")}


def found(out: Path) -> dict:
    return json.loads((out / f"{out.name}.json").read_text())


def test_filling_in_is_scored_behind_every_mask(runs) -> None:
    out = runs["inpainting"]
    rows = found(out)["rows"]
    names = [kind.name for kind in REPAINT_MASKS]
    assert list(rows) == sorted(rows)
    wanted = {f"{name}, {what}" for name in names for what in ("filled in", "mean colour")}
    assert set(rows) == wanted | {"training pictures"}
    for name in wanted:
        assert [score["name"].split("[")[0] for score in rows[name]["scores"]] == [
            "PSNR, hidden part", "SSIM", "feature distance", "FID", "KID", "precision", "recall",
        ]  # fmt: skip
    (data,) = out.glob("stages/pictures-*")
    real = Split.load(data / "held_out").images
    for kind in REPAINT_MASKS:
        (folder,) = out.glob(f"stages/{kind.name.replace(' ', '-')}-restored-*")
        assert not list(folder.glob("samples-*"))
        images = load_file(folder / "images.safetensors")["images"]
        mask = draw_masks(kind, 12, 16, 16).expand_as(real)
        assert torch.equal(images[~mask], real[~mask])
        assert not torch.equal(images[mask], real[mask])
    with Image.open(out / "restored.png") as picture:
        assert picture.height == 13 * (4 * 16 + 4)


def test_enlarging_is_scored_beside_bicubic(runs) -> None:
    rows = found(runs["super-resolution"])["rows"]
    assert set(rows) == {"enlarged", "bicubic", "coded and decoded", "training pictures"}
    assert [score["name"].split("[")[0] for score in rows["enlarged"]["scores"]] == [
        "PSNR", "SSIM", "PSNR, reduced", "feature distance", "FID", "KID", "precision", "recall",
    ]  # fmt: skip
    network = json.loads(
        next(runs["super-resolution"].glob("stages/continuous-train-*/denoiser/config.json")).read_text()
    )
    assert (network["in_channels"], network["out_channels"], network["augmented"]) == (7, 4, True)


def test_scores_of_pairs_are_those_of_their_pixels(tmp_path: Path) -> None:
    """The hidden part's error, from the hidden pixels themselves; identical pictures count as 100 dB."""
    real = pictures(4)
    fake = real.clone()
    mask = draw_masks(WIDE, 4, 16, 16)
    fake[mask.expand_as(fake)] = 255 - fake[mask.expand_as(fake)]
    fake[0] = real[0]
    wide = mask.expand_as(fake)
    errors = [((fake[i].double() - real[i].double()) ** 2)[wide[i]].mean() for i in range(1, 4)]
    expected = [100.0, *(float(10 * torch.log10(255**2 / error)) for error in errors)]
    value = restoring.hidden_psnr(real, fake, mask)
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


def test_small_pictures_are_pillows() -> None:
    images = pictures(3, 32)
    small = beside.reduced(images, 4)
    again = bicubic(images, 4)
    for i, image in enumerate(images):
        whole = Image.fromarray(image.permute(1, 2, 0).numpy())
        expected = whole.resize((8, 8), Image.Resampling.BICUBIC)
        assert np.array_equal(small[i].permute(1, 2, 0).numpy(), np.asarray(expected))
        enlarged = expected.resize((32, 32), Image.Resampling.BICUBIC)
        assert np.array_equal(again[i].permute(1, 2, 0).numpy(), np.asarray(enlarged))


def test_the_mean_colour_is_that_of_what_is_kept() -> None:
    images = torch.full((2, 3, 4, 4), 10, dtype=torch.uint8)
    images[:, :, :, :1], images[:, :, :, 2:] = 20, 99
    mask = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    mask[:, :, :, 2:] = True
    assert (mean_colour(images, mask)[:, :, :, 2:] == 15).all()
    assert torch.equal(mean_colour(images, mask)[:, :, :, :2], images[:, :, :, :2])


def test_a_hole_is_black_and_its_mask_stands_beside_it() -> None:
    """Checks: LDM inpainting"""
    images = to_signed(pictures(2))
    mask = draw_masks(WIDE, 2, 16, 16)
    concat = beside.hole(coding.Decoder({}), images, mask).concat
    assert concat.shape == (2, 4, 16, 16)
    assert torch.equal(concat[:, 3:] > 0, mask)
    shown = mask.expand(-1, 3, -1, -1)
    assert (concat[:, :3][shown] == -1).all()
    assert torch.equal(concat[:, :3][~shown], images[~shown])


def test_training_masks_are_of_both_laws_in_turn(tmp_path: Path) -> None:
    beside.draw_training_masks(Desk(tmp_path, beside.TrainingMasks(6, 16, 3), {}, Track(), tmp_path))
    masks = load_file(tmp_path / "masks.safetensors")["masks"]
    for i, mask in enumerate(masks):
        law = replace((WIDE, NARROW)[i % 2], largest_share=1.0)
        assert torch.equal(mask[None], draw_masks(law, 1, 16, 16, seed=3, first=i))
    assert (masks.sum((1, 2, 3)) > 0).all()


@pytest.mark.parametrize("coded", [False, True])
def test_what_stands_beside_is_of_the_same_picture_mirrored_alike(coded: bool, runs, tmp_path: Path) -> None:
    """A mask that hides nothing shows the example itself: its pixels, or its most probable latents."""
    Split(pictures(9), ((),) * 9).save(tmp_path / "train")
    inputs = {"data": tmp_path, "clean": tmp_path, "autoencoder": tmp_path}
    clean: coding.Latents | coding.Pixels = coding.Pixels(tmp_path, CPU, flip=True)
    if coded:
        (tmp_path / "autoencoder").symlink_to(runs["autoencoder"])
        coding.encode_latents(Desk(tmp_path, coding.Encoding(flip=True), inputs, Track(), tmp_path))
        clean = coding.Latents(tmp_path, CPU)
        clean.deviation.zero_()
    coder = coding.Decoder(inputs if coded else {})

    def make(images: torch.Tensor, generator: torch.Generator) -> Condition:
        return beside.hole(coder, to_signed(images), torch.zeros(len(images), 1, 16, 16, dtype=torch.bool))

    desk = Desk(tmp_path, None, inputs, Track(), tmp_path)
    examples = beside.Beside(desk, Conditioning(Kind.NONE), clean, make)
    values, given = examples.draw(torch.arange(9), torch.Generator().manual_seed(0))
    assert given.told is None
    torch.testing.assert_close(given.beside.concat[:, :-1], values, atol=1e-5, rtol=1e-4)
    plain_view = clean.seen(torch.zeros(9).long(), torch.arange(9), torch.Generator())
    same = torch.isclose(values, plain_view, atol=1e-5).flatten(1).all(1)
    assert 0 < same.sum() < 9


def test_small_pictures_are_noised_as_far_as_the_network_is_told() -> None:
    """Each level is as likely; at level 0 the picture is clean, at T it is noise.

    Checks: Imagen noise conditioning augmentation
    """
    process = ForwardProcess(schedule(LATENTS["pixels"]))
    images = torch.full((500, 3, 8, 8), 200, dtype=torch.uint8)
    make = beside.small(SuperResolution(2, process.T), process, (8, 8))
    given = make(images, torch.Generator().manual_seed(0))
    assert given.level.min() < 20
    assert given.level.max() > process.T - 20
    assert given.level.double().mean() == pytest.approx(process.T / 2, rel=0.06)
    early, late = given.concat[given.level < 20], given.concat[given.level > process.T - 20]
    assert early.std((1, 2, 3)).max() < 0.2
    assert 0.9 < late.std() < 1.1
    never = beside.small(SuperResolution(2), process, (4, 4))(images, torch.Generator())
    assert never.level is None
    torch.testing.assert_close(never.concat, torch.full((500, 3, 4, 4), 200 / 127.5 - 1))


def test_an_interrupted_training_ends_bit_identical(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(training, "SAVE_EVERY_SECONDS", 0.0)
    recipe = LATENTS["smoke"]
    recipe = replace(recipe, levels=20, steps=2, training=replace(recipe.training, samples=32))
    settings = latent_denoising.Training(recipe, Conditioning(Kind.NONE), flip=True, task=Inpainting(8))
    for split in ("train", "held_out"):
        Split(pictures(12, 8), ((),) * 12).save(tmp_path / "data" / split)
    inputs = {"data": tmp_path / "data", "masks": tmp_path}
    beside.draw_training_masks(Desk(tmp_path, beside.TrainingMasks(8, 8, 0), {}, Track(), tmp_path))

    def run(name: str, stop: int | None = None) -> Path:
        (tmp_path / name).mkdir(exist_ok=True)
        latent_denoising.train(Desk(tmp_path / name, settings, inputs, Track(stop), tmp_path / "board"))
        return tmp_path / name

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("killed", 2)
    killed = run("killed")
    for file in ("denoiser/model.safetensors", "curves.json"):
        assert (whole / file).read_bytes() == (killed / file).read_bytes(), file


def pixels(path: Path) -> torch.Tensor:
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def test_a_run_fills_in_as_it_was_trained(runs, photographs, tmp_path: Path) -> None:
    options = InpaintOptions(
        run=runs["inpainting"], out=tmp_path / "out", images=photographs, mask="half", condition="seven"
    )
    assert generation.inpaint(options) == 0
    source = generation.PictureSource(photographs, size=16)
    for i, name in enumerate("abc"):
        given = torch.from_numpy(source.read(i).copy()).permute(2, 0, 1)
        filled = pixels(tmp_path / "out" / f"{name}.png")
        assert torch.equal(filled[:, :, :8], given[:, :, :8])
        assert not torch.equal(filled[:, :, 8:], given[:, :, 8:])
    again = replace(options, out=tmp_path / "again", images=photographs / "a.png", batch=1)
    assert generation.inpaint(again) == 0
    assert (tmp_path / "again" / "a.png").read_bytes() == (tmp_path / "out" / "a.png").read_bytes()


def test_a_run_enlarges_what_another_drew(runs, tmp_path: Path) -> None:
    """Pictures keep the words that they were drawn for, in two steps as in one; the level tells what to trust."""
    (tmp_path / "words").write_text("a red circle\na blue square\n")
    drawn = UpscaleOptions(run=runs["super-resolution"], out=tmp_path / "spoken", images=tmp_path / "small", level=50)
    (tmp_path / "small").mkdir()
    for i, image in enumerate(pictures(2, 4)):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / "small" / f"{i:05d}.png")
    told = {"00000": "a red circle", "00001": "a blue square"}
    (tmp_path / "small" / "manifest.json").write_text(json.dumps({"pictures": told}))
    assert generation.upscale(drawn) == 0
    assert json.loads((tmp_path / "spoken" / "manifest.json").read_text())["pictures"] == told
    first = pixels(tmp_path / "spoken" / "00000.png")
    assert first.shape == (3, 16, 16)
    alike = replace(drawn, out=tmp_path / "alike", condition="a blue square", batch=1)
    assert generation.upscale(alike) == 0
    assert torch.equal(pixels(tmp_path / "alike" / "00001.png"), pixels(tmp_path / "spoken" / "00001.png"))
    trusted = replace(drawn, out=tmp_path / "trusted", level=0)
    assert generation.upscale(trusted) == 0
    assert not torch.equal(pixels(tmp_path / "trusted" / "00000.png"), first)


def test_enlarging_is_a_stage_of_the_packages_cascade(runs) -> None:
    """Checks: Imagen cascade"""
    from continuous_diffusion import Stage
    from continuous_diffusion.solvers import ddim

    model = opened(trained_run(runs["super-resolution"]), Asked())
    assert model.restorer is not None
    recipe = restored(latent_denoising.Training, trained_run(runs["super-resolution"]).settings).denoiser
    small = pictures(2, 4)
    words = generation.for_words(model, ["a red circle", "a blue square"]).values
    mine = model.enlarge(small, words, [0, 1], 5, level=100)
    process = model.module.objective.get_submodule("process")
    stage = Stage(
        model.module.denoiser, process, (4, 4, 4), latent_denoising.TARGETS[recipe.target], ddim, recipe.steps,
        model.walk.guidance, clip=recipe.clip, augmentation=100,
    )  # fmt: skip
    seeds = [stream(5, i, 0, CPU) for i in (0, 1)]
    with torch.inference_mode():
        latents = stage.enlarge(to_signed(small), model.module.reader(words), generator=seeds)
        expected = to_bytes(model.coder.floats(latents))
    assert torch.equal(mine, expected)


@pytest.mark.parametrize("task", [None, Inpainting(8), SuperResolution(2, 50)])
def test_settings_come_back_from_their_receipt(task) -> None:
    settings = latent_denoising.Training(LATENTS["smoke"], Conditioning(Kind.NONE), task=task)
    read = json.loads(json.dumps(plain(settings)))
    again = restored(latent_denoising.Training, read)
    assert again.task == task
    assert plain(again) == plain(settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "inpainting", "factor": 4}, "--factor: only --task super-resolution takes that"),
        ({"task": "generate", "augmentation": 4}, "--augmentation: only --task super-resolution takes that"),
        ({"factor": 3}, "--factor: pictures of side 16 are to be made of ones 3 times smaller"),
        ({"factor": 1}, "take a whole number from 2"),
        ({"augmentation": -1}, "--augmentation is a step from 0, got -1"),
        ({"augmentation": 1001}, "1001 is not in 0..1000, the noise levels"),
        ({"factor": 2, "autoencoder": "autoencoder"}, "side 8 do not fit beside latents of side 4; take --factor 4"),
        ({"generated": 0}, "--generated must be at least 1"),
    ],
)
def test_mistakes_are_told_before_any_work(changes, message, runs, tmp_path: Path, capsys) -> None:
    given = {"data": "digits", "task": "super-resolution", "out": tmp_path / "out", **FEW, **changes}
    if "autoencoder" in given:
        given["autoencoder"] = runs["autoencoder"]
    assert train(ContinuousOptions(**given)) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_a_plan_is_printed_with_the_size_of_what_is_read(tmp_path: Path, capsys) -> None:
    options = ContinuousOptions(data="digits", task="inpainting", out=tmp_path / "out", dry_run=True, **FEW)
    assert train(options) == 0
    shown = capsys.readouterr().out
    drawing, filling = (
        latent_denoising.size(replace(plan(options).model.settings, task=task), (3, 16, 16))["parameters"]
        for task in (None, Inpainting())
    )
    assert filling - drawing == 4 * 9 * LATENTS["smoke"].network["channels"]
    assert f"{filling:,}" in shown
    assert "training masks" in shown
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("command", "kind", "changes", "message"),
    [
        ("sample", "inpainting", {}, "it was trained to fill in; `conprediff inpaint` does that"),
        ("sample", "super-resolution", {}, "it was trained to enlarge; `conprediff upscale` does that"),
        ("inpaint", "super-resolution", {"mask": "half"}, "it was trained to enlarge"),
        (
            "inpaint",
            "inpainting",
            {"mask": "half", "method": "repaint"},
            "--method: this run fills in as it was trained",
        ),
        ("upscale", "inpainting", {}, "it was trained to fill in; `conprediff inpaint` does that"),
        ("upscale", "drawing", {}, "it was trained to draw; `conprediff sample` draws"),
        ("upscale", "super-resolution", {}, "--condition: give what to fill in for"),
        ("upscale", "super-resolution", {"condition": "x", "level": 301}, "--level: 301 is not in 0..300"),
        ("upscale", "super-resolution", {"condition": "x", "out": "photographs"}, "is where the pictures are"),
    ],
)
def test_runs_say_what_they_are_for(command, kind, changes, message, runs, photographs, tmp_path, capsys) -> None:
    given = {"run": runs[kind], "out": "out", **changes}
    given["out"] = tmp_path / given["out"]
    if command != "sample":
        given["images"] = photographs
    options = {"sample": SampleOptions, "inpaint": InpaintOptions, "upscale": UpscaleOptions}[command]
    assert getattr(generation, command)(options(**given)) == 2
    assert message in capsys.readouterr().err


def test_an_interrupted_restoring_goes_on(runs, tmp_path: Path) -> None:
    options = ContinuousOptions(data="digits", condition="class", task="inpainting", out=runs["inpainting"], **FEW)
    stage = plan(options).restored["half"]
    inputs = {name: each.folder(runs["inpainting"] / "stages") for name, each in stage.inputs.items()}
    settings: Restoring = replace(stage.settings, batch=5)

    def run(name: str, stop: int | None = None) -> Path:
        (tmp_path / name).mkdir(exist_ok=True)
        restoring.restore(Desk(tmp_path / name, settings, inputs, Track(stop), tmp_path))
        return tmp_path / name

    whole = load_file(run("whole") / "images.safetensors")["images"]
    with pytest.raises(KeyboardInterrupt):
        run("killed", 1)
    (kept,) = (tmp_path / "killed").glob("samples-*.safetensors")
    os.utime(kept, (1, 1))
    with pytest.raises(KeyboardInterrupt):
        run("killed", 2)
    assert kept.stat().st_mtime == 1
    assert torch.equal(load_file(run("killed") / "images.safetensors")["images"], whole)
