"""The loop: every step is a function of (seed, step); a killed run ends as one that never was."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from reproductions import ranks, training
from reproductions.loop.averages import Average
from reproductions.loop.history import History
from reproductions.loop.plateau import Plateau, PlateauRate
from reproductions.loop.steps import GradientStep, TrainingSettings
from reproductions.loop.streams import shuffled, stream
from reproductions.training import train

SETTINGS = TrainingSettings(samples=80, batch=4, learning_rate=1e-2, warmup=8, ema=0.9, log_every=3, seed=7)
DATA = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))


class Regression(nn.Module):
    """A noisy least-squares problem: its loss draws from the step's generator."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, x: Tensor, *, step: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        noise = torch.randn(len(x), 1, generator=generator)
        return {"loss": (self.layer(x) - x.sum(1, keepdim=True) - 0.1 * noise).square().mean()}


def start(folder: Path, settings: TrainingSettings = SETTINGS):
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True)
    step = GradientStep(Regression(), settings, accelerator)
    return step, train(step, lambda i, generator: (DATA[i],), len(DATA), settings, folder, accelerator)


FALLING = replace(SETTINGS, final_fraction=1.0, plateau=Plateau(patience=8, threshold=0.5), ema_interval=6, log_every=2)


@pytest.mark.parametrize("settings", [SETTINGS, FALLING], ids=["cosine", "plateau"])
def test_an_interrupted_run_ends_bit_identical(settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "SAVE_EVERY_SECONDS", 0.0)
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole, steps = start(tmp_path / "whole", settings)
    assert [index for index, _ in steps] == list(range(20))
    for stop in (5, 11):
        _, steps = start(tmp_path / "killed", settings)
        for index, _ in steps:
            if index == stop:
                break
    resumed, steps = start(tmp_path / "killed", settings)
    assert next(iter(steps))[0] in (10, 11)
    for _ in steps:
        pass
    for name, value in whole.result.state_dict().items():
        assert torch.equal(value, resumed.result.state_dict()[name]), name
    curves = [(tmp_path / run / "curves.json").read_text() for run in ("whole", "killed")]
    assert curves[0] == curves[1]
    again, steps = start(tmp_path / "killed", settings)
    assert list(steps) == []
    assert all(torch.equal(value, again.result.state_dict()[name]) for name, value in whole.result.state_dict().items())
    assert (tmp_path / "killed" / "curves.json").read_text() == curves[0]
    if settings.plateau is not None:
        assert whole.slowed.scale < 1
        assert whole.slowed.scale == resumed.slowed.scale
        assert whole.average.updates == 4


@pytest.mark.parametrize("patience", [0, 1, 4])
def test_plateaus_are_those_of_torch(patience: int) -> None:
    """Checks: VQ-Diffusion training recipe."""
    plateau = Plateau(patience=patience, threshold=0.1, factor=0.5, least=0.1)
    ours = PlateauRate(plateau, batch=1, first=0, every=1)
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, patience=patience, threshold=0.1, min_lr=0.1, factor=0.5
    )
    losses = 1 / (1 + 0.2 * torch.arange(40)) + 0.1 * torch.randn(40, generator=torch.Generator().manual_seed(1))
    accelerator = Accelerator(cpu=True)
    seen = set()
    for index, loss in enumerate(losses):
        ours.watch(loss, index, accelerator)
        theirs.step(float(loss))
        assert ours(1.0) == pytest.approx(theirs.get_last_lr()[0])
        seen.add(ours(1.0))
    assert len(seen) > 2


def test_the_loss_of_the_warm_up_is_not_watched() -> None:
    rate = PlateauRate(Plateau(patience=0), batch=1, first=3, every=1)
    for index, loss in enumerate([0.1, 0.1, 0.1, 5.0, 4.0, 3.0]):
        rate.watch(torch.tensor(loss), index, Accelerator(cpu=True))
    assert rate(1.0) == 1.0
    assert rate.best == 3.0


def test_the_warm_up_begins_where_it_is_told() -> None:
    settings = TrainingSettings(samples=100, batch=2, learning_rate=1e-4, warmup=20, warmup_from=2.5e-6)
    expected = torch.linspace(2.5e-6, 1e-4, 11, dtype=torch.float64)[1:]
    torch.testing.assert_close(torch.tensor([settings.rate(i) for i in range(10)], dtype=torch.float64), expected)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "SAVE_EVERY_SECONDS", 0.0)
    _, steps = start(tmp_path)
    for index, _ in steps:
        if index == 3:
            break
    _, steps = start(tmp_path, replace(SETTINGS, learning_rate=0.5))
    with pytest.raises(ValueError, match="other settings"):
        next(iter(steps))


def test_ways_of_parting_networks_that_are_not_followed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    ranks.check_ways()
    assert not ranks.parted()
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="version 1 of FSDP.*--fsdp_version 2"):
        ranks.check_ways()
    monkeypatch.setenv("FSDP_VERSION", "2")
    ranks.check_ways()
    assert ranks.parted()
    with ranks.whole():
        assert not ranks.parted()
    assert ranks.parted()
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(ValueError, match="set up for DeepSpeed.*--multi_gpu"):
        ranks.check_ways()


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    _, steps = start(tmp_path, replace(SETTINGS, learning_rate=math.inf, clip=None))
    with pytest.raises(FloatingPointError, match="learning rate"):
        list(steps)


def test_each_pass_sees_every_example_once() -> None:
    drawn = torch.cat([shuffled(10, 4, step, seed=3) for step in range(10)])
    for epoch in drawn.split(10):
        assert sorted(epoch.tolist()) == list(range(10))
    assert not torch.equal(drawn[:10], drawn[10:20])


def test_random_streams_differ_by_seed_step_and_rank() -> None:
    draws = {
        torch.randn((), generator=stream(seed, step, rank, torch.device("cpu"))).item()
        for seed in (0, 1)
        for step in (0, 1)
        for rank in (0, 1)
    }
    assert len(draws) == 8


def test_the_average_equals_its_closed_form() -> None:
    module = nn.Linear(1, 1, bias=False)
    averaged = Average(module, 0.5)
    values = [1.0, 2.0, 4.0, 8.0, 16.0]
    expected = values[0]
    for count, value in enumerate(values):
        nn.init.constant_(module.weight, value)
        averaged.update()
        if count:
            beta = min(0.5, (1 + count) / (10 + count))
            expected = beta * expected + (1 - beta) * value
    assert averaged.values["weight"].item() == pytest.approx(expected, rel=1e-6)


def test_the_learning_rate_warms_up_and_decays() -> None:
    settings = replace(SETTINGS, samples=400, final_fraction=0.1)
    rates = [settings.rate(step) for step in range(settings.steps)]
    assert rates[:2] == pytest.approx([0.005, 0.01])
    assert rates[2:] == sorted(rates[2:], reverse=True)
    halfway = 2 + (settings.steps - 2) // 2
    assert settings.rate(halfway) == pytest.approx(0.01 * (0.1 + 0.9 * 0.5))
    assert settings.rate(settings.steps) == pytest.approx(0.001)


def test_the_logged_means_are_means() -> None:
    history = History()
    for value in (1.0, 2.0, 6.0):
        history.add({"loss": torch.tensor(value)})
    assert history.close(3, Accelerator(cpu=True)) == {"loss": 3.0}
    assert history.rows == [{"step": 3, "loss": 3.0}]
