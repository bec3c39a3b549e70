"""The three convolutional trunks that LPIPS looks through, layer for layer as torchvision numbers them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Trunk:
    """A stack of layers, the indices of those looked at, and the channels there.

    `build()` gives the layers with torchvision's indices, so that its weights fit by name; `smallest` is the shortest
    side of an image that reaches the last layer.
    """

    name: str
    build: Callable[[], nn.Sequential] = field(compare=False, repr=False)
    taps: tuple[int, ...]
    widths: tuple[int, ...]
    smallest: int


class Fire(nn.Module):
    """SqueezeNet's module: 1x1 down, then 1x1 and 3x3 up, side by side."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(b, inputs, h, w)` to `(b, 2 * expanded, h, w)`."""
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x), self.expand3x3(x)], dim=1).relu()


def _alex() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    )


def _vgg() -> nn.Sequential:
    layers: list[nn.Module] = []
    inputs = 3
    for index, (width, count) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]):
        layers += [nn.MaxPool2d(2, 2)] if index else []
        for _ in range(count):
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
            inputs = width
    return nn.Sequential(*layers)


def _squeeze() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, stride=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(64, 16, 64),
        Fire(128, 16, 64),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(128, 32, 128),
        Fire(256, 32, 128),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(256, 48, 192),
        Fire(384, 48, 192),
        Fire(384, 64, 256),
        Fire(512, 64, 256),
    )


ALEX = Trunk("alex", _alex, (1, 4, 7, 9, 11), (64, 192, 384, 256, 256), smallest=31)
VGG = Trunk("vgg", _vgg, (3, 8, 15, 22, 29), (64, 128, 256, 512, 512), smallest=16)
SQUEEZE = Trunk("squeeze", _squeeze, (1, 4, 7, 9, 10, 11, 12), (64, 128, 256, 384, 384, 512, 512), smallest=17)
