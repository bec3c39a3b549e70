"""FID-infinity against NumPy's regression, and against a distance that is known."""

import numpy as np
import pytest
import torch

from diffusion_evaluation import Space, Statistics, frechet_distance, frechet_distance_at_infinity
from diffusion_evaluation.frechet_infinity import fitted_line


def drawn(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_line_and_its_error_are_those_of_numpy() -> None:
    x, y = drawn(2, 9, 0)
    (slope, intercept), covariance = np.polyfit(x.numpy(), y.numpy(), 1, cov=True)
    line = fitted_line(x, y)
    assert (line.slope, line.intercept) == pytest.approx((slope, intercept), rel=1e-12)
    assert line.intercept_error == pytest.approx(covariance[1, 1] ** 0.5, rel=1e-12)


def test_removes_most_of_the_bias_of_few_images() -> None:
    """Of two sets of one distribution, against its exact moments: the true distance is 0.

    Checks: FID infinity extrapolation
    """
    d = 24
    exact = Statistics(10**9, torch.zeros(d, dtype=torch.float64), torch.eye(d, dtype=torch.float64), Space("toy"))
    plain, extrapolated = [], []
    for seed in range(5):
        fake, generator = drawn(1200, d, seed), torch.Generator().manual_seed(seed)
        plain.append(frechet_distance(exact, fake, space=Space("toy")).value)
        score = frechet_distance_at_infinity(exact, fake, smallest=300, generator=generator)
        extrapolated.append(score.value)
    assert abs(np.mean(extrapolated)) < 0.1 * np.mean(plain)
    assert str(score).startswith("FID-infinity[toy, N=1000000000/1200] ")
    assert score.low < score.value < score.high


def test_is_the_intercept_of_the_distances_of_seeded_subsets() -> None:
    """Checks: FID infinity extrapolation"""
    real, fake = drawn(60, 3, 0), drawn(50, 3, 1) + 1
    score = frechet_distance_at_infinity(real, fake, points=3, smallest=10, generator=torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(7)
    values = [frechet_distance(real, fake[torch.randperm(50, generator=generator)[:n]]).value for n in (10, 30, 50)]
    assert score.value == pytest.approx(np.polyfit([1 / 10, 1 / 30, 1 / 50], values, 1)[1], rel=1e-10)
    assert values[-1] == pytest.approx(frechet_distance(real, fake).value, rel=1e-12)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="smallest must be between 2 and 49.*got points=15, smallest=5000"):
        frechet_distance_at_infinity(drawn(60, 3, 0), drawn(50, 3, 1))
    with pytest.raises(ValueError, match="needs 3 points or more.*got points=2, smallest=10"):
        frechet_distance_at_infinity(drawn(60, 3, 0), drawn(50, 3, 1), points=2, smallest=10)
    with pytest.raises(ValueError, match="level is a probability"):
        frechet_distance_at_infinity(drawn(60, 3, 0), drawn(50, 3, 1), smallest=10, level=1.0)
