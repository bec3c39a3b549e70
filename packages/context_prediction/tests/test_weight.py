import math

import pytest
import torch

from context_prediction import Constant, Linear, Signal, total_loss


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


def test_a_weight_may_be_nothing():
    t, levels = torch.tensor([0, 1]), torch.tensor([1.0, 0.0])
    assert Signal(0.5, levels)(t).tolist() == [0.5, 0.0]
    assert Linear(0.5, 1)(t).tolist() == [0.5, 0.0]
    assert Constant(0.0)(t).tolist() == [0.0, 0.0]


def test_levels_and_steps_are_checked():
    with pytest.raises(ValueError, match="levels"):
        Signal(0.1, torch.tensor([1.0, -0.1]))
    with pytest.raises(ValueError, match="T is 0"):
        Linear(0.1, 0)


@pytest.mark.parametrize("weight", [Constant(0.3), Linear(0.5, 10), lambda t: 1 / (1 + t.float())])
def test_the_total_is_the_base_and_the_weighted_context(weight):
    """By loops, with gradients to both; the terms are means and carry none.

    Checks: ConPreDiff discrete objective, continuous objective, time weight
    """
    t = torch.tensor([0, 3, 10])
    base, context = torch.rand(3, requires_grad=True), torch.rand(3, requires_grad=True)
    total = total_loss(base, context, weight(t))
    expected = [base[i].item() + weight(t)[i].item() * context[i].item() for i in range(3)]
    assert total.loss.tolist() == pytest.approx(expected)
    assert {name: float(value) for name, value in total.terms.items()} == pytest.approx(
        {"loss": sum(expected) / 3, "loss/base": base.mean().item(), "loss/context": context.mean().item()}
    )
    assert not any(value.requires_grad for value in total.terms.values())
    total.loss.sum().backward()
    assert torch.equal(base.grad, torch.ones(3)) and torch.equal(context.grad, weight(t))


def test_a_base_that_is_already_a_mean_gives_the_same_mean():
    base, context, weights = torch.rand(3, 4, dtype=torch.float64)
    whole, mean = total_loss(base, context, weights), total_loss(base.mean(), context, weights)
    torch.testing.assert_close(mean.loss.mean(), whole.loss.mean())
    torch.testing.assert_close(dict(mean.terms), dict(whole.terms))


@pytest.mark.parametrize(("value", "written"), [(-0.1, "-0.1"), (math.nan, "nan"), (math.inf, "inf")])
def test_a_refused_weight_is_named_where_it_is_used(value, written):
    weights = torch.tensor([0.1, value, 0.2], dtype=torch.float64)
    with pytest.raises(
        ValueError, match=rf"weights \(3,\) holds {written}: .* not negative; look at its .* times are in its range$"
    ):
        total_loss(torch.ones(3), torch.ones(3), weights)
    unchecked = total_loss(torch.ones(3), torch.ones(3), weights, check_finite=False).loss
    assert torch.equal(unchecked, 1 + weights) or math.isnan(value)


def test_times_beyond_the_last_make_a_linear_weight_that_is_refused():
    with pytest.raises(ValueError, match="holds -0.5"):
        total_loss(torch.ones(1), torch.ones(1), Linear(1.0, 10)(torch.tensor([15])))


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("shapes", [((3,), (3,), (3, 1)), ((3, 1), (3,), (3,)), ((3,), (3,), ()), ((3,), (), ())])
def test_shapes_that_would_mix_the_examples_are_refused(shapes):
    with pytest.raises(ValueError, match="one number per example"):
        total_loss(*(torch.ones(shape) for shape in shapes))
