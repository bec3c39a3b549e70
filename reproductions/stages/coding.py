"""Pictures to what a denoiser draws, and back: tokens or latents of an autoencoder trained before, or the pixels."""

import inspect
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from reproductions.artefacts import Desk
from reproductions.gathering.rows import is_whole, near, taken
from reproductions.gathering.splits import TRAIN, pictures
from reproductions.located import Located
from reproductions.stages.autoencoding import (
    PRESETS,
    Autoencoder,
    KLAutoencoder,
    TokenAutoencoder,
    grid_of,
    posterior,
    through,
    to_signed,
    tokens_of,
)
from reproductions.stages.codes import CLEAN, standardise, write_codes
from reproductions.text_to_image import device, samples

RAW = "raw.safetensors"
WEIGHTS = ("config.json", "model.safetensors")


@dataclass(frozen=True)
class Borrowed:
    """The folder of an autoencoder that was trained before."""

    folder: Located


@dataclass(frozen=True)
class Coder:
    """What is known of an autoencoder before any work; codes: 0 where it has none, width: of a code or a latent."""

    factor: int
    codes: int
    width: int


def kind_of(folder: Path) -> type[Autoencoder]:
    """The class whose `save_pretrained` wrote this folder: the one whose arguments its configuration has.

    Raises:
        ValueError: where the folder is none of an autoencoder.
    """
    missing = [name for name in WEIGHTS if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"--autoencoder: {folder} holds no {' and no '.join(missing)}; give a folder `autoencoder` that "
            "`conprediff train autoencoder` wrote"
        )
    config = json.loads((folder / "config.json").read_text())
    for kind in dict.fromkeys(preset.kind for preset in PRESETS.values()):
        named = {p.name for p in inspect.signature(kind).parameters.values() if p.kind is p.KEYWORD_ONLY}
        if named <= config.keys():
            return kind
    raise ValueError(f"--autoencoder: {folder}/config.json is that of no autoencoder; it has {', '.join(config)}")


def coder_at(folder: Path, resolution: int, *, tokens: bool) -> Coder:
    """What the autoencoder in a folder makes of pictures of a resolution.

    Raises:
        ValueError: where it is none, has no tokens where they are asked for, or its factor does not divide the side.
    """
    kind = kind_of(folder)
    with torch.device("meta"):
        autoencoder = kind(**json.loads((folder / "config.json").read_text()))
    if tokens and not isinstance(autoencoder, TokenAutoencoder):
        raise ValueError(f"--autoencoder: {folder} holds a {kind.__name__}, which has no tokens; give one that has")
    if resolution % autoencoder.factor:
        raise ValueError(
            f"--resolution: {resolution} pixels are no multiple of {autoencoder.factor}, the factor of the "
            f"{kind.__name__} in {folder}"
        )
    if isinstance(autoencoder, TokenAutoencoder):
        return Coder(autoencoder.factor, autoencoder.quantizer.size, autoencoder.quantizer.width)
    return Coder(autoencoder.factor, 0, len(autoencoder.latent_scale))


def borrow(desk: Desk) -> None:
    """Copy an autoencoder into the run: `autoencoder/`."""
    borrowed: Borrowed = desk.settings
    (desk.folder / "autoencoder").mkdir(exist_ok=True)
    for name in WEIGHTS:
        shutil.copyfile(borrowed.folder.path / name, desk.folder / "autoencoder" / name)


def load_autoencoder(folder: Path) -> Autoencoder:
    """The autoencoder of a stage, ready to code."""
    loaded: Autoencoder = kind_of(folder / "autoencoder").from_pretrained(folder / "autoencoder")
    return loaded.to(device()).eval()


@dataclass(frozen=True)
class Encoding:
    """flip: whether mirrored pictures are encoded too."""

    flip: bool = False


def encode_tokens(desk: Desk) -> None:
    """Tokens of the training pictures: `clean.safetensors` with `tokens (v, N, n)`, `grid (2)` and `codes ()`.

    v is 2 where mirrored pictures are encoded too, otherwise 1.
    """
    autoencoder = load_autoencoder(desk.inputs["autoencoder"])
    assert isinstance(autoencoder, TokenAutoencoder)
    whole = {"grid": grid_of(autoencoder, desk), "codes": torch.tensor(autoencoder.quantizer.size)}
    path = desk.folder / CLEAN
    write_codes(desk, lambda images: tokens_of(autoencoder, images), path, whole, views=_views(desk))


def encode_latents(desk: Desk) -> None:
    """Latents of the training pictures, standardised: `clean.safetensors` with `mean`, `deviation` (v, N, c, h, w).

    Those of an autoencoder with tokens are taken before quantisation, and have no deviation; `shift`, `scale` (c,)
    bring them to mean 0 and standard deviation 1, once all of them are there.
    """
    autoencoder = load_autoencoder(desk.inputs["autoencoder"])
    clean, raw, views = desk.folder / CLEAN, desk.folder / RAW, _views(desk)
    if isinstance(autoencoder, KLAutoencoder):
        width = len(autoencoder.latent_scale)
        whole = {"shift": torch.zeros(width), "scale": torch.ones(width)}
        write_codes(desk, lambda images: posterior(autoencoder, images), clean, whole, views=views)
        return
    if not is_whole(clean):
        write_codes(desk, lambda images: {"mean": autoencoder.latents(to_signed(images))}, raw, views=views)
        standardise(raw, clean)
    raw.unlink(missing_ok=True)


def _views(desk: Desk) -> int:
    encoding: Encoding = desk.settings
    return 2 if encoding.flip else 1


