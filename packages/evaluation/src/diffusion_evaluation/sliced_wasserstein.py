"""The sliced Wasserstein distance between patches of Laplacian pyramids: needs images and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ._types import FakeImages, FakeProjections, Images, Patches, PerDirection, RealImages, RealProjections
from .features import require_uint8_images
from .score import Score

SMALLEST_LEVEL = 16
PATCH_SIDE = 7
_IMAGES_AT_ONCE = 64
_DIRECTIONS_AT_ONCE = 128


@dataclass(frozen=True)
class SlicedWasserstein:
    """The distance at each level of the pyramid, finest first, and their mean; all multiplied by 1000, as published."""

    levels: tuple[Score, ...]
    mean: Score


def sliced_wasserstein(
    real: RealImages,
    fake: FakeImages,
    *,
    patches_per_image: int = 128,
    directions: int = 512,
    generator: torch.Generator | None = None,
) -> SlicedWasserstein:
    r"""The sliced 1-Wasserstein distance between local patches of two sets of images, level by level.

    Every image becomes a Laplacian pyramid down to 16 pixels; at each level 7x7 patches are drawn from it, each colour
    channel of a set's patches is brought to mean 0 and deviation 1, and the distance is the mean over random unit
    directions $\theta$ of $1000 \int_0^1 |F_\theta^{-1}(u) - G_\theta^{-1}(u)| du$ with the empirical quantile
    functions of the projections, which is exact for unequal numbers of images too. The normalisation makes the
    distance blind to the mean and the contrast of each channel of a whole set.

    Images are uint8 `(b, 3, H, W)`, both sides powers of two and at least 16. A level is named by
    its shorter side: `SWD[32, x1e3]`. Equal generators give equal scores on any device.

    Source: Progressive GAN sliced Wasserstein distance
    Deviation: Karras et al. draw patch positions for real and fake images independently; here image i has the same
        positions in both sets, so that the distance of a set to itself is 0 and not the sampling floor [fixed].
    """
    _require_pyramid(real, fake)
    seed = int(torch.randint(2**62, (), generator=generator))
    shorter = min(real.shape[-2:])
    names, values = [], []
    for level in range((shorter // SMALLEST_LEVEL).bit_length()):
        ours, theirs = (
            normalised(_level_patches(images, level, patches_per_image, seed + level)) for images in (real, fake)
        )
        names.append(shorter >> level)
        values.append(1000 * _sliced_distance(ours, theirs, directions, seed + level))
    levels = tuple(
        Score(f"SWD[{name}, x1e3]", value, len(real), len(fake)) for name, value in zip(names, values, strict=True)
    )
    mean_name = f"SWD[mean of {' '.join(map(str, names))}, x1e3]"
    return SlicedWasserstein(levels, Score(mean_name, sum(values) / len(values), len(real), len(fake)))


def laplacian_level(images: Tensor, level: int) -> Tensor:
    """Level `level` (0 is the finest) of the Laplacian pyramid of float images `(b, 3, H, W)`; the last is low-pass."""
    for _ in range(level):
        images = shrink(images)
    is_last = min(images.shape[-2:]) < 2 * SMALLEST_LEVEL
    return images if is_last else images - grow(shrink(images))


def shrink(images: Tensor) -> Tensor:
    """Half the size: binomial filter, mirrored borders, every second pixel."""
    return _blur(images)[:, :, ::2, ::2]


def grow(images: Tensor) -> Tensor:
    """Twice the size: zeros between the pixels, then four times the binomial filter."""
    b, c, height, width = images.shape
    spread = images.new_zeros(b, c, 2 * height, 2 * width)
    spread[:, :, ::2, ::2] = images
    return 4 * _blur(spread)


def _blur(images: Tensor) -> Tensor:
    channels = images.shape[1]
    taps = images.new_tensor([1, 4, 6, 4, 1]) / 16
    kernel = torch.outer(taps, taps).expand(channels, 1, 5, 5)
    return F.conv2d(F.pad(images, (2, 2, 2, 2), mode="reflect"), kernel, groups=channels)


def draw_patches(images: Tensor, count: int, generator: torch.Generator) -> Patches:
    """`count` patches 7x7 at random places of each float image `(b, 3, H, W)`: `(b * count, 3, 7, 7)`."""
    b, c, height, width = images.shape
    rows, columns = height - PATCH_SIDE + 1, width - PATCH_SIDE + 1
    corner = torch.randint(rows * columns, (b, count, 1), generator=generator).to(images.device)
    corner = corner // columns * width + corner % columns
    within = torch.arange(PATCH_SIDE, device=images.device)
    pixels = corner + (within[:, None] * width + within).flatten()
    drawn = images.flatten(2).gather(2, pixels.view(b, 1, -1).expand(b, c, -1))
    return drawn.view(b, c, count, PATCH_SIDE, PATCH_SIDE).transpose(1, 2).flatten(0, 1)


def normalised(patches: Patches) -> Patches:
    """The patches with mean 0 and deviation 1 in each channel over the whole set; a constant channel becomes 0."""
    deviation, mean = torch.std_mean(patches, dim=(0, 2, 3), keepdim=True, correction=0)
    return (patches - mean) / torch.where(deviation > 0, deviation, 1)


def wasserstein_1d(first: RealProjections, second: FakeProjections) -> PerDirection:
    """The exact 1-Wasserstein distance between the empirical distributions in matching rows: `(directions,)`."""
    n, m = first.shape[1], second.shape[1]
    ours, theirs = first.sort(dim=1).values, second.sort(dim=1).values
    if n == m:
        return (ours - theirs).abs().mean(dim=1)
    steps = torch.cat([torch.arange(n) * m, torch.arange(m) * n, torch.tensor([n * m])]).sort().values
    start, share = steps[:-1], steps.diff().double() / (n * m)
    gaps = (ours[:, (start // m).to(ours.device)] - theirs[:, (start // n).to(ours.device)]).abs()
    return torch.mv(gaps, share.to(gaps))


def _level_patches(images: Images, level: int, count: int, seed: int) -> Patches:
    generator = torch.Generator().manual_seed(seed)
    drawn = [
        draw_patches(laplacian_level(images[start : start + _IMAGES_AT_ONCE].float(), level), count, generator)
        for start in range(0, len(images), _IMAGES_AT_ONCE)
    ]
    return torch.cat(drawn)


def _sliced_distance(ours: Tensor, theirs: Tensor, directions: int, seed: int) -> float:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(directions, ours[0].numel(), generator=generator)
    thetas = F.normalize(drawn, dim=1).to(ours.device)
    distances = []
    for start in range(0, directions, _DIRECTIONS_AT_ONCE):
        some = thetas[start : start + _DIRECTIONS_AT_ONCE]
        distances.append(wasserstein_1d(some @ ours.flatten(1).T, some @ theirs.flatten(1).T))
    return torch.cat(distances).double().mean().item()


def _require_pyramid(real: Tensor, fake: Tensor) -> None:
    require_uint8_images(real, "real")
    require_uint8_images(fake, "fake")
    if real.shape[1:] != fake.shape[1:]:
        raise ValueError(f"real images are {tuple(real.shape[1:])}, fake ones {tuple(fake.shape[1:])}: resize one set")
    if min(len(real), len(fake)) == 0:
        raise ValueError(f"there must be images on both sides, got {len(real)} real and {len(fake)} fake")
    height, width = real.shape[-2:]
    if any(side < SMALLEST_LEVEL or side & (side - 1) for side in (height, width)):
        raise ValueError(
            f"the pyramid needs sides that are powers of two and at least {SMALLEST_LEVEL}, got {height}x{width}: "
            "resize both sets first, and say so beside the score"
        )
