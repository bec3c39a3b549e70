"""CMMD against its sums written out, the spread over new samples, and the published implementation."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from diffusion_evaluation import Space, cmmd, unit_rows
from diffusion_evaluation.cmmd import _means as means
from diffusion_evaluation.kernel_distance import Gaussian

GOLDEN = Path(__file__).resolve().parents[3].parent / "shared" / "reference" / "golden" / "metrics"


def drawn(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_equals_the_sums_over_all_pairs() -> None:
    """Checks: CMMD estimator"""
    x, y = 5 * drawn(6, 3, 0), 5 * drawn(4, 3, 1) + 2

    def mean(a: torch.Tensor, b: torch.Tensor) -> float:
        return sum(math.exp(-(p - q).square().sum().item() / 200) for p in a for q in b) / (len(a) * len(b))

    score = cmmd(x, y, space=Space("toy"))
    assert score.value == pytest.approx(1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y)), rel=1e-12)
    assert str(score).startswith("CMMD[toy, x1e3, N=6/4] ")
    assert cmmd(y, x).value == pytest.approx(score.value, rel=1e-12)
    assert cmmd(x, x).value == 0
    assert cmmd(x[:1], y[:1]).low is None


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = drawn(11, 3, 0), drawn(8, 3, 1)
    whole = means(x, y, Gaussian(1.0))
    monkeypatch.setattr(sys.modules["diffusion_evaluation.cmmd"], "_ROWS_AT_ONCE", 3)
    for ours, expected in zip(means(x, y, Gaussian(1.0)), whole, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-13, atol=0.0)


def test_the_interval_is_as_wide_as_the_spread_over_new_samples() -> None:
    """Over 300 fresh pairs of sets the standard deviation is the one that a single pair tells, to 20 %."""
    values = [cmmd(4 * drawn(120, 3, s), 4 * drawn(80, 3, 1000 + s) + 5).value for s in range(300)]
    score = cmmd(4 * drawn(120, 3, 5000), 4 * drawn(80, 3, 6000) + 5)
    assert score.low is not None
    assert (score.value - score.low) / 1.959964 == pytest.approx(float(np.std(values)), rel=0.2)


def test_unit_rows_have_length_one_and_keep_their_direction() -> None:
    rows = drawn(5, 4, 0).float()
    unit = unit_rows(rows)
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(unit * rows.norm(dim=1, keepdim=True), rows)
    rows[3] = 0
    with pytest.raises(ValueError, match="embeddings: 1 rows are zero, without direction; the first is row 3"):
        unit_rows(rows)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="real features have width 3, fake ones 4"):
        cmmd(drawn(5, 3, 0), drawn(5, 4, 0))
    with pytest.raises(ValueError, match="level is a probability"):
        cmmd(drawn(5, 3, 0), drawn(5, 3, 0), level=0.0)


@pytest.mark.parity
@pytest.mark.skipif(not GOLDEN.exists(), reason="the golden files of published implementations are not here")
def test_the_published_implementation() -> None:
    """Checks: CMMD estimator"""
    tensors = load_file(GOLDEN / "io.safetensors")
    real, fake = tensors["features_real"], tensors["features_fake"]
    values = json.loads((GOLDEN / "config.json").read_text())["values"]["cmmd"]
    assert cmmd(real, fake).value == pytest.approx(values["cmmd_pytorch_float64"], rel=1e-9)
    assert cmmd(real, fake).value == pytest.approx(values["cmmd_pytorch_float32"], abs=1e-3)
    unit = cmmd(unit_rows(real.double()), unit_rows(fake.double())).value
    assert unit == pytest.approx(values["unit_norm_rows_float64"], rel=1e-9)
