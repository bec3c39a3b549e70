"""Scores beside those of other libraries, on the same arrays; each test is skipped where its peer is not installed.

`nox -s parity` brings the peers.
"""

import inspect

import numpy as np
import pytest
import torch
from torch import nn

from diffusion_evaluation import (
    ALEX,
    EXACT,
    SQUEEZE,
    VGG,
    Gaussian,
    Trunk,
    discrepancy,
    frechet_distance,
    inception_score,
    kernel_distance,
    lpips_from_state_dicts,
    polynomial_discrepancy,
    precision_recall,
    psnr,
    split_scores,
    ssim,
)

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]
N_REAL, N_FAKE, WIDTH = 700, 600, 48


def features(n: int, seed: int) -> torch.Tensor:
    """Float64 features with correlated columns whose deviations fall over two decades, as networks' do."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(n, WIDTH, generator=generator, dtype=torch.float64)
    mixed = rows @ torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.float64)).Q
    return (mixed * torch.logspace(0, -2, WIDTH, dtype=torch.float64) + 0.1 * seed).relu()


REAL, FAKE = features(N_REAL, 1), features(N_FAKE, 2)
LOGITS = 3 * torch.randn(N_FAKE, 20, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def moments(rows: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    return rows.numpy().mean(axis=0), np.cov(rows.numpy(), rowvar=False)


class Given(nn.Module):
    """A feature extractor whose images are the features."""

    num_features = WIDTH

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images


@pytest.mark.parametrize("n", [N_FAKE, 30])
def test_frechet_distance_of_torch_fidelity(n: int) -> None:
    """Checks: TTUR Frechet inception distance"""
    peer = pytest.importorskip("torch_fidelity.metric_fid")
    statistics = [peer.fid_features_to_statistics(rows) for rows in (FAKE[:n], REAL)]
    expected = peer.fid_statistics_to_metric(*statistics, verbose=False)[peer.KEY_METRIC_FID]
    assert frechet_distance(REAL, FAKE[:n]).value == pytest.approx(expected, rel=1e-9 if n > WIDTH else 1e-6)


@pytest.mark.parametrize("n", [N_FAKE, 30])
@pytest.mark.parametrize(
    ("module", "function"),
    [("cleanfid.fid", "frechet_distance"), ("pytorch_fid.fid_score", "calculate_frechet_distance")],
)
def test_frechet_distance_of_clean_fid_and_pytorch_fid(module: str, function: str, n: int) -> None:
    """Checks: TTUR Frechet inception distance"""
    linalg, peer = pytest.importorskip("scipy.linalg"), pytest.importorskip(module)
    if "disp" not in inspect.signature(linalg.sqrtm).parameters:
        pytest.skip(f"{module} calls sqrtm(disp=False), which this SciPy no longer has")
    expected = getattr(peer, function)(*moments(FAKE[:n]), *moments(REAL))
    assert frechet_distance(REAL, FAKE[:n]).value == pytest.approx(expected, rel=1e-9 if n > WIDTH else 1e-4)


def test_frechet_distance_of_torchmetrics() -> None:
    """Checks: TTUR Frechet inception distance"""
    peer = pytest.importorskip("torchmetrics.image.fid")
    metric = peer.FrechetInceptionDistance(feature=Given()).set_dtype(torch.float64)
    for rows, real in ((REAL, True), (FAKE, False)):
        for batch in rows.split(128):
            metric.update(batch, real=real)
    assert frechet_distance(REAL, FAKE).value == pytest.approx(metric.compute().item(), rel=1e-7)


@pytest.mark.parametrize("kernel", [None, Gaussian(0.5)])
def test_kernel_distance_of_torch_fidelity_on_its_subsets(kernel: Gaussian | None) -> None:
    """Checks: KID polynomial kernel discrepancy"""
    peer = pytest.importorskip("torch_fidelity.metric_kid")
    options = {"kid_subsets": 9, "kid_subset_size": 200, "rng_seed": 4, "verbose": False}
    options |= {} if kernel is None else {"kid_kernel": "rbf", "kid_kernel_rbf_sigma": kernel.sigma}
    expected = peer.kid_features_to_metric(FAKE, REAL, **options)
    generator = np.random.RandomState(4)
    values = []
    for _ in range(9):
        fake = FAKE[generator.choice(N_FAKE, 200, replace=False)]
        real = REAL[generator.choice(N_REAL, 200, replace=False)]
        values.append(polynomial_discrepancy(real, fake) if kernel is None else discrepancy(real, fake, kernel))
    assert np.mean(values) == pytest.approx(expected[peer.KEY_METRIC_KID_MEAN], rel=1e-9)
    assert np.std(values) == pytest.approx(expected[peer.KEY_METRIC_KID_STD], rel=1e-9)


def test_kernel_distance_of_clean_fid_on_its_subsets() -> None:
    """Checks: KID polynomial kernel discrepancy"""
    peer = pytest.importorskip("cleanfid.fid")
    np.random.seed(5)  # noqa: NPY002
    expected = peer.kernel_distance(FAKE.numpy(), REAL.numpy(), num_subsets=7, max_subset_size=150)
    generator = np.random.RandomState(5)
    values = []
    for _ in range(7):
        real = REAL[generator.choice(N_REAL, 150, replace=False)]
        values.append(polynomial_discrepancy(real, FAKE[generator.choice(N_FAKE, 150, replace=False)]))
    assert np.mean(values) == pytest.approx(expected, rel=1e-9)


def test_kernel_distance_of_torchmetrics_draws_the_same_subsets() -> None:
    """Checks: KID polynomial kernel discrepancy"""
    peer = pytest.importorskip("torchmetrics.image.kid")
    metric = peer.KernelInceptionDistance(feature=Given(), subsets=6, subset_size=120).set_dtype(torch.float64)
    metric.update(REAL, real=True)
    metric.update(FAKE, real=False)
    torch.manual_seed(6)
    expected = metric.compute()[0].item()
    score = kernel_distance(REAL, FAKE, subsets=6, subset_size=120, generator=torch.Generator().manual_seed(6))
    assert score.value == pytest.approx(expected, rel=1e-6)


def test_inception_score_of_torch_fidelity() -> None:
    """Checks: Inception Score definition"""
    peer = pytest.importorskip("torch_fidelity.metric_isc")
    expected = peer.isc_features_to_metric(LOGITS, splits=7, shuffle=True, rng_seed=8)
    shuffled = LOGITS[np.random.RandomState(8).permutation(N_FAKE)]
    assert inception_score(shuffled, splits=7).value == pytest.approx(expected[peer.KEY_METRIC_ISC_MEAN], rel=1e-9)
    deviation = split_scores(shuffled, splits=7).std(correction=0).item()
    assert deviation == pytest.approx(expected[peer.KEY_METRIC_ISC_STD], rel=1e-9)


def test_inception_score_of_torchmetrics_shuffles_alike() -> None:
    """Checks: Inception Score definition"""
    peer = pytest.importorskip("torchmetrics.image.inception")
    metric = peer.InceptionScore(feature=Given(), splits=6).set_dtype(torch.float64)
    metric.update(LOGITS)
    torch.manual_seed(9)
    expected = metric.compute()[0].item()
    generator = torch.Generator().manual_seed(9)
    assert inception_score(LOGITS, splits=6, generator=generator).value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("k", [1, 3, 8])
def test_precision_and_recall_of_torch_fidelity(k: int) -> None:
    """Checks: Precision and Recall precision and recall"""
    peer = pytest.importorskip("torch_fidelity.metric_prc")
    expected = peer.prc_features_to_metric(
        FAKE, REAL, prc_neighborhood=k, prc_batch_size=250, save_cpu_ram=True, verbose=False
    )
    scores = precision_recall(REAL, FAKE, neighbours=k, arithmetic=EXACT)
    assert scores.precision.value == pytest.approx(expected[peer.KEY_METRIC_PRECISION], rel=1e-6)
    assert scores.recall.value == pytest.approx(expected[peer.KEY_METRIC_RECALL], rel=1e-6)


@pytest.mark.parametrize("trunk", [ALEX, VGG, SQUEEZE], ids=lambda trunk: trunk.name)
def test_lpips_with_its_own_heads_on_a_random_trunk(trunk: Trunk) -> None:
    """Checks: LPIPS distance"""
    peer = pytest.importorskip("lpips")
    torch.manual_seed(0)
    model = peer.LPIPS(net=trunk.name, pnet_rand=True, verbose=False)
    first, second = 2 * torch.rand(2, 2, 3, 48, 40, generator=torch.Generator().manual_seed(1)) - 1
    with torch.no_grad():
        expected = model(first, second).flatten()
    ours = lpips_from_state_dicts(trunk, model.state_dict())
    torch.testing.assert_close(ours(first, second), expected, rtol=1e-5, atol=1e-8)


def test_structural_similarity_and_signal_to_noise_of_torchmetrics() -> None:
    """The peer averages over a mirrored border of 5 pixels too; the paper's own code does not, nor do we.

    Checks: SSIM definition
    """
    peer = pytest.importorskip("torchmetrics.functional.image")
    generator = torch.Generator().manual_seed(0)
    real = torch.randint(0, 256, (3, 3, 24, 31), generator=generator)
    noise = torch.randint(-40, 41, real.shape, generator=generator)
    pair = real.to(torch.uint8), (real + noise).clamp(0, 255).to(torch.uint8)
    options = {"data_range": 255.0, "reduction": "none"}
    sides = [side.double() for side in pair]
    _, everywhere = peer.structural_similarity_index_measure(*sides, return_full_image=True, **options)
    expected = everywhere[..., 5:-5, 5:-5].mean(dim=(1, 2, 3))
    torch.testing.assert_close(ssim(*pair), expected, rtol=1e-9, atol=0.0)
    expected = peer.peak_signal_noise_ratio(*sides, dim=(1, 2, 3), **options)
    torch.testing.assert_close(psnr(*pair), expected, rtol=1e-6, atol=0.0)