class Clean(Protocol):
    """The training set as a denoiser sees it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""

    def __len__(self) -> int: ...

    def draw(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """The examples at these indices, mirrored or not by chance, latents drawn from their posteriors."""


class Tokens:
    """Tokens (n,) below `codes`, over `grid`."""

    def __init__(self, folder: Path, where: torch.device) -> None:
        loaded = load_file(folder / CLEAN)
        self.tokens = near(loaded["tokens"], where)
        self.grid: tuple[int, int] = tuple(loaded["grid"].tolist())
        self.codes = int(loaded["codes"])
        self.shape = (self.tokens.shape[2],)

    def __len__(self) -> int:
        return self.tokens.shape[1]

    def draw(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        return taken(self.tokens, sides(len(self.tokens), indices, generator), indices)


class Latents:
    """Latents (c, h, w)."""

    def __init__(self, folder: Path, where: torch.device) -> None:
        loaded = load_file(folder / CLEAN)
        self.mean, self.deviation = near(loaded["mean"], where), near(loaded["deviation"], where)
        self.shape = tuple(self.mean.shape[2:])

    def __len__(self) -> int:
        return self.mean.shape[1]

    @property
    def views(self) -> int:
        """2 where there are mirrored ones too, otherwise 1."""
        return len(self.mean)

    def draw(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        return self.seen(sides(self.views, indices, generator), indices, generator)

    def seen(self, view: Tensor, indices: Tensor, generator: torch.Generator) -> Tensor:
        """The examples at these indices; where view (b,) is 1, mirrored."""
        mean, deviation = taken(self.mean, view, indices), taken(self.deviation, view, indices)
        return mean + deviation * torch.randn(mean.shape, generator=generator, device=generator.device)


class Pixels:
    """Pictures (3, H, W) in [-1, 1]."""

    def __init__(self, folder: Path, where: torch.device, *, flip: bool) -> None:
        self.images = near(pictures(folder / TRAIN), where)
        self.flip = flip
        self.shape = tuple(self.images.shape[1:])

    def __len__(self) -> int:
        return len(self.images)

    @property
    def views(self) -> int:
        """2 where there are mirrored ones too, otherwise 1."""
        return 2 if self.flip else 1

    def draw(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        if not self.flip:
            return to_signed(taken(self.images, indices))
        return self.seen(sides(self.views, indices, generator), indices, generator)

    def seen(self, view: Tensor, indices: Tensor, generator: torch.Generator) -> Tensor:
        """The examples at these indices; where view (b,) is 1, mirrored."""
        return to_signed(seen(taken(self.images, indices), view))


def seen(images: Tensor, view: Tensor) -> Tensor:
    """Images (b, 3, H, W), those mirrored whose view (b,) is 1."""
    return torch.where(view.bool()[:, None, None, None], images.flip(-1), images)


def sides(views: int, indices: Tensor, generator: torch.Generator) -> Tensor:
    """A view for each of these indices, by chance."""
    return torch.randint(views, (len(indices),), generator=generator, device=generator.device)


class Decoder:
    """Samples to pictures, and back: tokens or latents through the autoencoder of input "autoencoder", or pixels."""

    def __init__(self, inputs: Mapping[str, Path]) -> None:
        self.autoencoder = load_autoencoder(inputs["autoencoder"]) if "autoencoder" in inputs else None
        self.clean = load_file(inputs["clean"] / CLEAN) if "clean" in inputs else {}

    def floats(self, values: Tensor) -> Tensor:
        """Pictures in [-1, 1], not clipped."""
        if self.autoencoder is None:
            return values
        if "tokens" in self.clean:
            return self.autoencoder.decode(values.unflatten(1, tuple(self.clean["grid"].tolist())))
        scale, shift = (self.clean[name].to(values.device)[:, None, None] for name in ("scale", "shift"))
        latents = values / scale + shift
        if isinstance(self.autoencoder, TokenAutoencoder):
            return self.autoencoder.decode_latents(latents)
        return self.autoencoder.decode(latents)

    def encode(self, images: Tensor) -> Tensor:
        """What a denoiser draws for pictures in [-1, 1]; of latents the most probable."""
        if self.autoencoder is None:
            return images
        if "tokens" in self.clean:
            assert isinstance(self.autoencoder, TokenAutoencoder)
            return self.autoencoder.encode(images).indices.flatten(1)
        if isinstance(self.autoencoder, TokenAutoencoder):
            scale, shift = (self.clean[name].to(images.device)[:, None, None] for name in ("scale", "shift"))
            return (self.autoencoder.latents(images) - shift) * scale
        return self.autoencoder.encode(images, sample=False).values

    def __call__(self, values: Tensor, desk: Desk) -> Tensor:
        """uint8 pictures of samples, part by part."""
        return through(values, self.floats, desk)


def decode(desk: Desk) -> None:
    """Pictures of the input "samples": `images.safetensors`."""
    save_file(
        {"images": Decoder(desk.inputs)(samples(desk.inputs["samples"]), desk)}, desk.folder / "images.safetensors"
    )


@dataclass(frozen=True)
class Rebuilding:
    """How many training pictures to code and decode."""

    number: int


def rebuild(desk: Desk) -> None:
    """The first training pictures as their codes show them, which no sample can surpass: `images.safetensors`."""
    rebuilding: Rebuilding = desk.settings
    clean = load_file(desk.inputs["clean"] / CLEAN)
    values = (clean["tokens"] if "tokens" in clean else clean["mean"])[0, : rebuilding.number]
    save_file({"images": Decoder(desk.inputs)(values, desk)}, desk.folder / "images.safetensors")
