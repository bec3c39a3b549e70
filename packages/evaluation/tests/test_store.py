"""A feature store that is killed, resumed, shared and damaged."""

import os
from pathlib import Path

import pytest
import torch

from diffusion_evaluation import FeatureStore, Space, Statistics

SPACE = Space("toy", "1", "abc")


def rows_of(indices: list[int]) -> torch.Tensor:
    """Features that show which image they belong to."""
    return torch.tensor(indices).float()[:, None] + torch.tensor([0.0, 0.25])


def append(store: FeatureStore, *indices: int) -> None:
    store.append(torch.tensor(indices), rows_of(list(indices)))


def test_features_come_back_in_order_of_their_images(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, SPACE)
    append(store, 5, 3)
    append(store, 0, 4, 1)
    reopened = FeatureStore(tmp_path, SPACE)
    assert len(reopened) == 5
    assert reopened.indices == [0, 1, 3, 4, 5]
    assert reopened.missing(range(7)) == [2, 6]
    assert torch.equal(reopened.features(), rows_of([0, 1, 3, 4, 5]))
    for indices, features in reopened.batches():
        assert torch.equal(features, rows_of(indices.tolist()))


def test_its_statistics_are_those_of_all_rows(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, SPACE)
    append(store, 0, 9, 2)
    append(store, 7)
    ours, theirs = store.statistics(), Statistics.of(store.features(), SPACE)
    assert (ours.count, ours.space) == (4, SPACE)
    torch.testing.assert_close(ours.covariance, theirs.covariance, rtol=1e-12, atol=1e-12)


def test_a_run_killed_while_writing_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FeatureStore(tmp_path, SPACE)
    append(store, 0, 1)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", killed)
        append(store, 2, 3)
    assert [path for path in tmp_path.iterdir() if path.name.endswith(".partial")]
    resumed = FeatureStore(tmp_path, SPACE)
    assert resumed.missing(range(4)) == [2, 3]
    append(resumed, 2, 3)
    assert torch.equal(FeatureStore(tmp_path, SPACE).features(), rows_of([0, 1, 2, 3]))


def test_the_same_images_again_replace_their_shard(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, SPACE)
    append(store, 0, 1)
    append(store, 0, 1)
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(ValueError, match="1 of these images are already in .*, the first is 1"):
        append(store, 1, 2)


def test_two_ranks_share_a_folder(tmp_path: Path) -> None:
    first, second = FeatureStore(tmp_path, SPACE), FeatureStore(tmp_path, SPACE)
    append(first, 0, 2)
    append(second, 1, 3)
    first.refresh()
    assert torch.equal(first.features(), rows_of([0, 1, 2, 3]))


def test_features_of_other_weights_are_refused(tmp_path: Path) -> None:
    append(FeatureStore(tmp_path, SPACE), 0)
    with pytest.raises(ValueError, match="use another folder"):
        FeatureStore(tmp_path, Space("toy", "1", "other weights"))


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    append(FeatureStore(tmp_path, SPACE), *range(100))
    (shard,) = tmp_path.iterdir()
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(ValueError, match=f"{shard.name} is not a whole shard .* delete it and run again"):
        FeatureStore(tmp_path, SPACE)


def test_rows_and_indices_must_match(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, SPACE)
    for indices, rows in (([1, 1], [1, 1]), ([1, 2], [1]), ([], [])):
        with pytest.raises(ValueError, match="one distinct index per row"):
            store.append(torch.tensor(indices, dtype=torch.int64), rows_of(rows))
    with pytest.raises(ValueError, match="holds no features yet"):
        store.features()
