"""Every score of a GPU's features is that of the CPU's."""

import pytest
import torch

from diffusion_evaluation import (
    LPIPS,
    SQUEEZE,
    Gaussian,
    Score,
    authenticity,
    bootstrap,
    clip_score,
    cmmd,
    density_coverage,
    frechet_distance,
    frechet_distance_at_infinity,
    inception_score,
    kernel_distance,
    precision_recall,
    psnr,
    realism,
    spatial_frechet_distance,
    ssim,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def all_scores(real: torch.Tensor, fake: torch.Tensor) -> list[Score]:
    shares, scores = precision_recall(real, fake), density_coverage(real, fake)
    maps = [rows.unflatten(1, (2, 2, 3)) for rows in (real, fake)]
    return [
        frechet_distance(real, fake),
        frechet_distance_at_infinity(real, fake, smallest=100, generator=generator()),
        bootstrap(frechet_distance, real, fake, resamples=3, generator=generator()),
        spatial_frechet_distance(*maps, channels=1),
        kernel_distance(real, fake, subsets=3, subset_size=50, generator=generator()),
        kernel_distance(real, fake, subsets=3, subset_size=50, kernel=Gaussian(2.0), generator=generator()),
        inception_score(fake, splits=3, generator=generator()),
        cmmd(real, fake),
        clip_score(real[:100], fake[:100]),
        authenticity(real, fake),
        shares.precision,
        shares.recall,
        scores.density,
        scores.coverage,
    ]


def test_scores_of_features() -> None:
    drawn = generator()
    real, fake = torch.randn(300, 12, generator=drawn), 1.2 * torch.randn(200, 12, generator=drawn) + 0.2
    for ours, expected in zip(all_scores(real.cuda(), fake.cuda()), all_scores(real, fake), strict=True):
        assert ours.name == expected.name
        assert ours.value == pytest.approx(expected.value, rel=1e-9)
        if expected.low is not None:
            assert (ours.low, ours.high) == pytest.approx((expected.low, expected.high), rel=1e-7)
    torch.testing.assert_close(realism(real.cuda(), fake.cuda()).cpu(), realism(real, fake), rtol=1e-9, atol=0.0)
    assert precision_recall(real.cuda(), fake) == precision_recall(real, fake)


def test_scores_of_pairs() -> None:
    real, fake = torch.randint(0, 256, (2, 3, 3, 24, 24), generator=generator()).to(torch.uint8)
    for measure in (psnr, ssim):
        torch.testing.assert_close(measure(real.cuda(), fake.cuda()).cpu(), measure(real, fake), rtol=1e-9, atol=0.0)
    model = LPIPS(SQUEEZE).eval()
    expected = model.score(real, fake).value
    assert model.cuda().score(real, fake).value == pytest.approx(expected, rel=1e-3)
