"""The sliced Wasserstein distance, part by part against SciPy and by hand, and as a whole."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from diffusion_evaluation import sliced_wasserstein
from diffusion_evaluation.sliced_wasserstein import (
    draw_patches,
    grow,
    laplacian_level,
    normalised,
    shrink,
    wasserstein_1d,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(b: int, side: int = 32, seed: int = 0) -> torch.Tensor:
    """Smooth blobs under fine noise, uint8, so that every level has something to see."""
    coarse = torch.rand(b, 3, side // 8, side // 8, generator=seeded(seed))
    fine = torch.rand(b, 3, side, side, generator=seeded(seed + 1))
    return (F.interpolate(coarse, size=side, mode="bicubic").clamp(0, 1) * 150 + fine * 100).to(torch.uint8)


def blurred(images: torch.Tensor, times: int) -> torch.Tensor:
    smooth = images.float()
    for _ in range(times):
        smooth = F.avg_pool2d(F.pad(smooth, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
    return smooth.round().to(torch.uint8)


def test_distance_in_one_dimension_by_hand() -> None:
    """{0, 1} against {0, 0, 3}: the quantile functions differ by 1 on (1/2, 2/3) and by 2 on (2/3, 1): 5/6.

    Checks: Progressive GAN sliced Wasserstein distance
    """
    first, second = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0, 0.0]])
    torch.testing.assert_close(wasserstein_1d(first, second), torch.tensor([5 / 6]))
    torch.testing.assert_close(wasserstein_1d(second, first), torch.tensor([5 / 6]))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 1000))
def test_distance_in_one_dimension_equals_scipys(n: int, m: int, seed: int) -> None:
    """Checks: Progressive GAN sliced Wasserstein distance"""
    stats = pytest.importorskip("scipy.stats")
    first, second = (torch.randn(3, size, generator=seeded(seed + size)).double() for size in (n, m))
    expected = [stats.wasserstein_distance(a, b) for a, b in zip(first, second, strict=True)]
    torch.testing.assert_close(wasserstein_1d(first, second), torch.tensor(expected, dtype=torch.float64))
    shuffled = first[:, torch.randperm(n, generator=seeded(seed))]
    assert torch.equal(wasserstein_1d(shuffled, second), wasserstein_1d(first, second))


def test_the_pyramid_is_scipys_mirrored_binomial_filter() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    image = torch.rand(1, 3, 32, 16, generator=seeded(), dtype=torch.float64)
    taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=torch.float64) / 16
    kernel = torch.outer(taps, taps)[None, None].numpy()
    smooth = torch.from_numpy(ndimage.convolve(image.numpy(), kernel, mode="mirror"))
    torch.testing.assert_close(shrink(image), smooth[:, :, ::2, ::2])
    spread = torch.zeros(1, 3, 64, 32, dtype=torch.float64)
    spread[:, :, ::2, ::2] = image
    expected = torch.from_numpy(ndimage.convolve(spread.numpy(), 4 * kernel, mode="mirror"))
    torch.testing.assert_close(grow(image), expected)


def test_the_levels_of_the_pyramid_add_up_to_the_image() -> None:
    images = pictures(2, side=64).double()
    levels = [laplacian_level(images, level) for level in range(3)]
    assert [level.shape[-1] for level in levels] == [64, 32, 16]
    torch.testing.assert_close(grow(grow(levels[2]) + levels[1]) + levels[0], images)


def test_flat_images_have_no_detail() -> None:
    flat = torch.full((2, 3, 32, 32), 201.0)
    assert not laplacian_level(flat, 0).any()
    assert torch.equal(laplacian_level(flat, 1), flat[:, :, ::2, ::2])


def test_patches_are_windows_of_their_image_and_cover_it() -> None:
    """Pixels that hold their own address show where each patch was taken."""
    address = torch.arange(2 * 3 * 16 * 8, dtype=torch.float32).view(2, 3, 16, 8)
    patches = draw_patches(address, 400, seeded())
    assert patches.shape == (800, 3, 7, 7)
    corner = patches[:, 0, 0, 0].long()
    assert torch.equal(corner // (3 * 16 * 8), torch.arange(2).repeat_interleave(400))
    y, x = corner % (16 * 8) // 8, corner % 8
    assert (y.min(), y.max(), x.min(), x.max()) == (0, 9, 0, 1)
    i, row, column = 17, y[17], x[17]
    assert torch.equal(patches[i], address[0, :, row : row + 7, column : column + 7])


def test_normalised_patches_have_mean_zero_and_deviation_one_per_channel() -> None:
    scale = torch.tensor([1.0, 5.0, 0.0]).view(3, 1, 1)
    patches = torch.rand(50, 3, 7, 7, generator=seeded(), dtype=torch.float64) * scale
    result = normalised(patches)
    torch.testing.assert_close(result.mean((0, 2, 3)), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(result.square().mean((0, 2, 3)), torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64))


def test_the_whole_equals_its_definition_written_out() -> None:
    """The coarsest level from slices, sorted by numpy, over the very patches and directions that the seed gives.

    Checks: Progressive GAN sliced Wasserstein distance
    """
    real, fake = pictures(5, side=16), pictures(5, side=16, seed=9)
    score = sliced_wasserstein(real, fake, patches_per_image=6, directions=3, generator=seeded(4)).mean
    seed = int(torch.randint(2**62, (), generator=seeded(4)))
    descriptors = []
    for images in (real, fake):
        patches = draw_patches(images.float(), 6, seeded(seed)).double().numpy()
        mean, deviation = patches.mean((0, 2, 3), keepdims=True), patches.std((0, 2, 3), keepdims=True)
        descriptors.append(((patches - mean) / deviation).reshape(30, 147))
    directions = torch.randn(3, 147, generator=seeded(seed)).double().numpy()
    directions /= (directions**2).sum(axis=1, keepdims=True) ** 0.5
    gaps = []
    for direction in directions:
        ours, theirs = (sorted(descriptor @ direction) for descriptor in descriptors)
        gaps += [abs(a - b) for a, b in zip(ours, theirs, strict=True)]
    assert score.value == pytest.approx(1000 * sum(gaps) / len(gaps), rel=1e-4)


def test_zero_to_itself_symmetric_and_seeded() -> None:
    real, fake = pictures(6), pictures(6, seed=7)

    def distance(a: torch.Tensor, b: torch.Tensor, seed: int = 0) -> float:
        return sliced_wasserstein(a, b, patches_per_image=32, directions=32, generator=seeded(seed)).mean.value

    assert distance(real, real) == 0.0
    assert distance(real, fake) == distance(fake, real) == distance(real, fake) > 0
    assert distance(real, fake) != distance(real, fake, seed=1)


def test_it_grows_with_blur_and_most_so_at_the_finest_level() -> None:
    real = pictures(24)
    fakes = [blurred(real, times) for times in (0, 1, 2, 4)]
    scores = [sliced_wasserstein(real, fake, directions=64, generator=seeded()) for fake in fakes]
    means = [score.mean for score in scores]
    assert means == sorted(means)
    assert all(b > a for a, b in zip(means, means[1:], strict=False))
    assert scores[1].levels[0].value > scores[1].levels[1].value


def test_it_grows_with_noise() -> None:
    real = pictures(24)
    noise = torch.randn(real.shape, generator=seeded(3))
    noisy = [(real.float() + strength * noise).clamp(0, 255).to(torch.uint8) for strength in (10, 30, 90)]
    means = [sliced_wasserstein(real, images, directions=64, generator=seeded()).mean.value for images in noisy]
    assert means[0] < means[1] < means[2]


def test_it_is_blind_to_the_contrast_of_a_whole_channel() -> None:
    real = pictures(6) // 3
    fake = real.clone()
    fake[:, 1] = 2 * fake[:, 1] + 20
    assert sliced_wasserstein(real, fake, directions=16, generator=seeded()).mean.value < 1e-3


def test_unequal_counts_of_one_distribution_are_as_near_as_equal_ones() -> None:
    def finest(real: torch.Tensor, fake: torch.Tensor) -> float:
        return sliced_wasserstein(real, fake, directions=64, generator=seeded()).levels[0].value

    fewer, more = pictures(20), pictures(47, seed=5)
    assert finest(fewer, more) < 1.1 * finest(fewer, more[:20])
    assert finest(fewer, more) < finest(fewer, blurred(more, 3)) / 2


def test_scores_name_their_levels_and_scale() -> None:
    result = sliced_wasserstein(pictures(2, side=64), pictures(3, side=64), patches_per_image=4, directions=4)
    assert [score.name for score in result.levels] == ["SWD[64, x1e3]", "SWD[32, x1e3]", "SWD[16, x1e3]"]
    assert str(result.mean).startswith("SWD[mean of 64 32 16, x1e3, N=2/3] ")
    assert result.mean.value == pytest.approx(sum(score.value for score in result.levels) / 3)


def test_unfit_images_are_refused() -> None:
    fit = pictures(2)
    for side in (8, 24):
        unfit = torch.zeros(2, 3, side, side, dtype=torch.uint8)
        with pytest.raises(ValueError, match=f"powers of two and at least 16, got {side}x{side}: resize"):
            sliced_wasserstein(unfit, unfit)
    with pytest.raises(ValueError, match="resize one set"):
        sliced_wasserstein(fit, pictures(2, side=16))
    with pytest.raises(ValueError, match="got 2 real and 0 fake"):
        sliced_wasserstein(fit, fit[:0])
