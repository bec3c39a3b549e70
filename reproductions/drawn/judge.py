"""The judge: a small convolutional network that reads the caption off a drawing, attribute by attribute.

It stands in for a person who checks samples against their captions, and its pooled features are a feature space for
drawn pictures.
"""

from typing import cast

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from reproductions.drawn.vocabulary import ABSENT, Vocabulary

Images = UInt8[Tensor, "b 3 s s"] | Float[Tensor, "b 3 s s"]

WIDTHS = (32, 64, 128)
GRID = 4
NOISE = 0.05
AT_ONCE = 500


def _level(inputs: int, outputs: int, strides: tuple[int, int]) -> nn.Sequential:
    """Two convolutions with their strides."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, stride=strides[0], bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, stride=strides[1], bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Judge(nn.Module):
    """Six convolutions, pooling to a 4 x 4 grid, a linear layer, and a linear head for each attribute.

    Images are uint8, or float in [-1, 1]; any resolution from 8 pixels. In training mode, `loss` adds Gaussian noise
    of standard deviation 0.05 (images in [-1, 1]), so that the judge does not lean on details that a decoder cannot
    draw.
    """

    same: Tensor
    swapped: Tensor

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.sizes = len(vocabulary.sizes)
        same, swapped = vocabulary.same_picture
        self.register_buffer("same", torch.tensor(same), persistent=False)
        self.register_buffer("swapped", torch.tensor(swapped), persistent=False)
        first, second, third = WIDTHS
        self.body = nn.Sequential(
            _level(3, first, (1, 2)), _level(first, second, (2, 1)), _level(second, third, (2, 1))
        )
        self.summary = nn.Sequential(
            nn.AdaptiveAvgPool2d(GRID),
            nn.Flatten(),
            nn.Linear(WIDTHS[-1] * GRID**2, WIDTHS[-1], bias=False),
            nn.BatchNorm1d(WIDTHS[-1]),
            nn.ReLU(),
        )
        self.heads = nn.ModuleList(nn.Linear(WIDTHS[-1], choices) for choices in vocabulary.choices)

    def features(self, images: Images) -> Float[Tensor, "b 128"]:
        """Features before the heads."""
        channels_last = _as_float(images).contiguous(memory_format=torch.channels_last)
        return cast(Tensor, self.summary(self.body(channels_last)))

    def forward(self, images: Images) -> list[Float[Tensor, "b _"]]:
        """Logits of each attribute."""
        features = self.features(images)
        return [head(features) for head in self.heads]

    def loss(
        self, images: Images, attributes: Int64[Tensor, "b 5"], *, generator: torch.Generator | None = None
    ) -> Float[Tensor, " b"]:
        """Sum of the cross-entropies of the attributes that are there (-1: absent), per image.

        Noise is drawn from `generator`.
        """
        if self.training:
            images = _as_float(images)
            noise = torch.randn(images.shape, generator=generator, device=images.device)
            images = images + NOISE * noise
        truths = self.as_seen(attributes).unbind(1)
        terms = [
            F.cross_entropy(logits.float(), truth, ignore_index=ABSENT, reduction="none")
            for logits, truth in zip(self(images), truths, strict=True)
        ]
        return torch.stack(terms).sum(0)

    def as_seen(self, attributes: Int64[Tensor, "b 5"]) -> Int64[Tensor, "b 5"]:
        """Say the same in the first way: no picture tells "a ring right of a cross" from "a cross left of a ring"."""
        layout, first, second = attributes[:, :1], attributes[:, 1:3], attributes[:, 3:]
        swapped = self.swapped[layout]
        shapes = torch.where(swapped, second, first), torch.where(swapped, first, second)
        return torch.cat([self.same[layout], *shapes], dim=1)

    @torch.no_grad()
    def read(self, images: Images) -> Int64[Tensor, "b 5"]:
        """Read the most likely attributes `as_seen`, a few images at a time, in evaluation mode.

        Those of the second shape are -1 where the layout has one shape.
        """
        training = self.training
        self.eval()
        read = [
            torch.stack([logits.argmax(1) for logits in self(some)], dim=1)
            for some in images.tensor_split(tuple(range(AT_ONCE, len(images), AT_ONCE)))
        ]
        self.train(training)
        attributes = torch.cat(read)
        lone = attributes[:, 0] < self.sizes
        attributes[lone, 3:] = ABSENT
        return attributes

    def right(self, images: Images, attributes: Int64[Tensor, "b 5"]) -> Bool[Tensor, " b"]:
        """Whether the whole caption is read: the layout, and colour and shape of everything in it."""
        return (self.read(images) == self.as_seen(attributes.to(images.device))).all(dim=1)


def _as_float(images: Images) -> Float[Tensor, "b 3 s s"]:
    """Images in [-1, 1]."""
    return images.float() / 127.5 - 1 if images.dtype == torch.uint8 else images
