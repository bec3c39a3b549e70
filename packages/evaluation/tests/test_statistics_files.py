"""Statistics files as other projects write them, and as they read ours."""

from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion_evaluation import Space, Statistics, frechet_distance, spatial_rows
from diffusion_evaluation.statistics_files import ADM_SPATIAL, read_npz_statistics, write_npz_statistics

SPACE = Space("inception-clean", "2015-12-05", "abc")


def rows(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def save(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)
    return path


def test_it_reads_what_pytorch_fid_clean_fid_and_edm_write(tmp_path: Path) -> None:
    """They all save `numpy.mean(features, axis=0)` and `numpy.cov(features, rowvar=False)`."""
    features = rows(40, 5).numpy()
    path = save(tmp_path / "theirs.npz", mu=features.mean(axis=0), sigma=np.cov(features, rowvar=False))
    read = read_npz_statistics(path, count=40, space=SPACE)
    ours = Statistics.of(torch.from_numpy(features), SPACE)
    assert (read.count, read.space) == (40, SPACE)
    torch.testing.assert_close(read.mean, ours.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(read.covariance, ours.covariance, rtol=1e-12, atol=1e-12)
    assert frechet_distance(read, ours).value < 1e-6


def test_others_read_what_it_writes(tmp_path: Path) -> None:
    """Readers of all four take `mu` and `sigma` out of `numpy.load(path)`, which does not unpickle by itself."""
    statistics = Statistics.of(rows(40, 5), SPACE)
    write_npz_statistics(tmp_path / "ours.npz", statistics)
    with np.load(tmp_path / "ours.npz") as file:
        assert file["mu"].dtype == file["sigma"].dtype == np.float64
        assert np.array_equal(file["mu"], statistics.mean)
        assert np.array_equal(file["sigma"], statistics.covariance)
    assert [path.name for path in tmp_path.iterdir()] == ["ours.npz"]


def test_its_own_files_know_their_count_and_space(tmp_path: Path) -> None:
    path = tmp_path / "ours.npz"
    statistics = Statistics.of(rows(40, 5), SPACE)
    write_npz_statistics(path, statistics)
    read = read_npz_statistics(path)
    assert (read.count, read.space) == (40, SPACE)
    assert torch.equal(read.covariance, statistics.covariance)
    with pytest.raises(ValueError, match=r"ours\.npz was made of 40 images, not of 50000"):
        read_npz_statistics(path, count=50_000)
    with pytest.raises(ValueError, match=r"holds statistics of Space\(name='inception-clean'.* not of Space\(name='x'"):
        read_npz_statistics(path, space=Space("x"))


def test_adms_spatial_statistics_are_put_in_order(tmp_path: Path) -> None:
    """Guided-diffusion flattens its maps channels last, `spatial_rows` channels first."""
    maps = rows(50, 7 * 3 * 3, seed=1).reshape(50, 7, 3, 3)
    theirs = maps.permute(0, 2, 3, 1).reshape(50, -1).numpy()
    pooled = rows(50, 4)
    arrays = {"mu_s": theirs.mean(axis=0), "sigma_s": np.cov(theirs, rowvar=False)}
    path = save(tmp_path / "theirs.npz", mu=pooled.mean(0).numpy(), sigma=np.cov(pooled.T.numpy()), **arrays)
    ours = Statistics.of(spatial_rows(maps), SPACE)
    read = read_npz_statistics(path, count=50, space=SPACE, keys=ADM_SPATIAL)
    torch.testing.assert_close(read.mean, ours.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(read.covariance, ours.covariance, rtol=1e-12, atol=1e-12)
    write_npz_statistics(tmp_path / "ours.npz", Statistics.of(pooled, SPACE), spatial=ours)
    with np.load(tmp_path / "ours.npz") as file:
        np.testing.assert_allclose(file["mu_s"], arrays["mu_s"], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(file["sigma_s"], arrays["sigma_s"], rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="statistics are of 40 images, spatial ones of 50"):
        write_npz_statistics(tmp_path / "x.npz", Statistics.of(rows(40, 4)), spatial=ours)


def test_a_file_without_a_count_asks_for_it(tmp_path: Path) -> None:
    path = save(tmp_path / "theirs.npz", mu=np.zeros(2), sigma=np.eye(2))
    with pytest.raises(ValueError, match=r"theirs\.npz does not say of how many images it was made: give count="):
        read_npz_statistics(path)
    assert read_npz_statistics(path, count=3).space == Space("unnamed")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    path = save(tmp_path / "pickled.npz", mu=np.array([{"a": 1}], dtype=object), sigma=np.eye(1))
    with pytest.raises(ValueError, match=r"pickled\.npz is not an \.npz file with 'mu' and 'sigma'.*\.pkl\) are not"):
        read_npz_statistics(path, count=10)


def test_what_is_no_statistics_is_named(tmp_path: Path) -> None:
    uneven = np.array([[1.0, 0.5], [0.0, 1.0]])
    for message, arrays in (
        (r"bad\.npz is not an \.npz file", {"mean": np.zeros(2), "sigma": np.eye(2)}),
        (r"bad\.npz: a mean \(d,\) .* it holds \(2,\) and \(3, 3\)", {"mu": np.zeros(2), "sigma": np.eye(3)}),
        (r"bad\.npz: not all numbers are finite", {"mu": np.full(2, np.nan), "sigma": np.eye(2)}),
        (r"bad\.npz: its covariance is not symmetric", {"mu": np.zeros(2), "sigma": uneven}),
    ):
        with pytest.raises(ValueError, match=message):
            read_npz_statistics(save(tmp_path / "bad.npz", **arrays), count=10)
    with pytest.raises(ValueError, match="5 spatial features are no maps of 7 channels"):
        read_npz_statistics(save(tmp_path / "x.npz", mu_s=np.zeros(5), sigma_s=np.eye(5)), count=10, keys=ADM_SPATIAL)
    with pytest.raises(FileNotFoundError):
        read_npz_statistics(tmp_path / "absent.npz", count=10)
