"""The total loss, against its definition; the base model, which must not notice the head."""

from types import SimpleNamespace

import pytest
import torch

from context_prediction import Signal
from reproductions.experiment import Context
from reproductions.stages.context import WithContext


@pytest.fixture
def example() -> SimpleNamespace:
    generator = torch.Generator().manual_seed(0)
    return SimpleNamespace(
        t=torch.tensor([1, 5, 10]),
        loss=torch.rand(3, generator=generator),
        features=torch.randn(3, 16, 6, 6, generator=generator),
        target=torch.randn(3, 4, 6, 6, generator=generator),
        signal=torch.linspace(1, 0, 11, dtype=torch.float64),
    )


def test_the_total_is_the_weighted_sum(example: SimpleNamespace) -> None:
    """Per example the diffusion loss plus lambda_t times the context loss, then the mean.

    Checks: ConPreDiff discrete objective, continuous objective
    """
    both = WithContext(Context(stride=1, weight=0.3), features=16, target=4, signal=example.signal)
    parts = both(example, example.target, generator=torch.Generator().manual_seed(1))
    context = both.context(
        example.features, example.target, t=example.t, generator=torch.Generator().manual_seed(1)
    ).loss
    by_hand = sum(example.loss[i] + 0.3 * (1 - example.t[i] / 10) * context[i] for i in range(3)) / 3
    torch.testing.assert_close(parts["loss"], by_hand)
    torch.testing.assert_close(parts["loss/base"], example.loss.mean())
    torch.testing.assert_close(parts["loss/context"], context.mean())


def test_without_weight_it_is_the_base_loss(example: SimpleNamespace) -> None:
    both = WithContext(Context(stride=1, weight=0.0), features=16, target=4, signal=example.signal)
    parts = both(example, example.target, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(parts["loss"], example.loss.mean())


def test_the_weight_is_gone_where_nothing_is_left_of_the_image(example: SimpleNamespace) -> None:
    weight = Signal(0.1, example.signal)
    torch.testing.assert_close(weight(torch.tensor([10])), torch.zeros(1))
