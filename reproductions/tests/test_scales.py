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
from reproductions.commands.denoiser_options import DiscreteOptions, ScaleOptions
from reproductions.commands.generation import inpaint, sample
from reproductions.commands.generation_options import InpaintOptions, SampleOptions
from reproductions.commands.scale_denoisers import plan_imagebart, train_imagebart
from reproductions.conditioning import Conditioning, Kind
from reproductions.data import Split
from reproductions.drawn.edit_masks import UpperHalf, Window
from reproductions.recipes.scale_recipes import chain, fitted, preset_of
from reproductions.stages import scale_costs, scale_denoising
from reproductions.stages.autoencoding import PRESETS
from reproductions.stages.captioning import BytePairs
from reproductions.stages.discrete import SCALE_PRESETS, Filter
from reproductions.stages.evaluating import EXPAND, draw_masks
from reproductions.stages.generating import Asked, Opened, opened
from reproductions.stages.scale_editing import Editing, keeps
from reproductions.stages.scale_walks import Walk
from reproductions.studies.scale_study import plan_study, study_imagebart
from reproductions.tests.tracks import Track
from reproductions.text_to_image import samples
from reproductions.trained_runs import trained_run

pytestmark = pytest.mark.filterwarnings("ignore:.*of [0-9]+ real:UserWarning")
FEW = {"preset": "smoke", "resolution": 16, "generated": 12, "train_size": 40, "held_out": 12, "workers": 0}
AS_THE_RUN = Asked()


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory) -> Path:
    """The folder of a small autoencoder that was not trained."""
    folder = tmp_path_factory.mktemp("autoencoder") / "autoencoder"
    torch.manual_seed(0)
    PRESETS["vq-f4-32"].build().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def spoken(autoencoder, tmp_path_factory) -> Path:
    """A finished training of two scales that are told captions."""
    out = tmp_path_factory.mktemp("spoken")
    options = DiscreteOptions(data="shapes", condition="caption", autoencoder=autoencoder, out=out, scales=2, **FEW)
    assert train_imagebart(replace(options, kind="imagebart")) == 0
    return out


@pytest.fixture(scope="module")
def joint(autoencoder, tmp_path_factory) -> Path:
    """A finished training of three scales as one network."""
    out = tmp_path_factory.mktemp("joint")
    options = DiscreteOptions(data="digits", condition="class", autoencoder=autoencoder, out=out, scales=3, **FEW)
    assert train_imagebart(replace(options, kind="imagebart", jointly=True)) == 0
    return out


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
            scale_costs.size(scale_denoising.ScaleTraining(recipe, settings.told, t))["parameters"]
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


