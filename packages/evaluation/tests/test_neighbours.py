"""Distances, radii and the neighbourhood scores against brute force, and against published implementations."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from diffusion_evaluation import (
    ADM,
    EXACT,
    Manifold,
    Space,
    authenticity,
    density_coverage,
    precision_recall,
    realism,
)
from diffusion_evaluation.neighbours import exact_squared_distances, nearest_squared_distances, smallest

GOLDEN = Path(__file__).resolve().parents[3].parent / "shared" / "reference" / "golden" / "metrics"
SMALL_BLOCKS = replace(EXACT, rows_at_once=7, columns_at_once=5)


def drawn(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x[:, None] - y[None]).square().sum(-1).sqrt()


def radii_by_hand(x: torch.Tensor, k: int) -> torch.Tensor:
    return by_hand(x, x).sort(dim=1).values[:, k]


def test_distances_equal_differences_far_from_the_origin_and_vanish_for_copies() -> None:
    x, y = drawn(20, 6, 0) + 1e4, drawn(15, 6, 1) + 1e4
    y[3], y[4] = x[7], x[7] + 1e-6
    squared = exact_squared_distances(x, y)
    torch.testing.assert_close(squared, by_hand(x, y).square(), rtol=1e-9, atol=0.0)
    assert squared[7, 3] == 0
    assert exact_squared_distances(x[:1].expand(4, -1), x[:1]).eq(0).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 5), st.integers(1, 400), st.integers(1, 5), st.integers(0, 10_000))
def test_the_smallest_are_those_of_a_full_sort(rows: int, columns: int, count: int, seed: int) -> None:
    values = torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed)).mul(50).round()
    expected = values.sort(dim=1).values[:, :count]
    assert torch.equal(smallest(values, count), expected)
    assert torch.equal(smallest(values.T.contiguous().T, count), expected)


@pytest.mark.parametrize("arithmetic", [EXACT, SMALL_BLOCKS])
@pytest.mark.parametrize("k", [1, 3, 6])
def test_radii_are_ways_to_the_kth_other_row_in_any_blocks(arithmetic: object, k: int) -> None:
    """Checks: Precision and Recall k-nearest-neighbour manifold"""
    x = drawn(23, 3, 2)
    nearest = nearest_squared_distances(x, k, arithmetic)
    torch.testing.assert_close(nearest, by_hand(x, x).sort(dim=1).values[:, 1 : k + 1].square())
    manifold = Manifold.of(x, neighbours=k, arithmetic=arithmetic)
    torch.testing.assert_close(manifold.squared_radii.sqrt(), radii_by_hand(x, k))
    assert len(manifold) == 23


@settings(deadline=None, max_examples=30)
@given(st.integers(4, 30), st.integers(4, 30), st.integers(1, 3), st.integers(1, 3), st.integers(0, 10_000))
def test_shares_equal_their_definitions(n: int, m: int, d: int, k: int, seed: int) -> None:
    """Checks: Precision and Recall precision and recall, Density and Coverage density, Density and Coverage coverage"""
    real, fake = drawn(n, d, seed), 1.5 * drawn(m, d, seed + 1) + 0.3
    distances, of_real, of_fake = by_hand(real, fake), radii_by_hand(real, k), radii_by_hand(fake, k)
    inside = distances <= of_real[:, None]
    for arithmetic in (EXACT, SMALL_BLOCKS):
        shares = precision_recall(real, fake, neighbours=k, arithmetic=arithmetic)
        assert shares.precision.value == pytest.approx(inside.any(0).double().mean().item())
        assert shares.recall.value == pytest.approx((distances <= of_fake[None]).any(1).double().mean().item())
        manifold = Manifold.of(real, neighbours=k, arithmetic=arithmetic)
        scores = density_coverage(manifold, fake)
        assert scores.density.value == pytest.approx(inside.sum().item() / (k * m))
        assert scores.coverage.value == pytest.approx(inside.any(1).double().mean().item())
    assert (shares.recall.n_real, shares.recall.n_fake) == (scores.coverage.n_real, scores.coverage.n_fake) == (n, m)


@settings(deadline=None, max_examples=20)
@given(st.integers(5, 25), st.integers(2, 25), st.integers(1, 3), st.integers(0, 10_000))
def test_realism_and_authenticity_equal_their_definitions(n: int, m: int, d: int, seed: int) -> None:
    """Checks: Precision and Recall realism score, Authenticity definition"""
    real, fake = drawn(n, d, seed), drawn(m, d, seed + 1)
    distances, radii = by_hand(real, fake), radii_by_hand(real, 3)
    narrow = radii < radii.quantile(0.5)
    expected = (radii[narrow, None] / distances[narrow]).amax(0)
    torch.testing.assert_close(realism(Manifold.of(real, arithmetic=SMALL_BLOCKS), fake), expected)
    nearest, index = distances.min(0)
    share = (nearest > radii_by_hand(real, 1)[index]).double().mean().item()
    assert authenticity(real, fake, space=Space("toy")).value == pytest.approx(share)


def test_a_set_against_itself_and_against_one_far_away() -> None:
    x = drawn(50, 4, 3)
    same, apart = precision_recall(x, x), precision_recall(x, x + 100)
    assert (same.precision.value, same.recall.value, apart.precision.value, apart.recall.value) == (1, 1, 0, 0)
    assert (density_coverage(x, x).coverage.value, density_coverage(x, x + 100).density.value) == (1, 0)
    assert authenticity(x, x).value == 0
    assert realism(x, x).isinf().any()
    duplicated = x[:5].repeat(10, 1)
    assert precision_recall(duplicated, x[:5].repeat(4, 1)).precision.value == 1
    assert precision_recall(duplicated, x[5:]).precision.value == 0


def test_names_carry_space_neighbours_and_arithmetic() -> None:
    x, y, space = drawn(30, 4, 0), drawn(20, 4, 1), Space("toy")
    assert str(precision_recall(x, y, space=space).recall).startswith("recall[toy, k=3, N=30/20] ")
    scores = precision_recall(x, y, neighbours=4, arithmetic=ADM, space=space)
    assert scores.precision.name == "precision[toy, k=4, ADM]"
    assert density_coverage(x, y, space=space).density.name == "density[toy, k=5]"
    assert density_coverage(x, y, space=space).coverage.space == space


def test_half_precision_is_left_where_it_overflows() -> None:
    x, y = 300 * drawn(30, 8, 0), 300 * drawn(20, 8, 1)
    exact, half = (precision_recall(x, y, arithmetic=arithmetic) for arithmetic in (EXACT, ADM))
    assert half.precision.value == exact.precision.value
    assert half.recall.value == exact.recall.value


def test_manifolds_are_used_again_and_not_mixed() -> None:
    x, y = drawn(30, 4, 0), drawn(20, 4, 1)
    ours, theirs = Manifold.of(x, neighbours=2), Manifold.of(y, neighbours=2)
    assert precision_recall(ours, theirs) == precision_recall(x, y, neighbours=2)
    with pytest.raises(ValueError, match="fake: the manifold was made with neighbours=2 and exact arithmetic"):
        precision_recall(x, theirs, neighbours=3)
    with pytest.raises(ValueError, match="real: the manifold was made with neighbours=2"):
        precision_recall(ours, y, arithmetic=ADM)
    with pytest.raises(ValueError, match="fake: neighbours must be between 1 and the number of other rows, 19; got 20"):
        precision_recall(x, y, neighbours=20)
    with pytest.raises(ValueError, match="real: neighbours must be between 1 and .* 29; got 0"):
        density_coverage(x, y, neighbours=0)
    with pytest.raises(ValueError, match="real features have width 4, fake ones 3"):
        precision_recall(x, drawn(20, 3, 1))


@pytest.mark.parity
@pytest.mark.skipif(not GOLDEN.exists(), reason="the golden files of published implementations are not here")
@pytest.mark.parametrize("k", [3, 5])
def test_published_implementations(k: int) -> None:
    """torch-fidelity, dgm-eval and guided-diffusion's script, exact and in half precision.

    Checks: Precision and Recall precision and recall, Density and Coverage density, Density and Coverage coverage,
        Precision and Recall realism score, Authenticity definition
    """
    tensors = load_file(GOLDEN / "io.safetensors")
    real, fake = tensors["features_real"], tensors["features_fake"]
    everything = json.loads((GOLDEN / "config.json").read_text())["values"]
    values = everything["precision_recall_density_coverage"]
    exact, half = (precision_recall(real, fake, neighbours=k, arithmetic=arithmetic) for arithmetic in (EXACT, ADM))
    for scores, peer in (
        (exact, f"dgm_eval_prdc_k{k}"),
        (exact, f"adm_definition_fp32_k{k}"),
        (half, f"adm_definition_fp16_k{k}"),
    ):
        assert scores.precision.value == pytest.approx(values[peer]["precision"], rel=1e-12)
        assert scores.recall.value == pytest.approx(values[peer]["recall"], rel=1e-12)
    assert exact.precision.value == pytest.approx(values[f"torch_fidelity_k{k}"]["precision"], rel=1e-6)
    scores = density_coverage(real, fake, neighbours=k)
    assert scores.density.value == pytest.approx(values[f"dgm_eval_prdc_k{k}"]["density"], rel=1e-12)
    assert scores.coverage.value == pytest.approx(values[f"dgm_eval_prdc_k{k}"]["coverage"], rel=1e-12)
    torch.testing.assert_close(realism(real, fake), tensors["prdc_k3_realism_of_fake"], rtol=1e-12, atol=0.0)
    assert 100 * authenticity(real, fake).value == pytest.approx(everything["authpct"], rel=1e-6)
