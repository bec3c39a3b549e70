"""The Frechet distance against closed forms, 50 digits, SciPy's matrix root and published implementations."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from diffusion_evaluation import SmallSampleWarning, Space, Statistics, frechet_distance, gaussian_frechet_distance
from diffusion_evaluation.frechet import factor, nuclear_norm

GOLDEN = Path(__file__).resolve().parents[3].parent / "shared" / "reference" / "golden" / "metrics"
few_images = pytest.mark.filterwarnings("ignore::diffusion_evaluation.SmallSampleWarning")


def drawn(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(d: int, seed: int) -> torch.Tensor:
    return torch.linalg.qr(drawn(d, d, seed)).Q


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 6), st.integers(0, 10_000), st.booleans())
def test_gaussians_with_common_axes_have_a_closed_form(d: int, seed: int, singular: bool) -> None:
    """In common axes the distance is |shift|^2 plus the squared differences of the deviations.

    Checks: TTUR Frechet inception distance
    """
    axes, shift = rotation(d, seed), drawn(1, d, seed + 1)[0]
    ours, theirs = drawn(2, d, seed + 2).abs()
    if singular:
        ours[0] = 0.0
    expected = shift.square().sum() + (ours - theirs).square().sum()
    first, second = (axes * deviations.square() @ axes.T for deviations in (ours, theirs))
    zero = torch.zeros(d, dtype=torch.float64)
    assert gaussian_frechet_distance(zero, first, shift, second) == pytest.approx(expected.item(), rel=1e-6, abs=1e-9)


def test_equals_the_matrix_root_of_scipy_on_definite_covariances() -> None:
    """Checks: TTUR Frechet inception distance"""
    linalg = pytest.importorskip("scipy.linalg")
    real, fake = Statistics.of(drawn(200, 12, 0)), Statistics.of(drawn(150, 12, 1) * 1.3 + 0.2)
    root = linalg.sqrtm((real.covariance @ fake.covariance).numpy()).real.trace()
    expected = (real.mean - fake.mean).square().sum() + real.covariance.trace() + fake.covariance.trace() - 2 * root
    assert frechet_distance(real, fake).value == pytest.approx(expected.item(), rel=1e-12)


def fifty_digits(real: list[list[int]], fake: list[list[int]]) -> float:
    """The distance from integer features, with mpmath's symmetric eigenvalues at 50 digits."""
    mpmath = pytest.importorskip("mpmath")

    def gaussian(rows: list[list[int]]):  # type: ignore[no-untyped-def]
        matrix = mpmath.matrix(rows)
        mean = mpmath.matrix([[sum(matrix[:, j]) / matrix.rows for j in range(matrix.cols)]])
        centred = matrix - mpmath.matrix([[mean[j] for j in range(matrix.cols)]] * matrix.rows)
        return mean, centred.T * centred / (matrix.rows - 1)

    def roots(matrix):  # type: ignore[no-untyped-def]
        values, vectors = mpmath.eigsy(matrix)
        return [mpmath.sqrt(max(value, 0)) for value in values], vectors

    with mpmath.workdps(50):
        (mean_r, cov_r), (mean_f, cov_f) = gaussian(real), gaussian(fake)
        values, vectors = roots(cov_r)
        root = vectors * mpmath.diag(values) * vectors.T
        cross = sum(roots(root * cov_f * root)[0])
        shift = sum((a - b) ** 2 for a, b in zip(mean_r, mean_f, strict=True))
        diagonal = sum(cov_r[i, i] + cov_f[i, i] for i in range(cov_r.rows))
        return float(shift + diagonal - 2 * cross)


@few_images
@pytest.mark.parametrize(("n_real", "n_fake", "d"), [(3, 3, 7), (4, 20, 8), (2, 2, 6), (8, 8, 8), (30, 3, 5)])
def test_singular_covariances_agree_with_fifty_digits(n_real: int, n_fake: int, d: int) -> None:
    """Checks: TTUR Frechet inception distance"""
    real, fake = ((drawn(n, d, seed) * 8).round() for n, seed in ((n_real, 1), (n_fake, 2)))
    expected = fifty_digits(real.long().tolist(), fake.long().tolist())
    assert frechet_distance(real, fake).value == pytest.approx(expected, rel=1e-9)


@few_images
def test_constant_features_and_constant_columns_agree_with_fifty_digits() -> None:
    """Checks: TTUR Frechet inception distance"""
    constant, spread = torch.full((9, 4), 3.0, dtype=torch.float64), (drawn(9, 4, 3) * 8).round()
    partly = spread.clone()
    partly[:, 1] = -2.0
    for real, fake in ((constant, spread), (spread, partly), (partly, constant)):
        expected = fifty_digits(real.long().tolist(), fake.long().tolist())
        assert frechet_distance(real, fake).value == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(constant, constant + 1).value == 4.0


@few_images
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("n", [40, 300])
def test_a_set_is_at_no_distance_from_itself(n: int, scale: float) -> None:
    """Relative to the spread, over six decades of it along the axes, with more and with fewer rows than columns."""
    rows = scale * drawn(n, 128, 0) * torch.logspace(0, -6, 128, dtype=torch.float64)
    assert frechet_distance(rows, rows).value < 1e-9 * max(1.0, scale**2)


