"""What becomes of classes, maps and holes before a denoiser reads them."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from continuous_diffusion._types import Images, Labels, States


class ClassStates(nn.Module):
    """A class as one state (b, 1, width); label K, the last, means none.

    `classes` K counts without the null class.

    Source: LDM conditioning mechanisms
    """

    def __init__(self, *, classes: int, width: int) -> None:
        super().__init__()
        self.null_class = classes
        self.embedding = nn.Embedding(classes + 1, width)

    def forward(self, labels: Labels) -> States:
        """Labels (b,) to states (b, 1, width)."""
        states: Tensor = self.embedding(labels)[:, None]
        return states


class MapRescaler(nn.Module):
    """A map, halved `stages` times, its channels mixed down, to be put beside the latent.

    Source: LDM conditioning mechanisms
    """

    def __init__(self, *, channels_in: int, channels_out: int, stages: int = 1, bias: bool = False) -> None:
        super().__init__()
        self.stages = stages
        self.mix = nn.Conv2d(channels_in, channels_out, 1, bias=bias)

    def forward(self, maps: Float[Tensor, "b channels_in H W"]) -> Images:
        """Maps (b, channels_in, H, W) to (b, channels_out, h, w), h = H / 2^stages."""
        for _ in range(self.stages):
            maps = F.interpolate(maps, scale_factor=0.5, mode="bilinear")
        mixed: Tensor = self.mix(maps)
        return mixed


def one_hot_maps(labels: Tensor, classes: int) -> Images:
    """Integer maps (b, H, W) as (b, classes, H, W)."""
    return F.one_hot(labels, classes).movedim(-1, 1).float()


def beside_hole(known: Images, mask: Float[Tensor, "_ 1 H W"]) -> Float[Tensor, "b beside h w"]:
    """The latent of the masked image and the mask, (b, c + 1, h, w): what LDM's inpainting model reads.

    `mask` is 1 where the image is to be filled in, 0 where it is kept, at any size that the latent's divides; every
    so many of its pixels are taken, in -1..1.

    Raises ValueError for values other than 0 and 1, and for another batch or size.

    Source: LDM inpainting
    """
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError("mask: values other than 0 (keep) and 1 (fill in)")
    (h, w), (H, W) = known.shape[2:], mask.shape[2:]
    if H % h or W % w or len(mask) != len(known):
        raise ValueError(f"mask: shape {tuple(mask.shape)} beside a latent {tuple(known.shape)}")
    return torch.cat([known, 2 * F.interpolate(mask, (h, w)).to(known.dtype) - 1], 1)
