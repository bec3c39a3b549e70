"""The published recipes: their names, their sizes, their numbers, and every code path of theirs with small networks."""

import copy
import json
import re
import warnings
from dataclasses import replace
from inspect import signature
from pathlib import Path
from string import ascii_lowercase

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from reproductions import frozen_texts
from reproductions.artefacts import Desk
from reproductions.commands import recipe_names
from reproductions.commands.denoiser_options import DenoiserOptions
from reproductions.commands.denoisers import plan_continuous, plan_discrete, train_continuous, train_discrete
from reproductions.conditioning import Conditioning, Kind
from reproductions.data import Split
from reproductions.located import Located
from reproductions.recipes.denoiser_recipes import LATENTS, TOKENS, told_by
from reproductions.runner import Silence
from reproductions.settings import Distance, Solver, TextEncoder
from reproductions.stages import denoising, latent_denoising, preparing, texts, token_denoising
from reproductions.stages.autoencoding import PRESETS
from reproductions.stages.continuous import schedule
from reproductions.stages.discrete import SCALE_PRESETS
from reproductions.text_to_image import samples

SPOKEN = "a red circle above a blue square"
DIFFERENT = ("ldm-churches", "ldm-text", "ldm-imagenet", "ddpm-celebahq")
WORDS = ("a", "red", "blue", "circle", "square", "above", "green")


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    from datasets import config

    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def encoders(tmp_path_factory) -> Path:
    """A CLIP and a T5 of one layer, with words, in `clip` and `t5`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    tokenizers = pytest.importorskip("tokenizers")
    root = tmp_path_factory.mktemp("text")
    torch.manual_seed(0)
    marks = ["<|startoftext|>", "<|endoftext|>"]
    letters = [letter + end for letter in ascii_lowercase for end in ("", "</w>")]
    vocabulary = {word: i for i, word in enumerate([*marks, *letters])}
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    clip = transformers.CLIPTextConfig(
        vocab_size=len(vocabulary), max_position_embeddings=32, bos_token_id=0, eos_token_id=1, **sizes
    )
    transformers.CLIPTextModelWithProjection(clip).save_pretrained(root / "clip")
    (root / "clip" / "vocab.json").write_text(json.dumps(vocabulary))
    (root / "clip" / "merges.txt").write_text("#version: 0.2\n")
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(["<pad>", "</s>", *WORDS])}, unk_token="</s>")
    )
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    t5 = transformers.T5Config(vocab_size=9, d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    transformers.T5EncoderModel(t5).save_pretrained(root / "t5")
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>").save_pretrained(root / "t5")
    return root


@pytest.fixture
def named(tmp_path: Path):
    """Folders that say what an autoencoder or a text encoder is, without its weights, for plans."""

    def write(name: str, config: dict) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config))
        save_file({"none": torch.zeros(1)}, folder / "model.safetensors")
        return folder

    def autoencoder(preset: str, **changes) -> Path:
        given = {**PRESETS[preset].arguments, **changes}
        named = [p for p in signature(PRESETS[preset].kind).parameters.values() if p.kind is p.KEYWORD_ONLY]
        return write(preset, {**{p.name: p.default for p in named}, **given})

    autoencoder.write = write
    return autoencoder


def test_every_recipe_is_listed_and_every_listed_one_is_there() -> None:
    assert set(recipe_names.names(recipe_names.TOKENS)) == set(TOKENS)
    assert set(recipe_names.names(recipe_names.LATENTS)) == set(LATENTS)
    scales = {name for name in SCALE_PRESETS if not name.startswith("small")}
    assert set(recipe_names.names(recipe_names.SCALES)) == {"small", "smoke", *scales}


@pytest.mark.parametrize(
    ("name", "preset", "codes", "parameters"),
    [
        ("vq-diffusion-s", "gumbel-f8-8192", 2887, 35.9e6),
        ("vq-diffusion-b", "gumbel-f8-8192", 2887, 388.8e6),
        ("vq-diffusion-ithq", "gumbel-f8-8192", 4096, 1359.3e6),
    ],
)
def test_published_denoisers_of_tokens_have_the_published_sizes(
    name, preset, codes, parameters, named, capsys, monkeypatch
) -> None:
    """The table of the paper counts in 2^20 and 2^30: 34 M, 370 M, 1.27 G.

    Checks: VQ-Diffusion model sizes.
    """
    monkeypatch.setattr(frozen_texts, "find_spec", lambda name: name)
    clip = named.write("clip", {"model_type": "clip", "text_config": {"hidden_size": 512}})
    options = DenoiserOptions(
        condition="caption",
        preset=name,
        autoencoder=named(preset, codes=codes),
        resolution=256,
        text_encoder=str(clip),
        dry_run=True,
    )
    plan = plan_discrete(options)
    size = plan.model.size()
    assert size["parameters"] == pytest.approx(parameters, abs=5e4)
    assert size["steps"] == TOKENS[name].training.steps
    assert plan.length == 1024
    assert plan.model.settings.told.captions.length == 77
    if name == "vq-diffusion-s":
        assert train_discrete(options) == 0
        assert re.search(r"discrete train +35,9\d\d,\d\d\d +221,375", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("name", "preset", "condition", "parameters"),
    [
        ("ldm-celebahq", "vq-f4", "none", 274_056_163),
        ("ldm-churches", "kl-f8", "none", 294_966_916),
        ("ldm-text", "kl-f8", "caption", 872_300_484 + 1280),
        ("ldm-imagenet", "vq-f4", "class", 400.92e6),
    ],
)
def test_published_denoisers_of_latents_have_the_published_sizes(name, preset, condition, parameters, named) -> None:
    """What is told adds one null state, where the published model had a null of its encoder.

    Checks: LDM U-Net, training recipes.
    """
    options = DenoiserOptions(
        data="digits" if condition == "class" else "shapes",
        condition=condition,
        preset=name,
        autoencoder=named(preset),
        resolution=256,
    )
    size = plan_continuous(options).model.size()
    assert size["parameters"] == pytest.approx(parameters, abs=0 if isinstance(parameters, int) else 5e3)


@pytest.mark.parametrize(
    ("name", "batch", "steps", "rate"),
    [
        ("ldm-celebahq", 48, 410_000, 2e-6 * 48),
        ("ldm-ffhq", 42, 635_000, 2e-6 * 42),
        ("ldm-churches", 96, 500_000, 5e-5),
        ("ldm-bedrooms", 48, 1_900_000, 2e-6 * 48),
        ("ldm-text", 680, 390_000, 1e-4),
        ("ldm-imagenet", 1200, 178_000, 1e-4),
        ("ldm-super-resolution", 64, 860_000, 1e-6 * 64),
        ("ldm-inpainting", 128, 360_000, 1e-6),
    ],
)
def test_trainings_are_those_of_the_tables(name: str, batch: int, steps: int, rate: float) -> None:
    """Checks: LDM training recipes."""
    training = LATENTS[name].training
    assert (training.batch, training.steps) == (batch, steps)
    late = training.rate(training.steps - 1)
    assert late == pytest.approx(rate)
    assert training.rate(0) == pytest.approx(rate / 10_000 if name in ("ldm-churches", "ldm-text") else rate)


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("ldm-celebahq", 1.42304e-4),
        ("ldm-churches", 6.68665e-4),
        ("ldm-super-resolution", 6.68665e-4),
        ("ldm-inpainting", 9.69109e-5),
        ("ldm-text", 4.66010e-3),
    ],
)
def test_noise_ends_where_the_published_one_does(name: str, last: float) -> None:
    """Checks: LDM noise schedule."""
    assert float(schedule(LATENTS[name]).signal[-1]) == pytest.approx(last, rel=1e-5)


def test_what_differs_between_the_published_recipes() -> None:
    """Checks: VQ-Diffusion training recipe, LDM latent objective."""
    absolute = {name for name, recipe in LATENTS.items() if recipe.distance is Distance.ABSOLUTE}
    assert absolute == {"ldm-churches", "ldm-inpainting"}
    assert {name for name, recipe in LATENTS.items() if recipe.eta == 1} == {"ldm-ffhq", "ldm-bedrooms"}
    assert LATENTS["ddpm-celebahq"].solver is Solver.DDPM
    birds, coco = TOKENS["vq-diffusion-b-birds"].training, TOKENS["vq-diffusion-b"].training
    assert (birds.rate(birds.steps - 1), coco.rate(coco.steps - 1)) == (4.5e-4, 2e-4)
    assert birds.plateau is not None
    assert birds.plateau.patience == 25_000 * birds.batch
    assert TOKENS["vq-diffusion-ffhq"].training.ema_interval == 10


def small(recipe, **changes):
    """A published recipe with a small network, seen twice."""
    network = {**recipe.network, "residual_blocks": 1, "channels": 32} if "channels" in recipe.network else None
    if network is None:
        network = {**recipe.network, "width": 32, "depth": 1, "heads": 2}
    batch = 4
    training = replace(recipe.training, batch=batch, samples=2 * batch, warmup=batch, precision="no", log_every=1)
    captions = replace(recipe.captions, width=16, depth=1, heads=2, length=12, vocabulary=300)
    return replace(recipe, network=network, training=training, captions=captions, steps=2, **changes)


@pytest.fixture
def laid(tmp_path: Path):
    """What lays twelve pictures of three classes and 24 captions before a recipe, with the stages that it reads."""

    def lay(recipe, kind: Kind, encoder: Path | None = None) -> tuple[Conditioning, dict[str, Path]]:
        images = torch.randint(256, (12, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        for split in ("train", "held_out"):
            spoken = ((SPOKEN, "a green circle"),) * 12
            Split(images, spoken, torch.arange(12)[:, None] % 3).save(tmp_path / "data" / split)
        inputs = {name: tmp_path / name for name in ("data", "text", "captions", "model")}
        for name in ("text", "captions", "model"):
            inputs[name].mkdir()
        if encoder is not None:
            taken = texts.TakenOver(Located(encoder))
            texts.take_over(Desk(inputs["text"], taken, {}, Silence(), tmp_path))
        if kind is Kind.CAPTION:
            preparing.tokenise(Desk(inputs["captions"], recipe.captions, inputs, Silence(), tmp_path))
        told = Conditioning(kind, ("one", "two", "three") if kind is Kind.CLASS else ())
        return told_by(recipe, told), inputs

    return lay


def tokens_beside(inputs: dict[str, Path], monkeypatch) -> dict[str, Path]:
    """The same with 4 x 4 tokens of 19 codes, decoded as grey squares."""
    inputs = {**inputs, "clean": inputs["data"].parent / "clean"}
    inputs["clean"].mkdir()
    tokens = torch.randint(19, (1, 12, 16), generator=torch.Generator().manual_seed(0))
    clean = {"tokens": tokens, "grid": torch.tensor([4, 4]), "codes": torch.tensor(19)}
    save_file(clean, inputs["clean"] / "clean.safetensors")

    class Grey:
        def __init__(self, inputs) -> None: ...

        def floats(self, values):
            return (values.view(-1, 1, 4, 4) / 9 - 1).expand(-1, 3, -1, -1)

    monkeypatch.setattr(denoising, "Decoder", Grey)
    return inputs


def drawn(kind, training, walk, inputs: dict[str, Path], tmp_path: Path) -> torch.Tensor:
    """Train, then draw five samples."""
    kind.train(Desk(inputs["model"], training, inputs, Silence(), tmp_path / "board"))
    (tmp_path / "samples").mkdir()
    settings = denoising.Sampling(training, walk, 5, "held_out", 3, 0)
    kind.sample(Desk(tmp_path / "samples", settings, inputs, Silence(), tmp_path / "board"))
    return samples(tmp_path / "samples")


@pytest.mark.parametrize("name", [name for name in TOKENS if "vq-diffusion" in name])
def test_every_recipe_of_tokens_trains_and_draws(name: str, laid, encoders, tmp_path: Path, monkeypatch) -> None:
    kind = Kind.NONE if "ffhq" in name else Kind.CLASS if "imagenet" in name else Kind.CAPTION
    recipe = small(TOKENS[name], levels=4)
    if kind is Kind.CAPTION:
        recipe = frozen_texts.spoken_to(recipe, Conditioning(kind), name, str(encoders / "clip"))
    told, inputs = laid(recipe, kind, encoders / "clip")
    training = token_denoising.Training(recipe, told)
    walk = token_denoising.Walk(2, told.guidance(recipe.guidance), recipe.truncation)
    found = drawn(token_denoising, training, walk, tokens_beside(inputs, monkeypatch), tmp_path)
    assert found.shape == (5, 16)
    assert int(found.min()) >= 0 and int(found.max()) < 19
    assert not (inputs["model"] / "captions.safetensors").exists()
    with torch.device("meta"):
        fresh = token_denoising.network(training, 19, (4, 4))
    kept = load_file(inputs["model"] / "denoiser" / "model.safetensors")
    assert {key: value.shape for key, value in fresh.state_dict().items()} == {k: v.shape for k, v in kept.items()}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in DIFFERENT else pytest.mark.slow)
        for name in LATENTS
        if name.startswith(("ldm", "ddpm"))
    ],
)
def test_every_recipe_of_latents_trains_and_draws(name: str, laid, tmp_path: Path) -> None:
    kind = Kind.CAPTION if "text" in name else Kind.CLASS if "imagenet" in name else Kind.NONE
    recipe = small(LATENTS[name])
    told, inputs = laid(recipe, kind)
    training = latent_denoising.Training(recipe, told)
    walk = latent_denoising.Walk.of(recipe, told.guidance(recipe.guidance))
    found = drawn(latent_denoising, training, walk, inputs, tmp_path)
    assert found.shape == (5, 3, 32, 32)
    assert found.isfinite().all()
    assert (inputs["model"] / "captions.safetensors").exists() == (kind is not Kind.NONE)


@pytest.mark.parametrize("name", ["clip", "t5"])
def test_a_frozen_encoder_reads_captions_for_either_kind(name: str, laid, encoders, tmp_path: Path) -> None:
    """Oracle: transformers' own states of the words. The encoder is no part of what is trained or saved."""
    recipe = small(LATENTS["ldm-text"])
    length, width = frozen_texts.sizes(json.loads((encoders / name / "config.json").read_text()))
    captions = replace(recipe.captions, encoder=TextEncoder.FROZEN, length=length, width=width)
    recipe = replace(recipe, captions=captions)
    told, inputs = laid(recipe, Kind.CAPTION, encoders / name)
    desk = Desk(inputs["model"], None, inputs, Silence(), tmp_path)
    tokens = load_file(inputs["captions"] / "tokens.safetensors")["tokens"]
    assert tokens.shape == (24, length)
    assert torch.equal(tokens[0], texts.words(desk, told.captions)([SPOKEN])[0])
    reader = texts.encoder(desk, told.captions)
    assert list(reader.parameters()) == []
    states = reader(tokens[:2])
    assert states.shape == (2, length, width)
    transformers = pytest.importorskip("transformers")
    if name == "clip":
        peer = transformers.CLIPTextModel.from_pretrained(encoders / name)
        expected = nn.functional.normalize(peer(tokens[:2]).last_hidden_state, dim=-1)
        spelt = [
            2 + 2 * (ord(x) - ord("a")) + (i + 1 == len(word)) for word in SPOKEN.split() for i, x in enumerate(word)
        ]
        assert tokens[0].tolist() == [0, *spelt, 1] + [0] * (30 - len(spelt))
    else:
        peer = transformers.T5EncoderModel.from_pretrained(encoders / name).eval()
        count = len(SPOKEN.split())
        expected = torch.zeros_like(states)
        for i in range(2):
            kept = int((tokens[i] > 0).sum())
            expected[i, :kept] = peer(tokens[i : i + 1, :kept]).last_hidden_state[0]
        assert int((tokens[0] > 0).sum()) == count
    torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-4)
    walk = latent_denoising.Walk.of(recipe, 1.5)
    assert drawn(latent_denoising, latent_denoising.Training(recipe, told), walk, inputs, tmp_path).shape[0] == 5
    assert not (inputs["model"] / "captions.safetensors").exists()