@few_images
@pytest.mark.slow
@pytest.mark.parametrize("n", [700, 3000])
def test_features_as_wide_and_as_spread_as_inceptions(n: int) -> None:
    """At d = 2048 and a total variance near 320: nothing from itself, and the same from either side."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.randn(256, 2048, generator=generator)
    real, fake = (
        Statistics.of((0.03 * torch.randn(n, 256, generator=generator) @ axes + 0.2).relu()) for _ in range(2)
    )
    value = frechet_distance(real, fake).value
    assert frechet_distance(real, real).value < 1e-6
    assert frechet_distance(fake, real).value == pytest.approx(value, rel=1e-12)


@few_images
@settings(deadline=None, max_examples=20)
@given(st.integers(2, 30), st.integers(2, 30), st.integers(1, 12), st.integers(0, 10_000))
def test_symmetric_and_unmoved_by_rotation_and_shift(n: int, m: int, d: int, seed: int) -> None:
    real, fake = drawn(n, d, seed), drawn(m, d, seed + 1) + 0.5
    value = frechet_distance(real, fake).value
    assert frechet_distance(fake, real).value == pytest.approx(value, rel=1e-9, abs=1e-9)
    moved = [rows @ rotation(d, seed) + 3.0 for rows in (real, fake)]
    assert frechet_distance(*moved).value == pytest.approx(value, rel=1e-6, abs=1e-7)
    assert frechet_distance(real * 4, fake * 4).value == pytest.approx(16 * value, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("decades", [0, 2, 12])
def test_the_nuclear_norm_keeps_nine_digits_whatever_the_spectrum(decades: int) -> None:
    singular = torch.logspace(0, -decades, 40, dtype=torch.float64)
    matrix = rotation(40, 0) * singular @ rotation(40, 1)
    assert nuclear_norm(matrix).item() == pytest.approx(singular.sum().item(), rel=1e-9)
    assert nuclear_norm(matrix[:, :0]).item() == 0.0


def test_factors_multiply_back_and_drop_what_is_rounding() -> None:
    rows = drawn(5, 9, 0)
    for covariance, rank in ((Statistics.of(rows).covariance, 4), (Statistics.of(drawn(50, 9, 1)).covariance, 9)):
        root = factor(covariance)
        assert root.shape == (9, rank)
        torch.testing.assert_close(root @ root.T, covariance, rtol=1e-12, atol=1e-13)


def test_few_images_give_one_warning_and_the_score_names_its_space() -> None:
    space = Space("toy")
    with pytest.warns(SmallSampleWarning, match=r"FID\[toy\] of 5 real and 9 fake images in 6 dimensions") as record:
        score = frechet_distance(drawn(5, 6, 0), drawn(9, 6, 1), space=space)
    assert len(record) == 1
    assert (score.name, score.n_real, score.n_fake, score.space) == ("FID[toy]", 5, 9, space)


def test_what_cannot_be_compared_is_refused() -> None:
    rows = drawn(20, 3, 0)
    with pytest.raises(ValueError, match="width 3, fake ones 4"):
        frechet_distance(rows, drawn(20, 4, 1))
    with pytest.raises(ValueError, match="use one space"):
        frechet_distance(Statistics.of(rows, Space("a")), Statistics.of(rows, Space("a", sha256="other weights")))
    with pytest.raises(ValueError, match="fake: the statistics were measured in"):
        frechet_distance(rows, Statistics.of(rows, Space("a")), space=Space("b"))
    with pytest.raises(ValueError, match="real: a covariance needs at least 2 rows of features, got 1"):
        frechet_distance(rows[:1], rows)


@few_images
@pytest.mark.parity
@pytest.mark.skipif(not GOLDEN.exists(), reason="the golden files of published implementations are not here")
def test_published_implementations() -> None:
    """Seven implementations at full rank, and three at deficient rank, where 50 digits show that it is they who err.

    Checks: TTUR Frechet inception distance
    """
    tensors = load_file(GOLDEN / "io.safetensors")
    real, fake = tensors["features_real"], tensors["features_fake"]
    values = json.loads((GOLDEN / "config.json").read_text())["values"]
    full, deficient = values["fid"], values["fid_rank_deficient"]
    rows = deficient.pop("n_rows_used")
    assert full.pop("identical_inputs_torch_fidelity") < 1e-6
    for expected in full.values():
        assert frechet_distance(real, fake).value == pytest.approx(expected, rel=1e-9)
    exact = 53.966552669322458773
    assert frechet_distance(real[:rows], fake[:rows]).value == pytest.approx(exact, rel=1e-12)
    for expected in deficient.values():
        assert 1e-9 < abs(expected - exact) / exact < 1e-7
    torch.testing.assert_close(Statistics.of(real).mean, tensors["mu_real"], rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(Statistics.of(fake).covariance, tensors["sigma_fake"], rtol=1e-12, atol=1e-13)
