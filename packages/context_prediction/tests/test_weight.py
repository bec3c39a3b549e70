import math

import pytest
import torch

from context_prediction import Constant, Linear, Signal


def test_weights_follow_their_formulas():
    """Checks: ConPreDiff time weight"""
    t = torch.tensor([0, 1, 5, 10])
    levels = torch.cos(torch.linspace(0, math.pi / 2, 11, dtype=torch.float64)).square()
    assert Constant(0.3)(t).tolist() == pytest.approx([0.3] * 4)
    assert Linear(0.5, 10)(t).tolist() == pytest.approx([0.5, 0.45, 0.25, 0.0])
    assert Signal(0.1, levels)(t).tolist() == pytest.approx([0.1 * math.cos(s * math.pi / 20) ** 2 for s in t.tolist()])


@pytest.mark.parametrize("weight", [Constant(1.0), Linear(1.0, 4), Signal(1.0, torch.ones(5, dtype=torch.float64))])
def test_weights_are_single_precision_per_example(weight):
    weighed = weight(torch.tensor([1, 2, 4]))
    assert weighed.dtype == torch.float32 and weighed.shape == (3,)


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
@pytest.mark.parametrize("make", [Constant, lambda v: Linear(v, 3), lambda v: Signal(v, torch.ones(2))])
def test_negative_and_non_finite_weights_are_refused(make, value):
    with pytest.raises(ValueError, match="finite and not negative"):
        make(value)


def test_levels_and_steps_are_checked():
    with pytest.raises(ValueError, match="levels"):
        Signal(0.1, torch.tensor([1.0, -0.1]))
    with pytest.raises(ValueError, match="T is 0"):
        Linear(0.1, 0)
