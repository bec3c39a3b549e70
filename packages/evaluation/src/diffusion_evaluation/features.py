"""Feature spaces: what turns uint8 images into rows of numbers, and the identity that scores made there carry."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ._types import Features, FloatImages, Images


@dataclass(frozen=True)
class Space:
    """The identity of a feature space: its name, its version, and the sha256 of the weights behind it."""

    name: str
    version: str = "1"
    sha256: str = ""


UNNAMED = Space("unnamed")


@dataclass(frozen=True)
class FeatureSpace:
    """A named map from uint8 images `(b, 3, H, W)` to float features `(b, d)`.

    Calling it checks the images and the features. `identity` travels with statistics, stores and scores, so that
    numbers from different spaces are never compared by accident.
    """

    name: str
    extract: Callable[[Tensor], Tensor] = field(compare=False, repr=False)
    version: str = "1"
    sha256: str = ""

    @property
    def identity(self) -> Space:
        """Name, version and sha256, without the map itself."""
        return Space(self.name, self.version, self.sha256)

    def __call__(self, images: Images) -> Features:
        """The features `(b, d)` of uint8 images `(b, 3, H, W)`; TypeError or ValueError when either is malformed."""
        require_uint8_images(images, "images")
        features = self.extract(images)
        if features.ndim != 2 or len(features) != len(images) or not features.is_floating_point():
            raise ValueError(
                f"feature space {self.name!r}: extract must return float features ({len(images)}, d), "
                f"got {features.dtype} {tuple(features.shape)}"
            )
        return features


def to_signed_range(images: Images) -> FloatImages:
    """Float32 images in [-1, 1] from uint8 ones: 0 becomes -1 and 255 becomes 1."""
    return images.float() / 127.5 - 1


def module_space(
    name: str,
    module: nn.Module,
    *,
    version: str = "1",
    prepare: Callable[[Tensor], Tensor] = to_signed_range,
) -> FeatureSpace:
    """The feature space of any module that maps prepared images to `(b, d)`, known by the sha256 of its weights.

    `prepare` turns uint8 images into what the module takes (default: float in [-1, 1]). The module is put in
    evaluation mode for the call and runs without gradients, on its own device.
    """
    sha256 = weights_sha256(module)

    def extract(images: Tensor) -> Tensor:
        device = next((weight.device for weight in module.parameters()), images.device)
        was_training = module.training
        module.eval()
        with torch.no_grad():
            features: Tensor = module(prepare(images.to(device)))
        module.train(was_training)
        return features

    return FeatureSpace(name, extract, version, sha256)


def pixel_space(side: int = 8) -> FeatureSpace:
    """Pixels averaged down to `side` x `side`, in [-1, 1]: a space that needs no network and claims no more.

    The images' sides must be multiples of `side`.
    """

    def extract(images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if height % side or width % side:
            raise ValueError(f"pixel space of side {side}: images of {height}x{width} are not multiples of it")
        shrunk = nn.functional.avg_pool2d(to_signed_range(images), (height // side, width // side))
        return shrunk.flatten(1)

    return FeatureSpace(f"pixels-{side}", extract)


def weights_sha256(module: nn.Module) -> str:
    """The sha256 over names, types, shapes and bytes of everything in the module's state, in order of name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def require_uint8_images(images: Tensor, argument: str) -> None:
    """Raise TypeError or ValueError, naming the argument, unless it is uint8 `(b, 3, H, W)`."""
    if images.dtype != torch.uint8:
        raise TypeError(
            f"{argument}: images are uint8 (b, 3, H, W), got {images.dtype}. "
            "From floats in [-1, 1]: ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)"
        )
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"{argument}: images are (b, 3, H, W), got {tuple(images.shape)}")
