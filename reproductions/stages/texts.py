"""What makes states of captions: encoders that are trained with a denoiser, and frozen ones that are taken over."""

import json
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from huggingface_hub import snapshot_download
from torch import Tensor, nn

from reproductions.artefacts import Desk
from reproductions.located import Located
from reproductions.settings import Captions, TextEncoder
from reproductions.stages.captioning import BytePairs, CaptionEncoder, ClipText
from reproductions.stages.latent_presets import FrozenText, TokenEncoder

FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
TEXT, ENCODER, TOKENIZER = "text", "encoder", "tokenizer.json"
Words = Callable[[Sequence[str]], Tensor]


@dataclass(frozen=True)
class TakenOver:
    """Where a frozen encoder is: a folder, known by what it holds, or a commit of a repository of the hub."""

    folder: Located | None
    repository: str | None = None
    commit: str | None = None

    @property
    def name(self) -> str:
        """What people call it: the name of its folder, or of its repository."""
        return self.folder.path.name if self.folder is not None else str(self.repository).rpartition("/")[2]


def take_over(desk: Desk) -> None:
    """Copy a frozen encoder with its tokenizer into the run: `encoder/`.

    Raises:
        ValueError: where none was given.
    """
    source: TakenOver = desk.settings
    if source == TakenOver(None):
        raise ValueError("--text-encoder: give the folder or the hub id of the frozen encoder that reads captions")
    folder = desk.folder / ENCODER
    folder.mkdir(exist_ok=True)
    if source.folder is None:
        snapshot_download(str(source.repository), revision=source.commit, allow_patterns=list(FILES), local_dir=folder)
        return
    for file in sorted({file for pattern in FILES for file in source.folder.path.glob(pattern)}):
        shutil.copyfile(file, folder / file.name)


class Shared:
    """Holds a module apart from the one that has it: it is neither trained, averaged nor saved, and copies share it."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module.eval().requires_grad_(False)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Shared":
        return self


class Frozen(nn.Module):
    """Tokens (b, l) to states (b, l, d) by an encoder that was trained elsewhere; it has no parameters of its own."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.shared = Shared(encoder)

    @torch.no_grad()
    def forward(self, tokens: Tensor) -> Tensor:
        states: Tensor = self.shared.module.to(tokens.device)(tokens)
        return states


class WordsAlone(nn.Module):
    """T5's states of tokens (b, l); padding, 0, is not attended to, and its states are 0."""

    def __init__(self, text: FrozenText) -> None:
        super().__init__()
        self.text = text

    def forward(self, tokens: Tensor) -> Tensor:
        kept = tokens != 0
        states: Tensor = self.text.encoder(tokens, attention_mask=kept.long()).last_hidden_state
        return states * kept[..., None].to(states.dtype)


def encoder(desk: Desk, captions: Captions) -> nn.Module:
    """The encoder of captions: fresh where it is trained with the denoiser, otherwise the one taken over."""
    if captions.encoder is TextEncoder.FROZEN:
        text = _taken_over(desk, captions)
        return Frozen(text if isinstance(text, ClipText) else WordsAlone(text))
    words = BytePairs.load(desk.inputs["captions"] / TOKENIZER)
    sizes = {"width": captions.width, "depth": captions.depth, "heads": captions.heads}
    if captions.encoder is TextEncoder.LDM:
        return TokenEncoder(vocabulary=words.size, length=words.length, **sizes)
    return CaptionEncoder(vocabulary=words.size, length=words.length, **sizes)


def words(desk: Desk, captions: Captions | None) -> Words:
    """Captions to tokens (b, l): those of a frozen encoder, or the byte pairs that were learnt."""
    if captions is None or captions.encoder is not TextEncoder.FROZEN:
        return BytePairs.load(desk.inputs["captions"] / TOKENIZER)
    text = _taken_over(desk, captions)
    return text.tokens if isinstance(text, ClipText) else text.words


def _taken_over(desk: Desk, captions: Captions) -> ClipText | FrozenText:
    folder = desk.inputs[TEXT] / ENCODER
    if kind_of(json.loads((folder / "config.json").read_text())) == "clip":
        return ClipText.from_pretrained(folder, local_files_only=True)
    return FrozenText.t5(folder, length=captions.length)


def kind_of(config: dict[str, Any], option: str = "--text-encoder") -> str:
    """ "clip" or "t5", by a model's configuration; option: which one gave it.

    Raises:
        ValueError: for any other.
    """
    named = str(config.get("model_type", "nothing"))
    for kind in ("clip", "t5"):
        if named in (kind, f"{kind}_text_model"):
            return kind
    raise ValueError(f"{option}: its model_type is {named!r}; give CLIP or T5")


@dataclass(frozen=True)
class Read:
    """Tokens (m, l) of captions, and how many of these were cut."""

    tokens: Tensor
    cut: int


def read(captions: Sequence[str], words: Words) -> Read:
    """Captions to tokens, without a word about those that are cut."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        tokens = words(captions)
    return Read(tokens, sum(" is cut to " in str(each.message) for each in caught))
