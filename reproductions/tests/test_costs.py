"""What a plan costs, against sums done by hand."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reproductions import costs
from reproductions.conditioning import Conditioning, Kind
from reproductions.costs import Machine
from reproductions.loop.steps import TrainingSettings
from reproductions.profiles import PROFILES
from reproductions.recipes import scale_recipes
from reproductions.stages import autoencoding, painting, scale_costs, scale_denoising
from reproductions.stages.evaluating import REPAINT_MASKS
from reproductions.table2 import table2
from reproductions.table_options import InpaintingTableOptions
from reproductions.table_profiles import Repainting

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


def test_networks_that_are_alike_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: calls counted. Another width, or another example, is counted anew."""
    counted: list[int] = []

    def count(network: nn.Module, given: tuple[Tensor, ...]) -> int:
        counted.append(1)
        return len(counted)

    monkeypatch.setattr(costs, "COUNTED", {})
    with torch.device("meta"):
        widths, examples = (3, 3, 4, 4), (1, 1, 1, 2)
        made = [(nn.Linear(2, width), torch.zeros(b, 2)) for width, b in zip(widths, examples, strict=True)]
    assert [costs.once(count, network, (given,)) for network, given in made] == [1, 1, 2, 3]


def test_lines_say_what_a_device_holds_and_how_long_it_takes() -> None:
    size = {"flops": 36 * 10**17, "state bytes": 2**30, "example bytes": 2**29, "batch": 9, "stored bytes": 3 * 2**30}
    said = costs.lines({"train": size, "reading": {"steps": 3}}, Machine(2, 1e14))
    assert said[2].split() == ["train", "3.60e+18", "3.5", "GiB", "3.0", "GiB", "10.0"]
    assert len(said) == 4
    assert "10 device-hours at 1.0e+14 FLOP/s a device" in said[3]
    assert "0.2 days on 2 (--devices)" in said[3]


def chain_of_scales() -> scale_denoising.Training:
    return scale_denoising.Training(
        scale_recipes.chain("smoke-2", codes=32, grid=(4, 4), classes=0), Conditioning(Kind.NONE)
    )


def test_scales_are_counted_one_by_one_and_drawn_in_one_pass_each() -> None:
    """Oracle: the scales' own counts, added; their forward pass is a third of what training counts of products."""
    training = chain_of_scales()
    recipe = training.chain.training
    each = [scale_denoising.ScaleTraining(training.chain, training.told, t) for t in (1, 2)]
    trained = [scale_costs.cost(one) for one in each]
    assert [size["parameters"] for size in trained] == [scale_costs.size(one)["parameters"] for one in each]
    once = scale_costs.drawing_cost(training, number=1)
    steps = sum(size["flops"] for size in trained) / (recipe.batch * recipe.steps)
    assert steps / 3.2 < once["flops"] < steps / 2.8
    thrice = scale_costs.drawing_cost(training, number=5, passes=3)
    assert thrice == {"flops": 15 * once["flops"], "stored bytes": 5 * 16 * 8}


@pytest.mark.parametrize("count", [autoencoding.vq_cost, autoencoding.kl_cost])
def test_first_stages_are_counted_there_and_back(count: Callable[..., costs.Size]) -> None:
    """Oracle: the parameters of the plan; twice the pictures take twice the operations, and as much memory each."""
    smoke = PROFILES["smoke"]
    stage = smoke.vq if count is autoencoding.vq_cost else smoke.kl
    size = autoencoding.vq_size if count is autoencoding.vq_cost else autoencoding.kl_size
    kept = autoencoding.Reconstructing(stage, 1)
    found = count(kept)
    assert found["parameters"] == size(kept)["parameters"]
    double = replace(stage, training=replace(stage.training, batch=2 * stage.training.batch))
    twice = count(replace(kept, stage=replace(double, training=replace(double.training, samples=96))))
    assert twice["flops"] == 2 * found["flops"] > 0
    assert twice["example bytes"] == found["example bytes"] > 3 * 32 * 32 * 4


def test_filling_in_asks_at_every_step_down() -> None:
    """RePaint's published walk of 250 steps has 2410 calls; guidance doubles, and mixing has a call a step.

    Checks: RePaint jump schedule
    """
    how = Repainting(number=1, steps=250, length=10, passes=10)
    jumping = painting.Painting(None, REPAINT_MASKS[0], how, 1.0, 0, 1, jumps=True)
    assert jumping.calls(None) == 2410
    mixing = replace(jumping, jumps=False, guidance=2.0)
    assert mixing.calls(None) == 500


def test_tables_say_what_they_cost(capsys: pytest.CaptureFixture[str]) -> None:
    options = InpaintingTableOptions(profile="smoke", dry_run=True, devices=2)
    assert table2(options) == 0
    said = capsys.readouterr().out
    priced = [line for line in said.splitlines() if re.search(r"e\+\d\d ", line)]
    for name in ("token autoencoder", "DDPM seed 0 wide", "VQ-Diffusion seed 0 half", "ImageBART seed 0 scale 2 train"):
        assert any(line.startswith(name) for line in priced), name
    assert "device-hours" in said
    assert "on 2 (--devices)" in said
    assert table2(replace(options, devices=0)) == 2
    assert "--devices must be at least 1" in capsys.readouterr().err


@pytest.mark.parametrize(("machine", "message"), [(Machine(0), "--devices"), (Machine(1, 0.0), "--achieved")])
def test_machines_that_are_none_are_told(machine: Machine, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        machine.check()
