"""The patch discriminator."""

from __future__ import annotations

from torch import Tensor, nn

from ._types import Images, Logits
from .pretrained import Pretrained


class PatchGAN(nn.Module, Pretrained):
    """Discriminator of overlapping patches: images (b, c, H, W) to logits (b, 1, u, v), positive for real.

    `layers` convolutions of stride 2 with `channels`, 2 `channels`, ... (at most 8 `channels`), one of stride 1, and
    the logits; batch normalisation after all but the first and last; weights drawn from N(0, 0.02).

    Raises:
        ValueError: a count is not positive.

    Source: VQGAN adversarial loss
    """

    def __init__(self, *, image_channels: int = 3, channels: int = 64, layers: int = 3) -> None:
        super().__init__()
        if min(image_channels, channels, layers) < 1:
            raise ValueError(
                f"image_channels, channels and layers must be at least 1, got {(image_channels, channels, layers)}"
            )
        modules: list[nn.Module] = [nn.Conv2d(image_channels, channels, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        width = channels
        for index in range(1, layers + 1):
            wider = channels * min(2**index, 8)
            stride = 2 if index < layers else 1
            convolution = nn.Conv2d(width, wider, 4, stride=stride, padding=1, bias=False)
            modules += [convolution, nn.BatchNorm2d(wider), nn.LeakyReLU(0.2)]
            width = wider
        modules.append(nn.Conv2d(width, 1, 4, padding=1))
        self.main = nn.Sequential(*modules)
        self.apply(_draw_weights)

    def forward(self, images: Images) -> Logits:
        """Judge every patch."""
        logits: Tensor = self.main(images)
        return logits


def _draw_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    if isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
