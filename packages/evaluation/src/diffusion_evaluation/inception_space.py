"""The Inception feature space: three published ways to take images, and where the weights may be."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from .features import FeatureSpace, module_space
from .inception import Inception
from .resize import resize, resize_like_pytorch, resize_like_tensorflow

SIDE = 299
WEIGHTS_URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)
WEIGHTS_NAMES = ("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth")
WEIGHTS_VARIABLE = "DIFFUSION_EVALUATION_INCEPTION"


class MissingWeights(FileNotFoundError):
    """There are no weights for a feature space; the message says which file is wanted, and what works without it."""


@dataclass(frozen=True)
class Preparation:
    """How uint8 images become what the network takes: resized to 299 x 299, then (x - centre) / scale."""

    name: str
    resize: Callable[[Tensor, int, int], Tensor]
    centre: float
    scale: float

    def __call__(self, images: Tensor) -> Tensor:
        """Float32 `(b, 3, 299, 299)` from uint8 `(b, 3, H, W)`."""
        return (self.resize(images, SIDE, SIDE) - self.centre) / self.scale


CLEAN = Preparation("clean", resize, 128.0, 128.0)
LEGACY_TENSORFLOW = Preparation("legacy_tensorflow", resize_like_tensorflow, 128.0, 128.0)
LEGACY_PYTORCH = Preparation("legacy_pytorch", resize_like_pytorch, 127.5, 127.5)


def inception_space(
    weights: Mapping[str, Tensor] | str | os.PathLike[str] | None = None, *, preparation: Preparation = CLEAN
) -> FeatureSpace:
    """The space `inception-<preparation>` of the Frechet inception distance: `(b, 2048)` of uint8 images of any size.

    `weights` is a state dict, or a file of it (.pth or .safetensors), or None: then they are looked for, and
    downloaded where they are not found, by `inception_weights`. Raises MissingWeights where there are none.

    Source: TTUR Frechet inception distance
    """
    given = weights if isinstance(weights, Mapping) else inception_weights(weights)
    network = Inception.from_weights(given)
    return module_space(f"inception-{preparation.name}", network, version="2015-12-05", prepare=preparation)


def inception_weights(path: str | os.PathLike[str] | None = None) -> dict[str, Tensor]:
    """The state dict in `path`, or where `DIFFUSION_EVALUATION_INCEPTION` points, or in torch's hub folder, or fetched.

    The hub folder is where torch-fidelity and pytorch-fid keep theirs. Raises MissingWeights, which names all these
    places, where there is no such file and it cannot be fetched; ValueError where a file is not a state dict.
    """
    hub = Path(torch.hub.get_dir()) / "checkpoints"
    named = path if path is not None else os.environ.get(WEIGHTS_VARIABLE)
    places = [Path(named).expanduser()] if named is not None else [hub / name for name in WEIGHTS_NAMES]
    found = next((place for place in places if place.is_file()), None)
    if found is not None:
        return read_state_dict(found)
    reason = "no such file"
    if named is None:
        try:
            fetched: dict[str, Tensor] = torch.hub.load_state_dict_from_url(
                WEIGHTS_URL, map_location="cpu", progress=False, check_hash=True, weights_only=True
            )
            return fetched
        except (OSError, RuntimeError) as error:
            reason = f"not there, and fetching it failed: {error}"
    raise MissingWeights(
        f"the Inception weights are {' or '.join(map(str, places))}: {reason}. Wanted is {WEIGHTS_NAMES[0]} "
        f"({WEIGHTS_URL}) or pytorch-fid's {WEIGHTS_NAMES[1]}: put either into {hub}, or give its path, or set "
        f"{WEIGHTS_VARIABLE} to it. Without it: every score in another feature space (module_space, pixel_space), "
        "sliced_wasserstein, psnr and ssim"
    )


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a .pth file without unpickling; ValueError names any other file."""
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path} is not a file of weights (.safetensors, or tensors alone in .pth): {error}"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} is not a state dict, a mapping of names to tensors")
    return state
