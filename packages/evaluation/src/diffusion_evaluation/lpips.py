"""LPIPS: the distance between two images as a network of the visual world sees them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from ._types import FakeImages, FirstImages, PerImage, PerTap, RealImages, SecondImages
from .features import Space, require_uint8_images, to_signed_range, weights_sha256
from .lpips_trunks import Trunk
from .score import Score, mean_score

VERSION = "0.1"
_EPSILON = 1e-10
_IMAGES_AT_ONCE = 32
_NAMES = (
    (re.compile(r"(?:net\.slice\d+|features)\.(\d+\..+)"), "features."),
    (re.compile(r"lins?\.?(\d+)\.model\.1\.(weight)"), "heads."),
    (re.compile(r"scaling_layer\.(shift|scale)"), ""),
)
_UNUSED = re.compile(r"classifier\..+")


class LPIPS(nn.Module):
    r"""The learned perceptual distance $\sum_l \frac{1}{h_l w_l} \sum_{ij} w_l^T (\hat f_l(x) - \hat f_l(y))_{ij}^2$.

    $\hat f_l$ are the features of layer l of a trunk (`ALEX`, `VGG`, `SQUEEZE`) scaled to length 1 over channels, and
    $w_l \ge 0$ a weight for each channel. It takes float images in [-1, 1], on its own device and with gradients, and
    is made of published weights by `lpips_from_state_dicts`; built directly, its weights are random and its distances
    mean nothing. Version 0.1 (version 0.0, which does not standardise its inputs, is another distance).

    Source: LPIPS distance
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk
        self.features = trunk.build()
        self.heads = nn.ModuleList([nn.Conv2d(width, 1, 1, bias=False) for width in trunk.widths])
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))

    def forward(self, first: FirstImages, second: SecondImages) -> PerImage:
        """The distance `(b,)` between images `(b, 3, H, W)` in [-1, 1], pair by pair."""
        return self.terms(first, second).sum(dim=1)

    def terms(self, first: FirstImages, second: SecondImages) -> PerTap:
        """The layers' parts of the distance: `(b, layers)`; ValueError when shapes differ or sides are too short."""
        if first.shape != second.shape or first.shape[1] != 3:
            raise ValueError(f"pairs are (b, 3, H, W) twice, got {tuple(first.shape)} and {tuple(second.shape)}")
        if min(first.shape[-2:]) < self.trunk.smallest:
            raise ValueError(
                f"LPIPS[{self.trunk.name}] needs sides of {self.trunk.smallest} pixels at least, got "
                f"{tuple(first.shape[-2:])}: enlarge both images, and say so beside the score"
            )
        x, y = ((images - self.shift) / self.scale for images in (first, second))
        found: list[Tensor] = []
        for index, layer in enumerate(self.features):
            x, y = layer(x), layer(y)
            if index in self.trunk.taps:
                difference = (_directions(x) - _directions(y)).square()
                found.append(self.heads[len(found)](difference).mean(dim=(1, 2, 3)))
        return torch.stack(found, dim=1)

    def score(self, real: RealImages, fake: FakeImages, *, level: float = 0.95) -> Score:
        """The mean over pairs of uint8 images `(b, 3, H, W)`: `LPIPS[<trunk>]`, with the normal interval of a mean.

        Its space carries the sha256 of the weights.
        """
        require_uint8_images(real, "real")
        require_uint8_images(fake, "fake")
        if len(real) != len(fake):
            raise ValueError(f"pairs need equal counts, got {len(real)} real and {len(fake)} fake images")
        pairs = zip(torch.split(real, _IMAGES_AT_ONCE), torch.split(fake, _IMAGES_AT_ONCE), strict=True)
        with torch.no_grad():
            distances = [self(*(to_signed_range(side.to(self.shift.device)) for side in pair)) for pair in pairs]
        mean = mean_score(torch.cat(distances), f"LPIPS[{self.trunk.name}]", n_real=len(real), level=level)
        return replace(mean, space=Space(f"lpips-{self.trunk.name}", VERSION, weights_sha256(self)))


def lpips_from_state_dicts(trunk: Trunk, *state_dicts: Mapping[str, Tensor]) -> LPIPS:
    """The distance with published weights, in evaluation mode.

    The weights come in one state dict or several: a trunk as torchvision saves it (`features.0.weight`; its classifier
    is left out) with the heads of the official repository (`lin0.model.1.weight`), or the official module's own, which
    holds both (`net.slice1.0.weight`). Raises ValueError, naming them, when keys are unknown or missing, have the wrong
    shape, or come twice with different values.

    Source: LPIPS distance
    """
    model = LPIPS(trunk)
    wanted = model.state_dict()
    placed: dict[str, Tensor] = {}
    problems = []
    for key, tensor in ((key, tensor) for state_dict in state_dicts for key, tensor in state_dict.items()):
        name = _own_name(key)
        if name not in wanted:
            problems += [] if _UNUSED.fullmatch(key) else [f"{key} is no weight of LPIPS[{trunk.name}]"]
        elif tensor.shape != wanted[name].shape:
            problems.append(f"{key} is {tuple(tensor.shape)}, not {tuple(wanted[name].shape)}")
        elif name in placed and not torch.equal(placed[name], tensor):
            problems.append(f"{key} comes twice, with different values")
        else:
            placed[name] = tensor
    missing = [name for name in wanted if name not in placed and name not in ("shift", "scale")]
    problems += [f"{name} is missing" for name in missing]
    if problems:
        shown = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        raise ValueError(f"these are not the weights of a {trunk.name} trunk and its heads: {shown}")
    model.load_state_dict({**wanted, **placed})
    return model.eval().requires_grad_(False)


def _own_name(key: str) -> str:
    for pattern, prefix in _NAMES:
        if match := pattern.fullmatch(key):
            return prefix + ".".join(match.groups())
    return ""


def _directions(features: Tensor) -> Tensor:
    return torch.div(features, torch.linalg.vector_norm(features, dim=1, keepdim=True) + _EPSILON)