@pytest.mark.parametrize("scale", [1, 2, None])
def test_an_interrupted_scale_ends_bit_identical(scale: int | None, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(training, "SAVE_EVERY_SECONDS", 0.0)
    recipe = chain("smoke-2", codes=16, grid=(2, 2), classes=0)
    recipe = recipe if scale else recipe.jointly()
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
        ({"top_p": (1.5,)}, r"top_p must be in \(0, 1\]"),
        ({"scales": 2, "top_k": (5, 5, 5)}, "--top-k: 3 numbers for 2 scales; give one, or one for each"),
        ({"condition": "caption", "data": "shapes", "text_encoder": "x"}, "--text-encoder: ImageBART reads the tokens"),
        ({"scales": 1, "jointly": True}, "--jointly: one scale is trained alone"),
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
    assert __main__.discrete(DiscreteOptions(scales=2, top_k=(5,), jointly=True, temperature=(0.9,))) == 2
    wrong = "--scales, --top-k, --jointly, --temperature"
    assert f"{wrong}: only --kind imagebart takes that" in capsys.readouterr().err


def test_published_recipes_are_planned(autoencoder) -> None:
    options = DiscreteOptions(data="digits", condition="class", autoencoder=autoencoder, kind="imagebart")
    plan = plan_imagebart(options, preset_of("imagenet-4", None))
    assert [stage.name for stage in plan.trainings] == [f"imagebart 4 scale {t} train" for t in (1, 2, 3, 4)]
    assert plan.trainings[0].size()["steps"] == SCALE_PRESETS["imagenet-4"].steps


def test_captions_stand_before_the_tokens(spoken: Path) -> None:
    """As many as the longest caption has, with embeddings beside those of the codes."""
    (words,) = spoken.glob("stages/captions-*/tokenizer.json")
    tokenizer = BytePairs.load(words)
    model = scale_denoising.chain_of(told(spoken).module)
    assert [type(network).__name__ for network in model.denoisers] == ["EncoderDecoder", "DecoderOnly"]
    for network in model.denoisers:
        assert (network.prefix, network.prefix_offset, network.vocabulary) == (
            tokenizer.length,
            256,
            256 + tokenizer.size,
        )
    report = json.loads((spoken / "imagebart.json").read_text())
    assert report["edits"]["ways"] == ["its caption", "the next picture's caption"]
    assert "drawn again as their caption says" in (spoken / "imagebart.md").read_text()


def told(out: Path, asked: Asked = AS_THE_RUN) -> Opened:
    return opened(trained_run(out), asked)


def test_the_bound_is_told_the_held_out_captions(spoken: Path) -> None:
    """Oracle: the last scale's term, from the logits of its network for the first caption of each picture."""
    run = told(spoken)
    (held_out,) = spoken.glob("stages/pictures-*/held_out")
    split = Split.load(held_out)
    model, tokenizer = (
        scale_denoising.chain_of(run.module),
        BytePairs.load(run.desk.inputs["captions"] / "tokenizer.json"),
    )
    condition = tokenizer([captions[0] for captions in split.captions])
    tokens = run.coder.encode(scale_denoising.to_signed(split.images))
    times = torch.full((len(tokens),), 2)
    generator = scale_denoising.stream(0, 0, 0, torch.device("cpu"))
    with torch.inference_mode():
        model.process.pair(tokens, torch.ones_like(times), generator=generator)
        pair = model.process.pair(tokens, times, generator=generator)
        log_p = model.denoisers[1](pair.after, times, condition, target=pair.before).value.log_softmax(-1)
        divergence = model.process.divergence(log_p, tokens, pair.after, times).mean() / math.log(2)
    bound = json.loads((spoken / "imagebart.json").read_text())["chains"][0]["bound"]
    assert bound["scales"][1] == pytest.approx(float(divergence), rel=1e-4)


def test_a_caption_decides_what_is_drawn_and_edited(spoken: Path) -> None:
    """Two captions from one seed give two pictures, inside the mask alone, where something is kept.

    The network has hardly been trained; it gets weights that matter.
    """
    run = told(spoken)
    torch.manual_seed(0)
    for parameter in run.module.denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    tokenizer = BytePairs.load(run.desk.inputs["captions"] / "tokenizer.json")
    train = Split.load(run.desk.inputs["data"] / "train")
    spoken_of = {caption for captions in train.captions for caption in captions}
    one, other = (tokenizer([caption]).expand(8, -1) for caption in sorted(spoken_of)[:2])
    drawn = run.pictures(one, range(8), 0)
    assert not torch.equal(drawn, run.pictures(other, range(8), 0))
    mask = torch.ones(8, 1, 16, 16, dtype=torch.bool)
    mask[..., :4, :] = False
    edited = [run.fill(next(iter(run.ways)), drawn, mask, words, range(8), 0) for words in (one, other)]
    hidden = mask.expand(-1, 3, -1, -1)
    assert torch.equal(edited[0][~hidden], edited[1][~hidden])
    assert not torch.equal(edited[0][hidden], edited[1][hidden])


def test_captions_are_asked_for_by_the_commands(spoken: Path, tmp_path: Path, capsys) -> None:
    said = Split.load(told(spoken).desk.inputs["data"] / "train").captions[0][0]
    (tmp_path / "lines.txt").write_text(f"{said}\n")
    drawing = {"run": spoken, "out": tmp_path / "drawn"}
    assert sample(SampleOptions(number=2, captions=tmp_path / "lines.txt", **drawing)) == 0
    assert json.loads((tmp_path / "drawn" / "manifest.json").read_text())["pictures"] == {"00000": said, "00001": said}
    editing = {"run": spoken, "out": tmp_path / "edited", "images": tmp_path / "drawn", "mask": "window"}
    assert inpaint(InpaintOptions(condition=said, chains=(2, 1), temperature=(0.9,), **editing)) == 0
    manifest = json.loads((tmp_path / "edited" / "manifest.json").read_text())
    assert (manifest["chains"], manifest["walk"]["temperature"]) == ([2, 1], [0.9])
    for name in ("00000", "00001"):
        before, after = (np.array(Image.open(tmp_path / each / f"{name}.png")) for each in ("drawn", "edited"))
        changed = (before != after).any(-1)
        assert changed.any()
        assert not changed[:4].any()
        assert not changed[12:].any()
    capsys.readouterr()
    assert inpaint(InpaintOptions(**editing)) == 2
    assert "--condition: give what to fill in for; the run was trained for captions" in capsys.readouterr().err
    assert sample(SampleOptions(only="seven", **drawing)) == 2
    assert "--class: the run was trained for captions" in capsys.readouterr().err


def test_a_study_may_be_told_captions(autoencoder, tmp_path: Path) -> None:
    options = ScaleOptions(data="shapes", condition="caption", autoencoder=autoencoder, out=tmp_path, **FEW)
    plans = plan_study(options)
    assert len({plan.model.inputs["captions"].digest for plan in plans}) == 1
    for scales, plan in enumerate(plans, 1):
        assert len(plan.trainings) == scales
        words = plan.model.settings.told.captions
        largest = scale_denoising.Words(words.vocabulary, words.length)
        for stage in plan.trainings:
            network = scale_denoising.network(stage.settings, stage.settings.scale, largest)
            assert stage.size()["parameters"] == sum(p.numel() for p in network.parameters())


def test_jointly_trained_scales_are_one_network(joint: Path) -> None:
    run = told(joint)
    model = scale_denoising.chain_of(run.module)
    assert len(model.networks) == 1
    assert all(each is model.networks[0] for each in model.denoisers)
    found = json.loads((joint / "imagebart.json").read_text())["chains"][0]
    assert (found["scales"], [each["scale"] for each in found["trained"]]) == (3, ["all"])
    assert found["parameters"] == sum(p.numel() for p in model.parameters())
    assert len(found["bound"]["scales"]) == 3
    (weights,) = joint.glob("stages/imagebart-3-scales-train-*/scale/model.safetensors")
    for name, tensor in load_file(weights).items():
        assert torch.equal(tensor, model.networks[0].state_dict()[name])


def test_each_scale_may_have_its_own_filter() -> None:
    assert Walk().filters(2) == [Filter(), Filter()]
    assert Walk((0.5,), (), (0.9, 1.0)).filters(2) == [
        Filter(temperature=0.5, top_p=0.9),
        Filter(temperature=0.5, top_p=1.0),
    ]
    assert Walk((1.0,), (7, 8, 9)).filters(3) == [Filter(top_k=k) for k in (7, 8, 9)]
    assert [Walk().name, Walk(()).name] == ["all codes"] * 2
    assert Walk((1.0, 0.5), (7,)).name == "top 7 temperature 1 0.5"


def test_a_finished_run_is_drawn_by_other_filters(spoken: Path) -> None:
    """Oracle: with one code to draw from at either scale the seed is without effect, as the last one reads no noise."""
    words = BytePairs.load(told(spoken).desk.inputs["captions"] / "tokenizer.json")(["small red circle"] * 2)
    assert torch.equal(*told(spoken, Asked(top_k=(1,))).pictures(words, [0, 1], 0))
    assert not torch.equal(*told(spoken, Asked(top_k=(256, 1))).pictures(words, [0, 1], 0))


def test_a_mask_that_keeps_no_token_is_told_before_any_work(joint: Path, tmp_path: Path, capsys) -> None:
    """At 16 pixels the centre that `expand` keeps is no whole patch of 4 x 4."""
    Image.new("RGB", (16, 16)).save(tmp_path / "black.png")
    options = {"run": joint, "out": tmp_path / "out", "images": tmp_path / "black.png", "condition": "seven"}
    assert inpaint(InpaintOptions(mask="expand", **options)) == 2
    assert "--mask: it keeps no whole patch of 4 x 4 pixels" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert inpaint(InpaintOptions(mask="window", **options)) == 0


def test_a_finished_run_edits_by_other_chains(joint: Path) -> None:
    """Oracle: the same number for all scales, or for each of them; more runs of a scale give another edit."""
    labels, mask = torch.tensor([1]), torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    image = told(joint).pictures(labels, [0], 0)
    mask[..., :8, :] = True
    runs = [told(joint, Asked(chains=chains)) for chains in ((1,), (1, 1, 1), (2, 1, 3))]
    one, same, other = (each.fill(next(iter(each.ways)), image, mask, labels, [0], 0) for each in runs)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Asked(chains=(2, 2)), "--chains: give a number from 1, or one for each of 3 scales; got 2 2"),
        (Asked(chains=(0,)), "--chains: give a number from 1"),
        (Asked(temperature=(1.0, 2.0)), "--temperature: 2 numbers for 3 scales"),
        (Asked(temperature=(0.0,)), "temperature must be positive"),
    ],
)
def test_what_a_run_cannot_be_asked_is_told(asked: Asked, message: str, joint: Path) -> None:
    with pytest.raises(ValueError, match=message):
        told(joint, asked)
