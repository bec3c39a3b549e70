"""Shares of a batch draw what the whole batch draws."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch import Tensor

from reproductions.loop.plateau import Plateau
from reproductions.loop.shares import Share, shares
from reproductions.loop.steps import AdversarialStep, GradientStep, TrainingSettings
from reproductions.training import train

DRAWS: dict[str, Callable[[int, torch.Generator], Tensor]] = {
    "randn": lambda b, source: torch.randn(b, 3, generator=source),
    "rand of a shape": lambda b, source: torch.rand((b, 2), dtype=torch.float64, generator=source),
    "randint": lambda b, source: torch.randint(1, 9, (b, 2), generator=source),
    "randint below": lambda b, source: torch.randint(9, (b,), generator=source),
    "multinomial": lambda b, source: torch.multinomial(torch.ones(5), b, replacement=True, generator=source),
    "in place": lambda b, source: torch.empty(b, 16).normal_(generator=source),
    "parts of examples": lambda b, source: torch.empty(4 * b, 4).exponential_(generator=source).unflatten(0, (b, 4)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_shares_are_rows_of_what_the_whole_draws(name: str) -> None:
    """Oracle: the whole, drawn without shares; two numbers are drawn, so that the second is in step too."""

    def draw(b: int) -> tuple[Tensor, Tensor]:
        source = torch.Generator().manual_seed(3)
        return DRAWS[name](b, source), DRAWS[name](b, source)

    whole = draw(6)
    for index in range(3):
        share = Share(index, 3)
        with share.drawn(2):
            for drawn, every in zip(draw(2), whole, strict=True):
                assert torch.equal(drawn, share.of(every))


def test_what_has_no_row_for_an_example_is_the_same_for_all() -> None:
    source = [torch.Generator().manual_seed(0) for _ in range(2)]
    alone = torch.randint(100, (), generator=source[0]), torch.randn(3, generator=source[0])
    with Share(1, 2).drawn(2):
        shared = torch.randint(100, (), generator=source[1]), torch.randn(3, generator=source[1])
    assert torch.equal(alone[0], shared[0]) and torch.equal(alone[1], shared[1])


def test_an_uneven_batch_is_refused() -> None:
    accelerator = Accelerator(cpu=True)
    assert shares(accelerator, 7) == [Share(0, 1)]
    accelerator.gradient_state.plugin_kwargs["num_steps"] = 2
    with pytest.raises(ValueError, match="7 is not shared evenly by 1 ranks in 2 parts.*multiple of 2"):
        shares(accelerator, 7)


class Regression(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)

    def forward(self, x: Tensor, *, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        noise = torch.randn(len(x), 1, generator=generator)
        return {"loss": (self.layer(x) - 0.1 * noise).square().mean()}


@pytest.fixture
def accelerators():
    def make(parts: int) -> Accelerator:
        AcceleratorState._reset_state()
        GradientState._reset_state()
        return Accelerator(cpu=True, gradient_accumulation_steps=parts)

    yield make
    AcceleratorState._reset_state()
    GradientState._reset_state()


def test_parts_of_a_batch_train_what_the_batch_does(accelerators, tmp_path: Path) -> None:
    """Oracle: the whole batch at once; with averaged weights, a bound on gradients and a rate that falls."""
    data = torch.randn(12, 3, generator=torch.Generator().manual_seed(1))
    settings = TrainingSettings(samples=64, batch=8, learning_rate=1e-2, warmup=8, ema=0.9, log_every=2, clip=0.1)
    settings = replace(settings, plateau=Plateau(patience=8, threshold=0.5))
    found = {}
    for parts in (1, 2, 4):
        accelerator, folder = accelerators(parts), tmp_path / str(parts)
        folder.mkdir()
        torch.manual_seed(0)
        step = GradientStep(Regression(), settings, accelerator)
        logged = [dict(terms) for _, terms in train(step, lambda i, _: (data[i],), 12, settings, folder, accelerator)]
        found[parts] = logged, step.result.layer.weight.detach().clone(), step.slowed.scale
    assert found[1][2] < 1
    for parts in (2, 4):
        for one, other in zip(found[1][0], found[parts][0], strict=True):
            assert other == pytest.approx(one, rel=1e-5)
        torch.testing.assert_close(found[parts][1], found[1][1], rtol=1e-5, atol=1e-7)
        assert found[parts][2] == found[1][2]


def test_an_adversary_is_not_taken_apart(accelerators, tmp_path: Path) -> None:
    settings = TrainingSettings(samples=8, batch=4, learning_rate=1e-2)
    parts = (torch.nn.Linear(1, 1), torch.nn.Linear(1, 1))
    accelerator = accelerators(2)
    step = AdversarialStep(Regression(), Regression(), parts, settings, accelerator)
    with pytest.raises(ValueError, match="leave gradient accumulation out"):
        next(train(step, lambda i, _: (torch.zeros(len(i), 3),), 8, settings, tmp_path, accelerator))
