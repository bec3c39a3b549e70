"""Denoisers from the command line: pictures to scored samples, under every condition."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from reproductions import conditioning, training
from reproductions.artefacts import Desk
from reproductions.cifar_resnet import CLASSES, CifarResNet
from reproductions.commands.denoiser_options import DenoiserOptions
from reproductions.commands.denoisers import plan_continuous, plan_discrete, train_continuous, train_discrete
from reproductions.conditioning import Conditioning, Kind, Reading
from reproductions.data import DataSettings, Split
from reproductions.located import Located
from reproductions.recipes.denoiser_recipes import LATENTS, TOKENS
from reproductions.settings import GaussianNoise
from reproductions.stages import coding, denoiser_scores, denoising, latent_denoising, token_denoising
from reproductions.stages.autoencoding import PRESETS, to_signed
from reproductions.stages.continuous import schedule
from reproductions.stages.evaluating import REPAINT_MASKS, draw_masks
from reproductions.stages.latent_denoising import Solver
from reproductions.stages.token_denoising import Walk, Way
from reproductions.studies import denoiser_studies
from reproductions.studies.denoiser_studies import study_continuous, study_discrete
from reproductions.tests.tracks import Track
from reproductions.text_to_image import samples

pytestmark = pytest.mark.filterwarnings("ignore:.*of [0-9]+ real:UserWarning")
FEW = {"preset": "smoke", "generated": 12, "train_size": 40, "held_out": 12, "workers": 0}


@pytest.fixture(autouse=True)
def datasets_cache(tmp_path, monkeypatch):
    from datasets import config

    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(config, "HF_DATASETS_OFFLINE", True, raising=False)


@pytest.fixture(scope="module")
def autoencoders(tmp_path_factory) -> dict[str, Path]:
    """Folders of small autoencoders that were not trained."""
    root = tmp_path_factory.mktemp("autoencoders")
    torch.manual_seed(0)
    for name in ("vq-f4-32", "kl-f4-32", "fsq-f4-32", "gumbel-f4-32", "lfq-f4-32"):
        PRESETS[name].build().save_pretrained(root / name)
    return {path.name: path for path in root.iterdir()}


def results(out: Path, kind: str) -> dict:
    return json.loads((out / f"{kind}.json").read_text())


def test_tokens_are_trained_for_classes_sampled_and_scored(autoencoders, tmp_path: Path, capsys) -> None:
    options = DenoiserOptions(
        data="digits", condition="class", autoencoder=autoencoders["vq-f4-32"], out=tmp_path / "out", **FEW
    )
    assert train_discrete(options) == 0
    found = results(tmp_path / "out", "discrete")
    assert set(found["rows"]) == {"samples", "training pictures", "training pictures, coded and decoded"}
    for row in found["rows"].values():
        assert [score["name"].split("[")[0] for score in row["scores"]] == ["FID", "KID", "precision", "recall"]
        distance = row["scores"][0]
        assert distance["low"] < distance["value"] < distance["high"]
    assert found["training"]["told"]["classes"][3] == "three"
    assert "FID[pixels-8]" in capsys.readouterr().out
    with Image.open(tmp_path / "out" / "samples.png") as picture:
        assert picture.size == (10 * 64 + 9 * 2, 2 * 64 + 2)
    (board,) = (tmp_path / "out" / "tensorboard").glob("discrete train")
    assert list(board.glob("events*"))
    (weights,) = (tmp_path / "out").glob("stages/discrete-train-*/denoiser/model.safetensors")
    written = weights.stat().st_mtime_ns
    assert train_discrete(options) == 0
    assert weights.stat().st_mtime_ns == written


def test_pixels_are_trained_for_captions(tmp_path: Path) -> None:
    options = DenoiserOptions(data="shapes", condition="caption", out=tmp_path, **FEW)
    assert train_continuous(options) == 0
    assert set(results(tmp_path, "continuous")["rows"]) == {"samples", "training pictures"}
    (trained,) = tmp_path.glob("stages/continuous-train-*")
    assert load_file(trained / "captions.safetensors")
    (drawn,) = tmp_path.glob("stages/*-sample-*/samples-0000000.safetensors")
    assert load_file(drawn)["samples"].shape == (12, 3, 32, 32)


@pytest.mark.parametrize(("name", "channels"), [("kl-f4-32", 4), ("vq-f4-32", 8)])
def test_latents_are_trained_without_a_condition(name: str, channels: int, autoencoders, tmp_path: Path) -> None:
    options = DenoiserOptions(data="digits", autoencoder=autoencoders[name], flip=True, out=tmp_path, **FEW)
    assert train_continuous(options) == 0
    (clean,) = tmp_path.glob("stages/latents-*/clean.safetensors")
    assert load_file(clean)["mean"].shape == (2, 40, channels, 8, 8)


def test_an_interrupted_training_ends_bit_identical_with_its_importance_history(
    autoencoders, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(training, "SAVE_EVERY_SECONDS", 0.0)
    recipe = replace(TOKENS["smoke"], levels=3, steps=2, training=replace(TOKENS["smoke"].training, samples=96))
    settings = token_denoising.Training(recipe, Conditioning(Kind.CLASS, ("a", "b")))
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (16, 3, 32, 32), dtype=torch.uint8, generator=generator)
    for split in ("train", "held_out"):
        Split(images, (("a",),) * 16, torch.arange(16)[:, None] % 2).save(tmp_path / "data" / split)
    inputs = {"data": tmp_path / "data", "autoencoder": tmp_path / "borrowed", "clean": tmp_path / "clean"}
    for name in ("borrowed", "clean"):
        inputs["autoencoder" if name == "borrowed" else name].mkdir()
    borrowed = coding.Borrowed(Located(autoencoders["vq-f4-32"]))
    coding.borrow(Desk(inputs["autoencoder"], borrowed, {}, Track(), tmp_path))
    coding.encode_tokens(Desk(inputs["clean"], coding.Encoding(), inputs, Track(), tmp_path))

    def run(name: str, stop: int | None = None) -> Path:
        (tmp_path / name).mkdir(exist_ok=True)
        token_denoising.train(Desk(tmp_path / name, settings, inputs, Track(stop), tmp_path / "board"))
        return tmp_path / name

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("killed", 8)
    (kept,) = (tmp_path / "killed").glob("checkpoint-*/model.safetensors")
    state = load_file(kept)
    assert state["objective.times.count"].sum() == 8 * 7
    assert (state["objective.times.history"] > 0).all()
    killed = run("killed")
    for file in ("denoiser/model.safetensors", "curves.json"):
        assert (whole / file).read_bytes() == (killed / file).read_bytes(), file


def test_labels_stay_with_their_pictures(tmp_path: Path) -> None:
    """The grey of a picture is its label times fifty; one picture is torn, and one has no label."""
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as ImageColumn

    names = ["night", "dusk", "day"]
    labels = [i % 3 for i in range(30)]
    pictures = [Image.fromarray(np.full((8, 8, 3), 50 * label, np.uint8)) for label in labels]
    features = Features({"image": ImageColumn(), "label": ClassLabel(names=names)})
    rows = Dataset.from_dict({"image": pictures, "label": [*labels[:-1], None]}, features=features)
    rows.to_parquet(tmp_path / "train.parquet")
    data = DataSettings(name=str(tmp_path), resolution=8, train_size=99, held_out_size=3, max_bad=1)
    assert conditioning.class_names(data, "label") == ("night", "dusk", "day")
    splits = conditioning.read(Reading(data, "", Kind.CLASS, "label"), tmp_path / "read")
    assert len(splits.bad) == 1
    assert len(splits.train.images) + len(splits.held_out.images) == 29
    for split in (splits.train, splits.held_out):
        torch.testing.assert_close(split.images[:, 0, 0, 0].long(), 50 * split.attributes[:, 0], atol=1, rtol=0)
        assert [caption for (caption,) in split.captions] == [names[label] for label in split.attributes[:, 0]]


def test_mirrored_pictures_are_coded_too(autoencoders, tmp_path: Path) -> None:
    images = torch.randint(256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    Split(images, ((),) * 5).save(tmp_path / "data" / "train")
    (tmp_path / "borrowed").symlink_to(autoencoders["vq-f4-32"].parent)
    (tmp_path / "coder").mkdir()
    (tmp_path / "coder" / "autoencoder").symlink_to(autoencoders["vq-f4-32"])
    inputs = {"data": tmp_path / "data", "autoencoder": tmp_path / "coder", "clean": tmp_path}
    coding.encode_tokens(Desk(tmp_path, coding.Encoding(flip=True), inputs, Track(), tmp_path))
    clean = coding.Tokens(tmp_path, torch.device("cpu"))
    autoencoder = coding.load_autoencoder(tmp_path / "coder")
    with torch.inference_mode():
        plain, mirrored = (autoencoder.encode(to_signed(x)).indices.flatten(1) for x in (images, images.flip(-1)))
    assert torch.equal(clean.tokens, torch.stack([plain, mirrored]))
    drawn = torch.stack([clean.draw(torch.arange(5), torch.Generator().manual_seed(i)) for i in range(20)])
    assert ((drawn == plain).all(-1) | (drawn == mirrored).all(-1)).all()
    assert not (drawn == plain).all()


@pytest.mark.parametrize("name", ["kl-f4-32", "vq-f4-32"])
def test_latents_are_standard_and_decode_to_what_the_autoencoder_rebuilds(name: str, autoencoders, tmp_path) -> None:
    images = torch.randint(256, (9, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    Split(images, ((),) * 9).save(tmp_path / "data" / "train")
    (tmp_path / "autoencoder").symlink_to(autoencoders[name])
    inputs = {"data": tmp_path / "data", "autoencoder": tmp_path, "clean": tmp_path}
    coding.encode_latents(Desk(tmp_path, coding.Encoding(), inputs, Track(), tmp_path))
    mean = load_file(tmp_path / "clean.safetensors")["mean"][0]
    autoencoder = coding.load_autoencoder(tmp_path)
    with torch.inference_mode():
        if name.startswith("vq"):
            torch.testing.assert_close(mean.mean((0, 2, 3)), torch.zeros(8), atol=1e-5, rtol=0)
            torch.testing.assert_close(mean.std((0, 2, 3)), torch.ones(8))
            expected = autoencoder.decode(autoencoder.encode(to_signed(images)).indices)
        else:
            expected = autoencoder.decode(autoencoder.encode(to_signed(images), sample=False).values)
        torch.testing.assert_close(coding.Decoder(inputs).floats(mean), expected)


def test_every_kind_of_autoencoder_is_recognised(autoencoders) -> None:
    for name, folder in autoencoders.items():
        assert coding.kind_of(folder) is PRESETS[name].kind


def test_what_lies_outside_is_known_by_its_content(tmp_path: Path) -> None:
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "weights").write_text("the same")
    assert str(Located(tmp_path / "here")) == str(Located(tmp_path / "there"))
    (tmp_path / "there" / "weights").write_text("another")
    assert str(Located(tmp_path / "here")) != str(Located(tmp_path / "there"))
    with pytest.raises(FileNotFoundError, match="there is no file or folder"):
        Located(tmp_path / "nowhere")


def test_a_moved_autoencoder_does_not_train_again(autoencoders, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(autoencoders["vq-f4-32"], tmp_path / "moved")
    options = DenoiserOptions(data="digits", autoencoder=autoencoders["vq-f4-32"], **FEW)
    moved = replace(options, autoencoder=tmp_path / "moved")
    assert plan_discrete(options).model.digest == plan_discrete(moved).model.digest
    assert plan_discrete(options).model.digest != plan_discrete(replace(options, seed=1)).model.digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"autoencoder": None}, "--autoencoder: a denoiser of tokens needs an autoencoder"),
        ({"autoencoder": "kl-f4-32"}, "holds a KLAutoencoder, which has no tokens"),
        ({"autoencoder": "."}, "holds no config.json and no model.safetensors"),
        ({"resolution": 30}, "30 pixels are no multiple of 4"),
        ({"data": "shapes"}, "shapes has no labels"),
        ({"data": "no/such/folder.parquet"}, "no such file"),
        ({"preset": "smal"}, "there is no recipe 'smal'.*did you mean 'small'"),
        ({"steps": 11}, "--steps: 11 are not in 1..10, the noise levels"),
        ({"guidance": 2.0, "condition": "none"}, "nothing to be guided by"),
        ({"guidance": -1.0}, "--guidance must be positive, got -1"),
        ({"samples": 0}, "--samples must be positive"),
        ({"generated": 0}, "--generated must be at least 1"),
        ({"features": Path("missing.safetensors")}, "--features: there is no file missing"),
    ],
)
def test_mistakes_are_told_before_any_work(changes, message, autoencoders, tmp_path: Path, capsys) -> None:
    given = {"data": "digits", "condition": "class", "autoencoder": "vq-f4-32", "out": tmp_path / "out", **FEW}
    given |= changes
    if given["autoencoder"] is not None:
        given["autoencoder"] = autoencoders["vq-f4-32"].parent / given["autoencoder"]
    assert train_discrete(DenoiserOptions(**given)) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_a_side_that_the_levels_do_not_halve_is_told(tmp_path: Path, capsys) -> None:
    options = DenoiserOptions(data="digits", resolution=18, preset="pixels", out=tmp_path / "out")
    assert train_continuous(options) == 2
    assert "examples of side 18, which the 3 levels of the U-Net do not halve; take a multiple of 4" in (
        capsys.readouterr().err
    )


def test_missing_captions_and_labels_are_told_with_the_columns(tmp_path: Path, capsys) -> None:
    from datasets import Dataset

    pictures = [Image.fromarray(np.zeros((8, 8, 3), np.uint8))] * 4
    Dataset.from_dict({"image": pictures, "number": [1, 2, 3, 4]}).to_parquet(tmp_path / "train.parquet")
    options = DenoiserOptions(data=str(tmp_path), condition="caption", out=tmp_path / "out", **FEW)
    assert train_continuous(options) == 2
    assert "no captions found; the columns are: image, number" in capsys.readouterr().err
    assert train_continuous(replace(options, condition="class")) == 2
    assert "column 'label'" in capsys.readouterr().err
    assert train_continuous(replace(options, condition="class", label_column="number")) == 2
    assert "not labels with names; the columns are: image, number" in capsys.readouterr().err


def test_a_study_samples_one_training_in_many_ways(autoencoders, tmp_path: Path, capsys, monkeypatch) -> None:
    options = DenoiserOptions(
        data="digits", condition="class", autoencoder=autoencoders["vq-f4-32"], out=tmp_path, **FEW
    )
    monkeypatch.setattr("sys.argv", ["conprediff", "study", "discrete", "--out", str(tmp_path)])
    assert train_discrete(options) == 0
    (weights,) = tmp_path.glob("stages/discrete-train-*/denoiser/model.safetensors")
    written = weights.stat().st_mtime_ns
    assert study_discrete(options) == 0
    assert weights.stat().st_mtime_ns == written
    study = json.loads((tmp_path / "study.json").read_text())
    walks = [(row["line"], row["walk"]["steps"], row["calls"]) for row in study["study"]]
    assert ("exact stride", 5, 10) in walks
    assert ("released stride", 5, 12) in walks
    assert ("purity prior", 2, 4) in walks
    assert ("guidance, 5 steps", 5, 5) in walks
    assert ("released stride", 10, 22) not in walks
    for row in study["study"]:
        score = row["scores"][0]
        assert score["name"] == "FID[pixels-8]"
        assert score["low"] < score["value"] < score["high"]
    one, two = (row for row in study["study"] if row["name"] == "exact stride 5 guidance 2")
    assert one["scores"] == two["scores"]
    assert len(list(tmp_path.glob("stages/exact-stride-5-guidance-2-sample-*"))) == 1
    assert str(tmp_path) not in study["command"]
    assert "| released stride | 5 | 2 | 12 |" in (tmp_path / "study.md").read_text()
    page = (tmp_path / "study.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    with Image.open(tmp_path / "ways.png") as picture:
        assert picture.width > 10 * 66
        assert picture.height == len({row["name"] for row in study["study"]}) * 68


@pytest.mark.parametrize("plan", [plan_discrete, plan_continuous])
def test_other_steps_and_guidance_train_nothing_again(autoencoders, plan) -> None:
    options = DenoiserOptions(data="digits", condition="class", autoencoder=autoencoders["vq-f4-32"], **FEW)
    one, other = plan(options), plan(replace(options, steps=3, guidance=2.5))
    assert (other.walk.steps, other.walk.guidance) == (3, 2.5)
    assert one.model.digest == other.model.digest
    assert one.samples.images.digest != other.samples.images.digest


def test_samples_do_not_depend_on_their_batch(autoencoders, tmp_path: Path, monkeypatch) -> None:
    options = DenoiserOptions(
        data="digits", condition="class", autoencoder=autoencoders["vq-f4-32"], precision="no", out=tmp_path, **FEW
    )
    assert train_discrete(options) == 0
    planned = plan_discrete(options)
    drawn = planned.samples.images.inputs["samples"]
    inputs = {name: stage.folder(tmp_path / "stages") for name, stage in drawn.inputs.items()}
    settings = replace(drawn.settings, batch=5)
    (tmp_path / "again").mkdir()
    token_denoising.sample(Desk(tmp_path / "again", settings, inputs, Track(), tmp_path))
    assert torch.equal(samples(tmp_path / "again"), samples(drawn.folder(tmp_path / "stages")))
    assert len(list((tmp_path / "again").glob("samples-*"))) == 3


@pytest.mark.parametrize(
    ("walk", "message"),
    [
        (Walk(6, way=Way.RELEASED), "6 is none of 10"),
        (Walk(65, way=Way.PURITY), "65 are not in 1..64, the tokens"),
        (Walk(11), "11 are not in 1..10, the noise levels"),
        (Walk(0), "0 are not in 1..10"),
    ],
)
def test_walks_that_there_are_not_are_told(walk: Walk, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        walk.check(10, 64)


def test_classes_are_read_by_the_network_that_knows_them(tmp_path: Path) -> None:
    """A network whose last layer always says "bird" finds a tenth of the samples right, and the labels of birds."""
    network = CifarResNet(1)
    torch.nn.init.zeros_(network.linear.weight)
    with torch.no_grad():
        network.linear.bias.copy_(torch.eye(10)[2])
    save_file(network.state_dict(), tmp_path / "eight.safetensors")
    images = torch.randint(256, (40, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for split in ("train", "held_out"):
        Split(images, (("",),) * 40, torch.full((40, 1), 2)).save(tmp_path / "data" / split)
    save_file({"images": images}, tmp_path / "images.safetensors")
    featuring = denoiser_scores.Featuring(Located(tmp_path / "eight.safetensors"), 40)
    inputs = {"data": tmp_path / "data", "real": tmp_path}
    denoiser_scores.real_features(Desk(tmp_path, featuring, inputs, Track(), tmp_path))
    comparing = denoiser_scores.Comparing(featuring, "held_out", CLASSES, metrics=("kid",))
    for given, share in (({**inputs, "images": tmp_path}, 0.1), (inputs, 1.0)):
        denoiser_scores.score(Desk(tmp_path, comparing, given, Track(), tmp_path))
        found = json.loads((tmp_path / "scores.json").read_text())["scores"][-1]
        assert found["name"] == "class accuracy[cifar-resnet8]"
        assert found["value"] == pytest.approx(share)


@pytest.mark.parametrize("noise", list(GaussianNoise))
@pytest.mark.parametrize("solver", list(Solver))
def test_every_solver_draws_and_asks_as_often_as_it_says(solver: Solver, noise: GaussianNoise) -> None:
    """The network is counted; what it answers does not matter."""
    walk = latent_denoising.Walk(4, clip=1.0, solver=solver)
    recipe = replace(LATENTS["smoke"], levels=50, noise=noise)
    settings = latent_denoising.Training(recipe, Conditioning(Kind.NONE))
    frozen = denoising.Frozen(
        latent_denoising.network(settings, (4, 8, 8)).eval(), latent_denoising.ForwardProcess(schedule(recipe))
    )
    asked = []
    frozen.denoiser.register_forward_hook(lambda *_: asked.append(None))
    module = denoising.Conditional(torch.nn.Identity(), frozen)
    seeds = [torch.Generator().manual_seed(i) for i in range(2)]
    drawn = latent_denoising.drawer(walk, settings, (4, 8, 8))(module, None, seeds)
    assert drawn.shape == (2, 4, 8, 8)
    assert drawn.isfinite().all()
    assert len(asked) == walk.calls(recipe)


def test_pictures_are_filled_in_behind_every_mask(tmp_path: Path, monkeypatch) -> None:
    """What a mask shows is the picture's own, in both ways; what it hides is not."""
    solved = {Solver.DDIM: (4, 2), Solver.HEUN: (2,)}
    monkeypatch.setattr(denoiser_studies, "SOLVED", solved)
    monkeypatch.setattr(denoiser_studies, "SCALES", (1.0,))
    options = DenoiserOptions(data="digits", condition="class", out=tmp_path, **FEW)
    assert study_continuous(options) == 0
    (folder,) = tmp_path.glob("stages/inpainting-*")
    facts = json.loads((folder / "facts.json").read_text())
    assert facts["ways"] == ["mixing", "RePaint"]
    assert len(facts["masks"]) == 6
    rows = load_file(folder / "filled.safetensors")["images"].view(6, 3, 4, 3, 32, 32)
    (real,) = tmp_path.glob("stages/pictures-*/held_out")
    originals = Split.load(real).images[:4]
    for kind, (_, mixing, repaint) in zip(REPAINT_MASKS, rows, strict=True):
        mask = draw_masks(kind, 4, 32, 32).expand(-1, 3, -1, -1)
        for filled in (mixing, repaint):
            assert torch.equal(filled[~mask], originals[~mask])
            assert not torch.equal(filled[mask], originals[mask])
        assert not torch.equal(mixing, repaint)
    study = json.loads((tmp_path / "study.json").read_text())
    assert [row["name"] for row in study["study"]] == [
        "DDIM 4 guidance 3",
        "DDIM 2 guidance 3",
        "Heun 2 guidance 3",
        "DDIM 4 guidance 1",
    ]
    assert (tmp_path / "inpainting.png").is_file()
