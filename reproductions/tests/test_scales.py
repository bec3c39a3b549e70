"""ImageBART from the command line: scales trained apart, put together, sampled, edited and compared."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from reproductions import __main__, training
from reproductions.artefacts import Desk
from reproductions.conditioning import Conditioning, Kind
from reproductions.data import Split
from reproductions.denoiser_options import DiscreteOptions, ScaleOptions
from reproductions.edit_masks import UpperHalf, Window
from reproductions.scale_denoisers import plan_imagebart, train_imagebart
from reproductions.scale_recipes import chain, fitted, preset_of
from reproductions.scale_study import plan_study, study_imagebart
from reproductions.stages import scale_denoising
from reproductions.stages.autoencoding import PRESETS
from reproductions.stages.discrete import SCALE_PRESETS
from reproductions.stages.evaluating import EXPAND, draw_masks
from reproductions.stages.scale_denoising import Walk
from reproductions.stages.scale_editing import Editing, keeps
from reproductions.text_to_image import samples

pytestmark = pytest.mark.filterwarnings("ignore:.*of [0-9]+ real:UserWarning")
FEW = {"preset": "smoke", "resolution": 16, "generated": 12, "train_size": 40, "held_out": 12, "workers": 0}


class Track:
    """No progress bar; `stop` interrupts after so many steps."""

    def __init__(self, stop: int | None = None) -> None:
        self.stop = stop

    def __call__(self, steps, total=None, done=0):
        for count, step in enumerate(steps, done + 1):
            yield step
            if count == self.stop:
                raise KeyboardInterrupt

    def note(self, text: str) -> None: ...


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory) -> Path:
    """The folder of a small autoencoder that was not trained."""
    folder = tmp_path_factory.mktemp("autoencoder") / "autoencoder"
    torch.manual_seed(0)
    PRESETS["vq-f4-32"].build().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def studied(autoencoder, tmp_path_factory) -> Path:
    """A finished study."""
    out = tmp_path_factory.mktemp("studied")
    options = ScaleOptions(data="digits", condition="class", autoencoder=autoencoder, out=out, **FEW)
    assert study_imagebart(options) == 0
    return out


def test_small_chains_have_as_many_parameters_whatever_their_scales() -> None:
    """So that as many samples seen by every scale are the same budget, samples times parameters."""
    counts = []
    for scales in (1, 2, 3):
        recipe = chain(f"small-{scales}", codes=256, grid=(8, 8), classes=10)
        settings = scale_denoising.Training(recipe, Conditioning(Kind.NONE))
        sizes = [
            scale_denoising.scale_size(scale_denoising.ScaleTraining(recipe, settings.told, t))["parameters"]
            for t in range(1, scales + 1)
        ]
        counts.append(sum(sizes) * recipe.training.samples)
        with torch.device("meta"):
            preset = SCALE_PRESETS[f"small-{scales}"].build()
        assert sizes == [sum(p.numel() for p in each.parameters()) for each in preset.networks]
    assert max(counts) / min(counts) < 1.01


def test_recipes_are_fitted_to_tokens_and_classes() -> None:
    alone = {"codes": 973, "grid": (16, 16), "width": 8, "prefix": 1, "vocabulary": 1000, "unmasked": 2}
    assert fitted(alone, 64, (4, 4), 0) == {"codes": 64, "grid": (4, 4), "width": 8}
    shared = fitted(alone, 64, (4, 4), 10)
    assert (shared["prefix"], shared["prefix_offset"], shared["vocabulary"], shared["unmasked"]) == (1, 0, 64, 2)
    own = fitted({**alone, "prefix_offset": 973}, 64, (4, 4), 10)
    assert (own["prefix_offset"], own["vocabulary"]) == (64, 74)
    published = chain("imagenet-5", codes=973, grid=(16, 16), classes=1000)
    assert published.decoder_only == {**SCALE_PRESETS["imagenet-5"].decoder_only, "prefix_offset": 0}
    assert published.training.batch == 32


def test_a_study_compares_numbers_of_scales(studied: Path) -> None:
    found = json.loads((studied / "study.json").read_text())
    assert [each["scales"] for each in found["chains"]] == [1, 2, 3]
    for each in found["chains"]:
        bound = each["bound"]
        assert bound["value"] == pytest.approx(sum(bound["scales"]), rel=1e-5)
        assert bound["low"] < bound["value"] < bound["high"]
        assert bound["uniform"] == 8
        assert 5 < bound["scales"][0] < 11
        assert len(each["trained"]) == each["scales"]
        assert each["timing"]["images"] == 12
        assert each["timing"]["seconds"] > 0
        for scores in (each["samples"]["scores"], each["upper halves"]["scores"]):
            assert scores[0]["name"] == "FID[pixels-8]"
            assert scores[0]["low"] < scores[0]["value"] < scores[0]["high"]
    assert set(found["rows"]) == {"training pictures", "training pictures, coded and decoded"}
    text = (studied / "study.md").read_text()
    assert "| scales | parameters | bits per token | FID[pixels-8] |" in text
    with Image.open(studied / "edits.png") as picture:
        assert picture.size == (18 * 34 - 2, len(found["edits"]["masks"]) * 3 * 34 - 2)
    for shared in ("tokens", "real-features", "rebuilt-scores"):
        assert len(list(studied.glob(f"stages/{shared}-*"))) == 1


def test_edits_keep_what_the_mask_shows(studied: Path) -> None:
    (real,) = studied.glob("stages/pictures-*/held_out")
    originals = Split.load(real).images
    for scales in (1, 2, 3):
        (folder,) = studied.glob(f"stages/imagebart-{scales}-edits-*")
        facts = json.loads((folder / "facts.json").read_text())
        assert facts["masks"][:2] == ["upper half", "window"]
        assert "expand" not in facts["masks"]
        assert facts["ways"] == ["its class", "the next class"]
        images = load_file(folder / "filled.safetensors")["images"].view(-1, 3, 6, 3, 16, 16)
        for kind, (_, *ways) in zip((UpperHalf(), Window()), images[:2], strict=True):
            mask = draw_masks(kind, 6, 16, 16).expand(-1, 3, -1, -1)
            for way in ways:
                assert torch.equal(way[~mask], originals[:6][~mask])
                assert not torch.equal(way[mask], originals[:6][mask])
        (halves,) = studied.glob(f"stages/imagebart-{scales}-upper-halves-*/images.safetensors")
        edited = load_file(halves)["images"]
        assert torch.equal(edited[:, :, 8:], originals[:, :, 8:])


def test_masks_that_keep_no_token_are_left_out() -> None:
    """At 16 pixels the centre that `expand` keeps is no whole patch of 4 x 4; at 32 it is four of them."""
    recipe = chain("smoke-2", codes=256, grid=(8, 8), classes=0)
    settings = Editing(scale_denoising.Training(recipe, Conditioning(Kind.NONE)), Walk(), 2, 0)
    assert not keeps(EXPAND, settings, 16, (4, 4))
    assert keeps(EXPAND, settings, 32, (8, 8))


def test_the_masks_of_edits() -> None:
    nothing = np.random.RandomState(0)
    upper, window = UpperHalf().draw(8, 8, nothing), Window().draw(8, 8, nothing)
    assert upper[:4].all()
    assert not upper[4:].any()
    assert window[2:6, 2:6].all()
    assert window.sum() == 16


def test_a_training_alone_shares_its_stages_with_the_study(studied: Path, autoencoder, capsys) -> None:
    (weights,) = studied.glob("stages/imagebart-2-scale-1-train-*/scale/model.safetensors")
    written = weights.stat().st_mtime_ns
    options = DiscreteOptions(
        data="digits", condition="class", autoencoder=autoencoder, out=studied, kind="imagebart", scales=2, **FEW
    )
    assert train_imagebart(options) == 0
    assert weights.stat().st_mtime_ns == written
    assert "bits per token" in capsys.readouterr().out
    assert (studied / "samples.png").is_file()


def test_the_bound_is_exact_where_there_is_one_scale(studied: Path, autoencoder) -> None:
    """Then it is the log-likelihood of an autoregressive model, added up here token by token as it is drawn."""
    options = ScaleOptions(data="digits", condition="class", autoencoder=autoencoder, out=studied, **FEW)
    plan = plan_study(options)[0]
    inputs = {name: stage.folder(studied / "stages") for name, stage in plan.bound.inputs.items()}
    desk = Desk(studied, None, inputs, Track(), studied)
    module, _ = scale_denoising.trained(desk, plan.bound.settings.training)
    held_out = Split.load(inputs["data"] / "held_out")
    assert held_out.attributes is not None
    tokens = scale_denoising.Decoder(inputs).encode(scale_denoising.to_signed(held_out.images[:12]))
    model = scale_denoising.chain_of(module)
    times = torch.ones(12, dtype=torch.int64)
    with torch.inference_mode():
        step = model.denoisers[0].decode(torch.zeros_like(tokens), times, held_out.attributes[:12, 0])
        logits = [step(None if i == 0 else tokens[:, i - 1]) for i in range(16)]
    log_p = torch.stack(logits, 1).log_softmax(-1).gather(-1, tokens[..., None])
    bits = -float(log_p.mean()) / math.log(2)
    assert json.loads((studied / "study.json").read_text())["chains"][0]["bound"]["value"] == pytest.approx(
        bits, rel=1e-4
    )


def test_samples_do_not_depend_on_their_batch(studied: Path, autoencoder, tmp_path: Path) -> None:
    options = ScaleOptions(data="digits", condition="class", autoencoder=autoencoder, out=studied, **FEW)
    drawn = plan_study(options)[2].samples.images.inputs["samples"]
    inputs = {name: stage.folder(studied / "stages") for name, stage in drawn.inputs.items()}
    plain = replace(drawn.settings.training.chain.training, precision="no")
    told = replace(drawn.settings.training, chain=replace(drawn.settings.training.chain, training=plain))
    for batch in (12, 5):
        (tmp_path / str(batch)).mkdir()
        settings = replace(drawn.settings, training=told, batch=batch)
        scale_denoising.sample(Desk(tmp_path / str(batch), settings, inputs, Track(), tmp_path))
    assert torch.equal(samples(tmp_path / "12"), samples(tmp_path / "5"))
    assert len(list((tmp_path / "5").glob("samples-*"))) == 3


@pytest.mark.parametrize("scale", [1, 2])
def test_an_interrupted_scale_ends_bit_identical(scale: int, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(training, "SAVE_EVERY_SECONDS", 0.0)
    recipe = chain("smoke-2", codes=16, grid=(2, 2), classes=0)
    recipe = replace(recipe, training=replace(recipe.training, samples=96, precision="no"))
    settings = scale_denoising.ScaleTraining(recipe, Conditioning(Kind.NONE), scale)
    tokens = torch.randint(16, (1, 30, 4), generator=torch.Generator().manual_seed(0))
    save_file(
        {"tokens": tokens, "grid": torch.tensor([2, 2]), "codes": torch.tensor(16)}, tmp_path / "clean.safetensors"
    )
    monkeypatch.setattr("reproductions.stages.denoising._show", lambda *_: None)
    monkeypatch.setattr("reproductions.stages.denoising.Decoder", lambda _: None)

    def run(name: str, stop: int | None = None) -> Path:
        (tmp_path / name).mkdir(exist_ok=True)
        desk = Desk(tmp_path / name, settings, {"clean": tmp_path}, Track(stop), tmp_path / "board")
        scale_denoising.train_scale(desk)
        return tmp_path / name

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("killed", 8)
    assert list((tmp_path / "killed").glob("checkpoint-*"))
    killed = run("killed")
    for file in ("scale/model.safetensors", "curves.json"):
        assert (whole / file).read_bytes() == (killed / file).read_bytes(), file


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"autoencoder": None}, "--autoencoder: a denoiser of tokens needs an autoencoder"),
        ({"steps": 5}, "--steps: ImageBART has its scales instead of steps"),
        ({"guidance": 2.0}, "--guidance: ImageBART has its scales"),
        ({"condition": "caption"}, "take none or class"),
        ({"top_p": 1.5}, r"top_p must be in \(0, 1\]"),
        ({"preset": "imagnet-4"}, "no recipe 'imagnet-4'.*did you mean 'imagenet-4'"),
        ({"preset": "imagenet-4", "scales": 2}, "the recipe imagenet-4 has 4, not 2"),
    ],
)
def test_mistakes_are_told_before_any_work(changes, message, autoencoder, tmp_path: Path, capsys) -> None:
    given = {"data": "digits", "condition": "class", "autoencoder": autoencoder, "out": tmp_path / "out", **FEW}
    assert train_imagebart(DiscreteOptions(**{**given, "kind": "imagebart", **changes})) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_only_small_recipes_are_compared(autoencoder, capsys, tmp_path: Path) -> None:
    options = ScaleOptions(data="digits", autoencoder=autoencoder, preset="imagenet-4", out=tmp_path / "out")
    assert study_imagebart(options) == 2
    assert "the study compares the recipes small-1" in capsys.readouterr().err


def test_options_of_the_other_kind_are_told(capsys) -> None:
    assert __main__.discrete(DiscreteOptions(scales=2, top_k=5)) == 2
    assert "--scales, --top-k: only --kind imagebart takes that" in capsys.readouterr().err


def test_published_recipes_are_planned(autoencoder) -> None:
    options = DiscreteOptions(data="digits", condition="class", autoencoder=autoencoder, kind="imagebart")
    plan = plan_imagebart(options, preset_of("imagenet-4", None))
    assert [stage.name for stage in plan.trainings] == [f"imagebart 4 scale {t} train" for t in (1, 2, 3, 4)]
    assert plan.trainings[0].size()["steps"] == SCALE_PRESETS["imagenet-4"].steps
