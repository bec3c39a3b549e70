"""Scores say what they are, refuse false comparisons, and carry the intervals that theory gives."""

import math
import warnings
from dataclasses import replace

import pytest
import torch

from diffusion_evaluation import (
    Score,
    SmallSampleWarning,
    Space,
    bootstrap,
    frechet_distance,
    mean_score,
    proportion,
    require_comparable,
)

SCORE = Score("FID[shapes-judge]", 4.21345, 256, 256, 4.05, 4.39, Space("shapes-judge", sha256="a1"))


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (SCORE, "FID[shapes-judge, N=256/256] 4.21 [4.05, 4.39]"),
        (replace(SCORE, low=None, high=None), "FID[shapes-judge, N=256/256] 4.21"),
        (Score("PSNR", 28.912, 10, 10), "PSNR[N=10/10] 28.91"),
        (
            Score("accuracy[judge]", 0.875, None, 8, 0.529, 0.978),
            "accuracy[judge, N=8] 0.875 [0.529, 0.978]",
        ),
        (Score("KID[toy]", -0.00012345, 9, 9), "KID[toy, N=9/9] -0.000123"),
        (Score("SWD", 0.0, 2, 3), "SWD[N=2/3] 0.00"),
        (Score("PSNR", math.inf, 2, 2), "PSNR[N=2/2] inf"),
    ],
)
def test_the_first_line_says_what_it_is(score: Score, text: str) -> None:
    assert str(score) == text


def test_like_scores_are_ordered_and_subtracted() -> None:
    better = replace(SCORE, value=4.0)
    assert better < SCORE
    assert better < SCORE
    assert SCORE - better == pytest.approx(0.21345)


@pytest.mark.parametrize(
    "other",
    [
        replace(SCORE, name="KID[shapes-judge]"),
        replace(SCORE, n_real=10_000),
        replace(SCORE, n_fake=255),
        replace(SCORE, space=Space("shapes-judge", sha256="b2")),
        replace(SCORE, space=None),
    ],
)
def test_unlike_scores_are_refused(other: Score) -> None:
    for compare in (lambda: other > SCORE, lambda: SCORE - other, lambda: require_comparable(SCORE, SCORE, other)):
        with pytest.raises(ValueError, match="cannot be compared: .* is .* in one and .* in the other"):
            compare()


@pytest.mark.parametrize(("successes", "n"), [(0, 5), (5, 5), (3, 10), (207, 256)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_interval_equals_scipys(successes: int, n: int, level: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    score = proportion(torch.arange(n) < successes, "accuracy", level=level)
    expected = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    assert (score.value, score.n_real, score.n_fake) == (successes / n, None, n)
    assert (score.low, score.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_bootstrap_of_a_mean_has_the_width_of_its_standard_error() -> None:
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(300, generator=generator).double(), 2 * torch.randn(200, generator=generator).double()

    def difference(a: torch.Tensor, b: torch.Tensor) -> Score:
        return Score("difference", (a.mean() - b.mean()).item(), len(a), len(b))

    score = bootstrap(difference, real, fake, resamples=2000, generator=generator)
    error = math.sqrt(real.var(correction=0).item() / 300 + fake.var(correction=0).item() / 200)
    assert score.low is not None
    assert score.high is not None
    assert score.value == difference(real, fake).value
    assert (score.high - score.low) / 2 == pytest.approx(1.96 * error, rel=0.08)
    assert (score.high + score.low) / 2 == pytest.approx(score.value)


def test_the_bootstrap_is_seeded_and_warns_no_more_often_than_the_score() -> None:
    real, fake = torch.randn(6, 8).double(), torch.randn(6, 8).double()

    def interval(seed: int) -> Score:
        return bootstrap(frechet_distance, real, fake, resamples=5, generator=torch.Generator().manual_seed(seed))

    with pytest.warns(SmallSampleWarning) as record:
        first = interval(0)
    assert len(record) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SmallSampleWarning)
        assert interval(0) == first != interval(1)


def test_the_bootstrap_takes_arrays_of_numpy_and_images() -> None:
    real, fake = torch.rand(2, 40, 3).double()

    def interval(a: object, b: object) -> Score:
        return bootstrap(frechet_distance, a, b, resamples=5, generator=torch.Generator().manual_seed(0))

    assert interval(real.numpy(), fake.numpy()) == interval(real, fake)
    pictures = (255 * torch.rand(2, 10, 3, 16, 16)).to(torch.uint8)

    def brightness(a: torch.Tensor, b: torch.Tensor) -> Score:
        return Score("brightness", (a.double().mean() - b.double().mean()).item(), len(a), len(b))

    score = bootstrap(brightness, *pictures, resamples=20)
    assert score.low < score.value < score.high


def test_the_mean_of_values_has_the_interval_of_its_standard_error() -> None:
    score = mean_score(torch.tensor([1.0, 2.0, 3.0, 6.0]), "PSNR", n_real=4)
    deviation = math.sqrt((4 + 1 + 0 + 9) / 3)
    assert score.value == 3.0
    assert score.high == pytest.approx(3.0 + 1.959964 * deviation / 2)
    assert mean_score(torch.tensor([5.0, math.inf]), "PSNR") == Score("PSNR", math.inf, None, 2)
    assert mean_score(torch.tensor([5.0]), "PSNR") == Score("PSNR", 5.0, None, 1)


def test_empty_and_impossible_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="accuracy: there are no outcomes to count"):
        proportion(torch.zeros(0, dtype=torch.bool), "accuracy")
    with pytest.raises(ValueError, match="PSNR: there are no values to average"):
        mean_score(torch.zeros(0), "PSNR")
    with pytest.raises(ValueError, match="level is a probability"):
        proportion(torch.ones(3, dtype=torch.bool), "accuracy", level=95.0)
    with pytest.raises(ValueError, match="resamples must be at least 2"):
        bootstrap(frechet_distance, torch.zeros(4, 1), torch.zeros(4, 1), resamples=1)
