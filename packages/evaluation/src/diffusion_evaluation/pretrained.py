"""Feature spaces of other libraries' networks: CLIP, DINOv2, and every extractor of torch-fidelity."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .features import FeatureSpace, module_space
from .inception_space import MissingWeights
from .resize import resize_bytes

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Centred:
    """Short side to `short` (bicubic, antialiased, 8 bits), central `side` x `side`, then (x / 255 - mean) / std."""

    short: int
    side: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, images: Tensor) -> Tensor:
        """Float32 `(b, 3, side, side)` of uint8 `(b, 3, H, W)`."""
        height, width = images.shape[-2:]
        short = min(height, width)
        tall, wide = (int(self.short * length / short) for length in (height, width))
        top, left = round((tall - self.side) / 2), round((wide - self.side) / 2)
        resized = resize_bytes(images, tall, wide)[..., top : top + self.side, left : left + self.side]
        return _standardised(resized, self.mean, self.std)


@dataclass(frozen=True)
class Squared:
    """The whole image to `side` x `side` (bicubic, antialiased, 8 bits), then (x / 255 - mean) / std."""

    side: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, images: Tensor) -> Tensor:
        """Float32 `(b, 3, side, side)` of uint8 `(b, 3, H, W)`."""
        return _standardised(resize_bytes(images, self.side, self.side), self.mean, self.std)


class Output(nn.Module):
    """One named output of a module whose calls give several: an attribute, or a place in a tuple."""

    def __init__(self, module: nn.Module, name: str | int) -> None:
        super().__init__()
        self.module = module
        self.name = name

    def forward(self, images: Tensor) -> Tensor:
        """That output."""
        outputs = self.module(images)
        chosen: Tensor = outputs[self.name] if isinstance(self.name, int) else getattr(outputs, self.name)
        return chosen


class Method(nn.Module):
    """A module whose call is a method of another."""

    def __init__(self, module: nn.Module, name: str) -> None:
        super().__init__()
        self.module = module
        self.name = name

    def forward(self, images: Tensor) -> Tensor:
        """What the method gives."""
        value: Tensor = getattr(self.module, self.name)(images)
        return value


def clip_space(
    checkpoint: str | os.PathLike[str] = "openai/clip-vit-large-patch14-336", *, name: str | None = None
) -> FeatureSpace:
    """CLIP image embeddings `(b, d)` by transformers, called `clip-<name>`: for CMMD and CLIP scores.

    `checkpoint` is a folder or a hub id; the default is CMMD's. `name` is its last part unless given. The images'
    short side is brought to the network's, and the centre cut. Raises ModuleNotFoundError without transformers,
    MissingWeights without the checkpoint.
    """
    model = _load("CLIPVisionModelWithProjection", checkpoint)
    config: Any = model.config
    side = int(config.image_size)
    prepare = Centred(side, side, CLIP_MEAN, CLIP_STD)
    called = _label(checkpoint) if name is None else name
    return module_space(f"clip-{called}", Output(model, "image_embeds"), prepare=prepare)


def clip_texts(checkpoint: str | os.PathLike[str]) -> Callable[[Sequence[str]], Tensor]:
    """CLIP embeddings `(b, d)` of captions, by the text half of the model whose image half `clip_space` takes.

    Captions longer than the model reads are cut. Raises what `clip_space` raises.

    Source: CLIPScore definition
    """
    model = _load("CLIPTextModelWithProjection", checkpoint)
    tokenizer: Any = _fetched("CLIPTokenizerFast", checkpoint)
    config: Any = model.config

    def embed(captions: Sequence[str]) -> Tensor:
        cut = {"truncation": True, "max_length": config.max_position_embeddings}
        words = tokenizer(list(captions), padding=True, return_tensors="pt", **cut)
        where = next(model.parameters()).device
        with torch.inference_mode():
            embeddings: Tensor = model(**words.to(where)).text_embeds
        return embeddings

    return embed


def dinov2_space(checkpoint: str | os.PathLike[str] = "facebook/dinov2-large", *, side: int = 224) -> FeatureSpace:
    """DINOv2's normalised class token `(b, d)` by transformers, named `dinov2-<checkpoint>`: for FD-DINOv2.

    `checkpoint` is a folder or a hub id; the default is the published ViT-L/14. Images are squared to `side`. Raises
    ModuleNotFoundError without transformers, MissingWeights without the checkpoint.
    """
    model = _load("Dinov2Model", checkpoint)
    prepare = Squared(side, IMAGENET_MEAN, IMAGENET_STD)
    return module_space(f"dinov2-{_label(checkpoint)}", Output(model, "pooler_output"), prepare=prepare)


def open_clip_space(model: nn.Module, name: str) -> FeatureSpace:
    """The image embeddings `(b, d)` of a model of open-clip, such as `open_clip.create_model` makes, under a name."""
    visual: Any = model.visual
    size = visual.image_size
    side = int(size[0] if isinstance(size, Sequence) else size)
    mean, std = (getattr(visual, what, None) for what in ("image_mean", "image_std"))
    prepare = Centred(side, side, tuple(mean or CLIP_MEAN), tuple(std or CLIP_STD))
    return module_space(f"open-clip-{name}", Method(model, "encode_image"), prepare=prepare)


def torch_fidelity_space(extractor: nn.Module) -> FeatureSpace:
    """The space of one of torch-fidelity's extractors, with one feature: `<extractor>-<feature>`.

    `FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])` and its others take uint8 images and resize them by
    themselves. It comes with `diffusion-evaluation[inception]`. Raises ValueError when several features are asked for.
    """
    features = list(getattr(extractor, "features_list", ()))
    if len(features) != 1:
        raise ValueError(f"torch_fidelity_space: an extractor with one feature is wanted, this one has {features}")
    name = getattr(extractor, "name", type(extractor).__name__)
    return module_space(f"{name}-{features[0]}", Output(extractor, 0), prepare=_unchanged)


def _unchanged(images: Tensor) -> Tensor:
    return images


def _standardised(images: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]) -> Tensor:
    centre, scale = (torch.tensor(value, device=images.device).view(3, 1, 1) for value in (mean, std))
    return (images.float() / 255 - centre) / scale


def _label(checkpoint: str | os.PathLike[str]) -> str:
    return Path(os.fspath(checkpoint)).name


def _load(model: str, checkpoint: str | os.PathLike[str]) -> nn.Module:
    loaded = _fetched(model, checkpoint)
    assert isinstance(loaded, nn.Module)
    return loaded.eval()


def _fetched(model: str, checkpoint: str | os.PathLike[str]) -> object:
    try:
        transformers = importlib.import_module("transformers")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "this feature space needs transformers: pip install 'diffusion-evaluation[embeddings]'. Without it: "
            "module_space of any network, open_clip_space, inception_space, pixel_space"
        ) from error
    try:
        loaded: object = getattr(transformers, model).from_pretrained(os.fspath(checkpoint))
    except (OSError, ValueError) as error:
        raise MissingWeights(
            f"no {model} is at {os.fspath(checkpoint)!r}, nor could it be fetched: {error}. Wanted is a folder with "
            "config.json and model.safetensors, or the id of one on the hub and a network. Without it: every score in "
            "another feature space (module_space, pixel_space), sliced_wasserstein, psnr and ssim"
        ) from error
    return loaded
