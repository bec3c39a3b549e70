"""What a plan costs, against sums done by hand."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reproductions import costs
from reproductions.costs import Machine
from reproductions.training import TrainingSettings

SETTINGS = TrainingSettings(samples=60, batch=6, learning_rate=1.0, ema=0.9)


def chain() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 5, bias=False), nn.ReLU(), nn.Linear(5, 2, bias=False))


def test_operations_and_bytes_are_those_of_a_chain_of_layers() -> None:
    """Forwards 2 (15 + 10); backwards two products a layer, but none for the input of the first. 4 bytes a number.

    Kept: the input, and what the middle gives, which two layers share.
    """
    found = costs.training(chain, lambda: (torch.zeros(1, 3),), SETTINGS)
    assert found == {
        "parameters": 25,
        "steps": 10,
        "flops": (2 * 25 + 2 * 15 + 2 * 2 * 10) * 60,
        "state bytes": 25 * 5 * 4,
        "example bytes": (3 + 5) * 4,
        "batch": 6,
        "stored bytes": 25 * 5 * 4,
    }


def test_drawing_goes_forwards_alone() -> None:
    found = costs.sampling(chain, lambda: (torch.zeros(1, 3),), samples=7, calls=11, numbers=4)
    assert found == {"flops": 2 * 25 * 7 * 11, "stored bytes": 7 * 4 * 8}


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(4, 12, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(x).unflatten(-1, (2, 6)).transpose(1, 2).chunk(3, -1)
        return F.scaled_dot_product_attention(q, k, v)


def test_scores_of_attention_are_not_kept_and_are_counted() -> None:
    """Two heads of two: 2 n n (2 + 2) forwards in each, twice that backwards. Kept: the input, the sum, the answer."""

    def bytes_of(n: int) -> int:
        return costs.training(Attends, lambda: (torch.zeros(1, n, 4),), SETTINGS)["example bytes"]

    def flops_of(n: int) -> int:
        return costs.training(Attends, lambda: (torch.zeros(1, n, 4),), SETTINGS)["flops"] // 60

    real: Callable[..., Tensor] = F.scaled_dot_product_attention
    assert bytes_of(64) == 64 * (4 + 12 + 4) * 4
    assert flops_of(64) == 2 * 2 * 64 * 48 + 3 * 2 * 2 * 64 * 64 * 4
    assert F.scaled_dot_product_attention is real


def test_lines_say_what_a_device_holds_and_how_long_it_takes() -> None:
    size = {"flops": 36 * 10**17, "state bytes": 2**30, "example bytes": 2**29, "batch": 9, "stored bytes": 3 * 2**30}
    said = costs.lines({"train": size, "reading": {"steps": 3}}, Machine(2, 1e14))
    assert said[2].split() == ["train", "3.60e+18", "3.5", "GiB", "3.0", "GiB", "10.0"]
    assert len(said) == 4
    assert "10 device-hours at 1.0e+14 FLOP/s a device" in said[3]
    assert "0.2 days on 2 (--devices)" in said[3]


@pytest.mark.parametrize(("machine", "message"), [(Machine(0), "--devices"), (Machine(1, 0.0), "--achieved")])
def test_machines_that_are_none_are_told(machine: Machine, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        machine.check()
