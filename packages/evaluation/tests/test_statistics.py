"""Streamed and merged statistics against those of all rows at once."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_evaluation import Accumulator, Space, Statistics, merge

SPACE = Space("toy", "2", "abc")


def features(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_close(ours: Statistics, theirs: Statistics, tolerance: float = 1e-10) -> None:
    assert ours.count == theirs.count
    torch.testing.assert_close(ours.mean, theirs.mean, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(ours.covariance, theirs.covariance, rtol=tolerance, atol=tolerance)


def test_statistics_equal_those_of_numpy() -> None:
    rows = features(50, 7)
    statistics = Statistics.of(rows)
    np.testing.assert_allclose(statistics.mean, rows.numpy().mean(axis=0), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(statistics.covariance, np.cov(rows.numpy(), rowvar=False), rtol=1e-12, atol=1e-13)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(1, 5), st.integers(0, 1000))
def test_parts_of_any_size_merge_to_the_whole(sizes: list[int], d: int, seed: int) -> None:
    rows = features(sum(sizes), d, seed)
    parts = rows.split(sizes)
    streamed = Accumulator()
    for part in parts:
        streamed.update(part)
    assert_close(streamed.statistics, Statistics.of(rows))
    assert_close(merge(Statistics.of(part) for part in parts), Statistics.of(rows))


def test_a_large_common_offset_costs_no_digits() -> None:
    """Shifting all rows by a power of two leaves the covariance as it was; sums of squares would lose 10 digits."""
    rows = (features(400, 5) * 2**20).round() / 2**20
    shifted = Accumulator()
    for part in (rows + 2.0**17).split(33):
        shifted.update(part)
    torch.testing.assert_close(shifted.statistics.covariance, Statistics.of(rows).covariance, rtol=1e-10, atol=1e-10)


def test_half_precision_features_are_summed_in_float64() -> None:
    rows = features(64, 3).bfloat16()
    assert_close(Statistics.of(rows), Statistics.of(rows.double()), tolerance=0.0)


def test_fewer_than_two_rows_have_no_spread() -> None:
    assert not Statistics.of(features(1, 4)).covariance.any()
    assert Statistics.of(features(0, 4)).count == 0


def test_a_snapshot_does_not_change_with_later_batches() -> None:
    accumulator = Accumulator()
    accumulator.update(features(5, 2))
    before = accumulator.statistics
    accumulator.update(features(5, 2, seed=1))
    assert_close(before, Statistics.of(features(5, 2)), tolerance=0.0)


def test_files_of_two_ranks_merge_to_the_whole(tmp_path: Path) -> None:
    rows = features(30, 4)
    for rank, part in enumerate((rows[:19], rows[19:])):
        Statistics.of(part, SPACE).save(tmp_path / f"{rank}.safetensors")
    merged = merge(Statistics.load(path) for path in sorted(tmp_path.iterdir()))
    assert merged.space == SPACE
    assert_close(merged, Statistics.of(rows))


def test_a_file_that_is_something_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.safetensors"
    path.write_text("not tensors")
    with pytest.raises(ValueError, match=r"notes\.safetensors is not a file of feature statistics"):
        Statistics.load(path)
    with pytest.raises(FileNotFoundError):
        Statistics.load(tmp_path / "absent.safetensors")


def test_bad_rows_are_counted_and_named() -> None:
    rows = features(6, 3)
    rows[2, 1] = float("nan")
    rows[4] = float("inf")
    with pytest.raises(ValueError, match="2 of 6 rows are not finite, the first is row 2"):
        Statistics.of(rows)


def test_mixing_widths_or_spaces_is_refused() -> None:
    accumulator = Accumulator(SPACE)
    accumulator.update(features(5, 3))
    with pytest.raises(ValueError, match="width 4, those before had width 3"):
        accumulator.update(features(5, 4))
    with pytest.raises(ValueError, match="cannot be merged"):
        accumulator.merge(Statistics.of(features(5, 3), Space("another")))
    with pytest.raises(ValueError, match="no statistics to merge"):
        merge([])
    with pytest.raises(ValueError, match="no features were given"):
        _ = Accumulator().statistics
