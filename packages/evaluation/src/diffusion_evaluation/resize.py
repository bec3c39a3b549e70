"""Resizing that agrees with Pillow's to the last digit, without Pillow, and the two that older scores were made with.

Frechet distances move by whole points with the resizing; so it is named, and never whatever the library happens to do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from ._types import Images, Resized, ResizedBytes, Taps
from .features import require_uint8_images

_FRACTION_BITS = 22


@dataclass(frozen=True)
class Kernel:
    """An interpolation kernel: its weight at a distance in source pixels, zero beyond its radius."""

    name: str
    radius: float
    weight: Callable[[float], float]


def _bicubic(x: float) -> float:
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return ((-0.5 * x + 2.5) * x - 4) * x + 2 if x < 2 else 0.0


def _lanczos(x: float) -> float:
    if not -3 <= x < 3:
        return 0.0
    return 1.0 if x == 0 else 3 * math.sin(math.pi * x) * math.sin(math.pi * x / 3) / (math.pi * x) ** 2


BICUBIC = Kernel("bicubic", 2.0, _bicubic)
LANCZOS = Kernel("lanczos", 3.0, _lanczos)
BILINEAR = Kernel("bilinear", 1.0, lambda x: max(0.0, 1 - abs(x)))
BOX = Kernel("box", 0.5, lambda x: float(-0.5 < x <= 0.5))


@dataclass(frozen=True)
class Box:
    """The part of an image that is resized, in pixels, not necessarily whole ones."""

    left: float | int
    top: float | int
    right: float | int
    bottom: float | int


def resize(images: Images, height: int, width: int, *, kernel: Kernel = BICUBIC, box: Box | None = None) -> Resized:
    """Antialiased resizing of each channel as floats, clipped to [0, 255]: Pillow's of mode "F", clean-fid's "clean".

    Takes uint8 `(b, 3, H, W)`, returns float32 `(b, 3, height, width)` that is not rounded to whole numbers. Of `box`
    (default: all), it resizes that part. Raises ValueError for empty outputs and for boxes that leave the image.
    """
    across, down = _both_taps(images, height, width, kernel, box)
    home = "cpu" if images.device.type == "mps" else images.device
    wide = (images.to(home).double() @ across.to(home).T).float()
    tall = (down.to(home) @ wide.double()).float()
    return tall.clamp_(0, 255).to(images.device)


def resize_bytes(
    images: Images, height: int, width: int, *, kernel: Kernel = BICUBIC, box: Box | None = None
) -> ResizedBytes:
    """Antialiased resizing in Pillow's 8-bit fixed-point arithmetic, bit for bit: uint8 in, uint8 out.

    The width is resized first and rounded, as Pillow did up to version 12, with which published scores were made;
    Pillow 13 begins with the height where that shrinks more. Arguments are those of `resize`.
    """
    across, down = (_fixed_point(taps) for taps in _both_taps(images, height, width, kernel, box))
    home = "cpu" if images.device.type == "mps" else images.device
    wide = _from_fixed_point(images.to(home).double() @ across.to(home).T)
    return _from_fixed_point(down.to(home) @ wide).to(images.device, torch.uint8)


def centre_square(images: Images, side: int, *, kernel: Kernel = BICUBIC) -> ResizedBytes:
    """The central square, resized to `side` x `side` in one step: short side to `side`, then the centre, as uint8."""
    require_uint8_images(images, "images")
    height, width = images.shape[-2:]
    short = min(height, width)
    left, top = (width - short) / 2, (height - short) / 2
    return resize_bytes(images, side, side, kernel=kernel, box=Box(left, top, left + short, top + short))


def resize_like_pytorch(images: Images, height: int, width: int) -> Resized:
    """Bilinear without antialiasing, half-pixel centres, as pytorch-fid has it: clean-fid's "legacy_pytorch"."""
    require_uint8_images(images, "images")
    return nn.functional.interpolate(images.float(), (height, width), mode="bilinear", align_corners=False)


def resize_like_tensorflow(images: Images, height: int, width: int) -> Resized:
    """Bilinear as in TensorFlow 1: output pixel i reads at i * in / out, no half-pixel shift and no antialiasing.

    It is what the Inception graph of 2015 does inside; clean-fid calls it "legacy_tensorflow".
    """
    require_uint8_images(images, "images")
    pixels = images.float()
    upper, lower, down = _neighbours(images.shape[-2], height, images.device)
    left, right, across = _neighbours(images.shape[-1], width, images.device)
    rows = torch.lerp(pixels[..., left], pixels[..., right], across)
    return torch.lerp(rows[..., upper, :], rows[..., lower, :], down[:, None])


def _neighbours(size: int, wanted: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    places = torch.arange(wanted, dtype=torch.float32) * torch.tensor(size / wanted, dtype=torch.float32)
    first = places.long()
    shares = places - first
    return first.to(device), (first + 1).clamp_max(size - 1).to(device), shares.to(device)


def _both_taps(images: Tensor, height: int, width: int, kernel: Kernel, box: Box | None) -> tuple[Tensor, Tensor]:
    require_uint8_images(images, "images")
    rows, columns = images.shape[-2:]
    part = box or Box(0, 0, columns, rows)
    if min(height, width) < 1:
        raise ValueError(f"resize: the output must have at least one pixel, got {height} x {width}")
    if not (0 <= part.left < part.right <= columns and 0 <= part.top < part.bottom <= rows):
        raise ValueError(f"resize: {part} does not lie within images of height {rows} and width {columns}")
    return (
        _taps(columns, width, part.left, part.right, kernel),
        _taps(rows, height, part.top, part.bottom, kernel),
    )


@lru_cache(maxsize=64)
def _taps(size: int, wanted: int, start: float | int, stop: float | int, kernel: Kernel) -> Taps:
    """The weights `(wanted, size)` of source pixels in each output pixel; the kernel widens when it shrinks."""
    taps = torch.zeros(wanted, size, dtype=torch.float64)
    scale = (stop - start) / wanted
    widened = max(scale, 1.0)
    reach = kernel.radius * widened
    for i in range(wanted):
        centre = start + (i + 0.5) * scale
        first, last = max(0, int(centre - reach + 0.5)), min(size, int(centre + reach + 0.5))
        weights = [kernel.weight((j - centre + 0.5) * (1 / widened)) for j in range(first, last)]
        taps[i, first:last] = torch.tensor(weights, dtype=torch.float64) / math.fsum(weights)
    return taps


def _fixed_point(taps: Tensor) -> Tensor:
    scaled = taps * 2**_FRACTION_BITS
    rounded: Tensor = torch.where(taps < 0, scaled - 0.5, scaled + 0.5).trunc()
    return rounded


def _from_fixed_point(sums: Tensor) -> Tensor:
    whole: Tensor = ((sums + 2 ** (_FRACTION_BITS - 1)) / 2**_FRACTION_BITS).floor().clamp_(0, 255)
    return whole
