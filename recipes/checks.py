"""What every recipe proves when it has run."""

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


def watch(context: nn.Module) -> list[float]:
    """The mean context loss of every step, as it is taken."""
    losses: list[float] = []
    context.register_forward_hook(lambda _, __, result: losses.append(result.loss.mean().item()))
    return losses


def falls(losses: list[float]) -> None:
    """The context loss is finite, and over the last tenth of the steps it is a tenth lower than over the first."""
    tenth = len(losses) // 10
    first, last = sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
    assert all(map(math.isfinite, losses)), losses
    print(f"context loss, {len(losses)} steps: {first:.3f} -> {last:.3f}")
    assert last < 0.9 * first, "the head has not learned"


@torch.no_grad()
def leaves_nothing(model: nn.Module, pristine: nn.Module, sample: Callable[[nn.Module], Tensor]) -> None:
    """Weights go, key for key, into a model that never met the head, and both sample the same, bit for bit."""
    alone = copy.deepcopy(pristine)
    assert list(model.state_dict()) == list(alone.state_dict())
    assert hooks(model) == hooks(alone)
    before = sample(alone)
    alone.load_state_dict(model.state_dict())
    assert torch.equal(sample(model), sample(alone))
    assert not torch.equal(sample(model), before), "the model has not been trained"


def hooks(model: nn.Module) -> list[int]:
    """The number of forward hooks of every submodule."""
    return [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
