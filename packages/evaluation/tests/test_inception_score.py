"""The Inception Score in cases known by hand, its interval against the bootstrap, and published implementations."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from diffusion_evaluation import Space, inception_score, log_probabilities, split_scores

GOLDEN = Path(__file__).resolve().parents[3].parent / "shared" / "reference" / "golden" / "metrics"


def drawn(n: int, classes: int, seed: int) -> torch.Tensor:
    return 2 * torch.randn(n, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_sure_and_even_gives_the_number_of_classes_and_unsure_gives_one() -> None:
    """Checks: Inception Score definition"""
    sure = torch.eye(6, dtype=torch.float64).repeat(4, 1)
    assert inception_score(log_probabilities(sure), splits=1).value == pytest.approx(6, rel=1e-12)
    assert inception_score(torch.zeros(20, 6), splits=4).value == pytest.approx(1, rel=1e-12)


def test_is_the_exponent_of_the_mean_divergence_of_each_split() -> None:
    """Checks: Inception Score definition"""
    p = drawn(11, 5, 0).softmax(1)
    expected = []
    for part in (p[:3], p[3:7], p[7:]):
        mean = part.mean(0)
        divergence = sum((a * math.log(a / b)).item() for row in part for a, b in zip(row, mean, strict=True))
        expected.append(math.exp(divergence / len(part)))
    assert split_scores(log_probabilities(p), splits=3).tolist() == pytest.approx(expected, rel=1e-12)
    score = inception_score(log_probabilities(p).float(), splits=3, space=Space("toy"))
    assert score.value == pytest.approx(sum(expected) / 3, rel=1e-6)
    assert str(score).startswith("IS[toy, 3 splits, N=11] ")


def test_logits_are_unmoved_by_a_shift_and_equal_their_probabilities() -> None:
    logits = drawn(40, 7, 1)
    score = inception_score(logits)
    assert inception_score(logits + 100).value == pytest.approx(score.value, rel=1e-12)
    assert inception_score(log_probabilities(logits.softmax(1))).value == pytest.approx(score.value, rel=1e-12)


def test_the_interval_is_as_wide_as_the_spread_over_new_samples() -> None:
    """Over 400 fresh sets of 2 x 250 rows the standard deviation is the one that a single set tells, to 15 %."""
    values = [inception_score(drawn(500, 5, seed), splits=2).value for seed in range(400)]
    score = inception_score(drawn(500, 5, 1000), splits=2)
    assert score.low is not None
    assert (score.value - score.low) / 1.959964 == pytest.approx(float(np.std(values)), rel=0.15)


def test_shuffling_is_seeded_and_splits_of_one_row_have_no_interval() -> None:
    logits = drawn(60, 4, 2).sort(dim=0).values

    def shuffled(seed: int) -> float:
        return inception_score(logits, splits=3, generator=torch.Generator().manual_seed(seed)).value

    assert shuffled(0) == shuffled(0) != shuffled(1)
    assert shuffled(0) > inception_score(logits, splits=3).value
    alone = inception_score(logits[:3], splits=3)
    assert (alone.low, alone.high) == (None, None)
    assert alone.value == pytest.approx(1)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="splits must be between 1 and the 4 rows of logits, got 5"):
        inception_score(drawn(4, 3, 0), splits=5)
    with pytest.raises(ValueError, match="level is a probability"):
        inception_score(drawn(40, 3, 0), level=2.0)
    with pytest.raises(ValueError, match="1 rows are no distributions; row 1 has minimum 0.5 and sum 1.5"):
        log_probabilities(torch.tensor([[0.5, 0.5], [0.5, 1.0]]))
    with pytest.raises(ValueError, match="row 0 has minimum -0.5"):
        log_probabilities(torch.tensor([[1.5, -0.5]]))


@pytest.mark.parity
@pytest.mark.skipif(not GOLDEN.exists(), reason="the golden files of published implementations are not here")
def test_published_implementations() -> None:
    """torch-fidelity and dgm-eval with their shuffles, and guided-diffusion's parts of 100.

    Checks: Inception Score definition
    """
    tensors = load_file(GOLDEN / "io.safetensors")
    values = json.loads((GOLDEN / "config.json").read_text())["values"]["inception_score"]
    logits = tensors["is_logits"]
    shuffled = logits[np.random.RandomState(2020).permutation(len(logits))]
    for rows, splits, name in (
        (shuffled, 10, "torch_fidelity_splits10_shuffleTrue"),
        (shuffled, 10, "dgm_eval_splits10_shuffleTrue"),
        (shuffled, 7, "torch_fidelity_splits7_shuffleTrue"),
        (logits, 10, "torch_fidelity_splits10_shuffleFalse"),
        (logits, 1, "torch_fidelity_splits1_shuffleFalse"),
    ):
        mean, deviation = values[name]
        assert inception_score(rows, splits=splits).value == pytest.approx(mean, rel=1e-9)
        assert split_scores(rows, splits=splits).std(correction=0).item() == pytest.approx(deviation, rel=1e-9)
    assert inception_score(logits, splits=6).value == pytest.approx(values["adm_split_size100"], rel=1e-9)
    probabilities = log_probabilities(tensors["is_probabilities"])
    assert inception_score(probabilities, splits=1).value == pytest.approx(values["adm_split_size5000"], rel=1e-9)