def test_a_copy_of_the_reader_shares_the_frozen_encoder() -> None:
    inner = nn.Linear(2, 2)
    reader = texts.Frozen(inner)
    assert copy.deepcopy(reader).shared.module is inner
    assert not inner.weight.requires_grad


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "vq-difusion-b"}, "no recipe 'vq-difusion-b'.*did you mean 'vq-diffusion-b'"),
        ({"preset": "vq-diffusion-b"}, "--text-encoder: the recipe vq-diffusion-b reads captions by a frozen encoder"),
        ({"text_encoder": "/no/such/folder"}, "--text-encoder: there is no .*config.json"),
        ({"text_encoder": "nobody/nothing"}, "--text-encoder: nobody/nothing is no folder here"),
        ({"text_encoder": "clip", "condition": "none"}, "--text-encoder: there are no captions"),
        ({"text_encoder": "bert"}, "--text-encoder: its model_type is 'bert'; give CLIP or T5"),
        ({"text_encoder": "bare"}, "holds no .*safetensors"),
        ({"text_encoder": "clip", "preset": "vq-diffusion-b", "guidance": 3.0}, "trains no null condition"),
    ],
)
def test_mistakes_are_told_before_any_work(changes, message, named, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(frozen_texts, "find_spec", lambda name: name)
    folders = {
        "clip": named.write("clip", {"model_type": "clip_text_model", "hidden_size": 512}),
        "bert": named.write("bert", {"model_type": "bert", "hidden_size": 768}),
        "bare": named.write("bare", {"model_type": "clip_text_model"}),
    }
    (folders["bare"] / "model.safetensors").unlink()
    given = {"condition": "caption", "autoencoder": named("vq-f4-32"), "out": tmp_path / "out", **changes}
    if given.get("text_encoder") in folders:
        given["text_encoder"] = str(folders[given["text_encoder"]])
    assert train_discrete(DenoiserOptions(**given)) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_recipes_of_tasks_ask_for_them(capsys) -> None:
    options = DenoiserOptions(preset="ldm-inpainting", resolution=64)
    assert train_continuous(options) == 2
    assert "give --task inpainting with it" in capsys.readouterr().err


def test_help_lists_the_recipes_in_groups() -> None:
    text = recipe_names.listed("First.", recipe_names.TOKENS, recipe_names.SCALES).splitlines()
    assert text[0] == "First."
    assert text[2].endswith(":") and not text[2].startswith(" ")
    assert any(line.split()[:1] == ["improved-vq-diffusion-b"] for line in text)
    assert len(text) == 1 + sum(
        2 + len(group) for each in (recipe_names.TOKENS, recipe_names.SCALES) for group in each.values()
    )
