"""The kernel distance against its double sum, its expectation and published implementations."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from diffusion_evaluation import (
    CUBIC,
    Gaussian,
    Polynomial,
    Space,
    discrepancy,
    kernel_distance,
    polynomial_discrepancy,
)

GOLDEN = Path(__file__).resolve().parents[3].parent / "shared" / "reference" / "golden" / "metrics"


def drawn(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_discrepancy_equals_the_double_sum() -> None:
    """Checks: KID polynomial kernel discrepancy"""
    x, y = drawn(5, 3, 0), drawn(7, 3, 1)

    def k(a: torch.Tensor, b: torch.Tensor) -> float:
        return ((a @ b).item() / 3 + 1) ** 3

    within_x = sum(k(x[i], x[j]) for i in range(5) for j in range(5) if i != j) / 20
    within_y = sum(k(y[i], y[j]) for i in range(7) for j in range(7) if i != j) / 42
    across = sum(k(a, b) for a in x for b in y) / 35
    assert polynomial_discrepancy(x, y) == pytest.approx(within_x + within_y - 2 * across, rel=1e-12)


def test_equal_distributions_have_expectation_zero_at_any_count() -> None:
    """The mean over 200 pairs of sets of 6 lies within 4 standard errors of 0.

    Checks: KID polynomial kernel discrepancy
    """
    values = torch.tensor([polynomial_discrepancy(drawn(6, 4, s), drawn(6, 4, 10_000 + s)) for s in range(200)])
    assert abs(values.mean().item()) < 4 * values.std().item() / 200**0.5


def test_subsets_are_seeded_and_shrink_to_the_smaller_side() -> None:
    x, y = drawn(40, 4, 0), drawn(30, 4, 1) + 1

    def score(seed: int):  # type: ignore[no-untyped-def]
        generator = torch.Generator().manual_seed(seed)
        return kernel_distance(x, y, subsets=8, subset_size=20, space=Space("toy"), generator=generator)

    assert score(0) == score(0) != score(1)
    assert (score(0).name, score(0).n_real, score(0).n_fake) == ("KID[toy]", 40, 30)
    assert score(0).low <= score(0).value <= score(0).high
    whole = kernel_distance(y, y + 1, subsets=2)
    assert whole.value == pytest.approx(polynomial_discrepancy(y, y + 1), rel=1e-12)


@pytest.mark.parametrize(("kernel", "name"), [(Gaussian(2.0), "rbf 2"), (Polynomial(2, 0.5), "polynomial 2")])
def test_any_kernel_equals_the_double_sum_and_is_named(kernel, name: str) -> None:  # type: ignore[no-untyped-def]
    """Checks: KID polynomial kernel discrepancy"""
    x, y = drawn(5, 3, 0), drawn(7, 3, 1)

    def k(a: torch.Tensor, b: torch.Tensor) -> float:
        if isinstance(kernel, Gaussian):
            return math.exp(-(a - b).square().sum().item() / 8)
        return ((a @ b).item() / 3 + 0.5) ** 2

    within_x = sum(k(x[i], x[j]) for i in range(5) for j in range(5) if i != j) / 20
    within_y = sum(k(y[i], y[j]) for i in range(7) for j in range(7) if i != j) / 42
    across = sum(k(a, b) for a in x for b in y) / 35
    assert discrepancy(x, y, kernel) == pytest.approx(within_x + within_y - 2 * across, rel=1e-12)
    score = kernel_distance(x, y, subsets=2, kernel=kernel, space=Space("toy"))
    assert score.name == f"KID[toy, {name}]"
    assert kernel_distance(x, y, subsets=2, kernel=Polynomial(3), space=Space("toy")).name == "KID[toy]"


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="width 3, fake ones 4"):
        polynomial_discrepancy(drawn(5, 3, 0), drawn(5, 4, 0))
    with pytest.raises(ValueError, match="got 1 real and 5 fake"):
        polynomial_discrepancy(drawn(1, 3, 0), drawn(5, 3, 0))
    with pytest.raises(ValueError, match="subsets must be at least 1"):
        kernel_distance(drawn(5, 3, 0), drawn(5, 3, 0), subsets=0)
    with pytest.raises(ValueError, match="sigma is a positive length in feature space, got 0"):
        Gaussian(0.0)


@pytest.mark.parity
@pytest.mark.skipif(not GOLDEN.exists(), reason="the golden files of published implementations are not here")
def test_published_implementations() -> None:
    """Four implementations on whole sets, and torch-fidelity's on its own 13 subsets.

    Checks: KID polynomial kernel discrepancy
    """
    tensors = load_file(GOLDEN / "io.safetensors")
    real, fake = tensors["features_real"], tensors["features_fake"]
    values = json.loads((GOLDEN / "config.json").read_text())["values"]["kid"]
    for peer in ("torch_fidelity_full_unbiased", "cleanfid_full", "dgm_eval_full", "torchmetrics_full"):
        assert polynomial_discrepancy(real, fake) == pytest.approx(values[peer], rel=1e-8)
    rbf = values["rbf_sigma10_full_unbiased_torch_fidelity"]
    assert discrepancy(real, fake, Gaussian(10.0)) == pytest.approx(rbf, rel=1e-8)
    assert discrepancy(real, fake, CUBIC) == polynomial_discrepancy(real, fake)
    picks = zip(tensors["kid_indices_real"], tensors["kid_indices_fake"], tensors["kid_per_subset"], strict=True)
    for chosen_real, chosen_fake, expected in picks:
        assert polynomial_discrepancy(real[chosen_real], fake[chosen_fake]) == pytest.approx(expected.item(), rel=1e-8)


@pytest.mark.parametrize(("subsets", "size"), [(1, 10), (5, 40)])
def test_subsets_that_do_not_differ_give_no_interval(subsets, size):
    real, fake = torch.randn(2, 40, 3, generator=torch.Generator().manual_seed(0))
    score = kernel_distance(real, fake, subsets=subsets, subset_size=size)
    assert score.low is None and score.high is None
    assert kernel_distance(real, fake, subsets=5, subset_size=39).low is not None
