"""Frozen text encoders in a plan: which one is meant, how wide its states are, and what reads captions for it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from reproductions.artefacts import Stage
from reproductions.conditioning import Conditioning, Kind
from reproductions.gathering.sources import looks_local
from reproductions.located import Located
from reproductions.settings import Captions, Denoiser, TextEncoder
from reproductions.stages import preparing, texts

Recipe = TypeVar("Recipe", bound=Denoiser)
T5_LENGTH = 128
EXAMPLE = "openai/clip-vit-base-patch32"


def spoken_to(recipe: Recipe, told: Conditioning, name: str, source: str | None) -> Recipe:
    """A recipe whose captions are read by the encoder that is meant: the recipe's own, or the one at `source`.

    Raises:
        ValueError: where the recipe reads a frozen one and none is given, or one is given and there are no captions.
    """
    if told.kind is not Kind.CAPTION:
        if source is not None:
            raise ValueError("--text-encoder: there are no captions to be read; give --condition caption with it")
        return recipe
    if source is not None:
        length, width = sizes(configuration(source))
        captions = replace(recipe.captions, encoder=TextEncoder.FROZEN, length=length, width=width)
        return replace(recipe, captions=captions, network=_with_nulls(recipe.network, length))
    if recipe.captions.encoder is TextEncoder.FROZEN:
        raise ValueError(
            f"--text-encoder: the recipe {name} reads captions by a frozen encoder; give the folder or the hub id of "
            f"CLIP's, such as {EXAMPLE}"
        )
    return recipe


def _with_nulls(network: Mapping[str, Any], length: int) -> Mapping[str, Any]:
    """As many null states as a caption has, where the recipe has some for each place."""
    return {**network, "null_length": length} if network.get("null_length", 0) > 1 else network


def caption_stages(source: Stage, captions: Captions | None, encoder: str | None) -> dict[str, Stage]:
    """The stages that a denoiser under captions reads: their tokens, and a frozen encoder where there is one.

    Without an `encoder` where one is wanted, what comes of it can be planned and not run.
    """
    if captions is None:
        return {}
    inputs = {"data": source}
    if captions.encoder is not TextEncoder.FROZEN:
        return {"captions": Stage("captions", preparing.tokenise, captions, inputs)}
    taken = texts.TakenOver(None) if encoder is None else taken_over(encoder)
    text = Stage("text encoder", texts.take_over, taken)
    return {texts.TEXT: text, "captions": Stage("captions", preparing.tokenise, captions, {**inputs, texts.TEXT: text})}


def whole_clip(source: str) -> texts.TakenOver:
    """What is known of a CLIP of images and texts before any work.

    Raises:
        ValueError: where there is none, or it cannot be loaded here.
    """
    taken, named = taken_over(source, "--clip"), configuration(source, "--clip").get("model_type")
    if named != "clip":
        raise ValueError(f"--clip: the model_type of {source} is {named!r}; give a CLIP of images and texts")
    return taken


def taken_over(source: str, option: str = "--text-encoder") -> texts.TakenOver:
    """What is known of an encoder before any work; option: which one gave it.

    Raises:
        ValueError: where there is none, or it cannot be loaded here.
    """
    if find_spec("transformers") is None:
        raise ValueError(f"{option}: reading it needs the library transformers; install that first")
    config = _config_file(source, option)
    texts.kind_of(json.loads(config.read_text()), option)
    local = looks_local(source)
    if not any(name.endswith(".safetensors") for name in _files_of(source, config.parent)):
        raise ValueError(f"{option}: {source} holds no *.safetensors; give one that has its weights")
    return texts.TakenOver(Located(config.parent)) if local else texts.TakenOver(None, source, config.parent.name)


def _files_of(source: str, folder: Path) -> list[str]:
    """Names of an encoder's files: in its folder, or in the hub's repository at the commit that `folder` copies."""
    if not looks_local(source):
        from huggingface_hub import HfApi

        try:
            return HfApi().list_repo_files(source, revision=folder.name)
        except Exception:  # without a network, of whatever kind: only what was fetched before can be had
            pass
    return [file.name for file in folder.iterdir()]


def configuration(source: str, option: str = "--text-encoder") -> dict[str, Any]:
    """The configuration of an encoder in a folder or a repository of the hub."""
    found: dict[str, Any] = json.loads(_config_file(source, option).read_text())
    return found


def sizes(config: Mapping[str, Any]) -> tuple[int, int]:
    """Tokens of a caption, and width of its states.

    Unstated: the length of captions for T5; 128, as in Imagen.
    """
    if texts.kind_of(dict(config)) == "t5":
        return T5_LENGTH, int(config["d_model"])
    text = {**config, **(config.get("text_config") or {})}
    return int(text.get("max_position_embeddings", 77)), int(text.get("hidden_size", 512))


def _config_file(source: str, option: str) -> Path:
    if looks_local(source):
        file = Path(source).expanduser() / "config.json"
        if not file.is_file():
            raise ValueError(f"{option}: there is no {file}; give a folder that transformers wrote, or a hub id")
        return file
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(source, "config.json"))
    except (HfHubHTTPError, LocalEntryNotFoundError, ValueError) as error:
        raise ValueError(
            f"{option}: {source} is no folder here, and the hub does not give it ({type(error).__name__}); give "
            "a folder with config.json, model.safetensors and the tokenizer's files"
        ) from error
