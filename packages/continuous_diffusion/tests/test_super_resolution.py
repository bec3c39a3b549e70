"""Cascades, on denoisers that remember what they were asked."""

from typing import Any

import pytest
import torch
from torch import Tensor

from continuous_diffusion import (
    Clean,
    Condition,
    ForwardProcess,
    Objective,
    Prediction,
    Schedule,
    Stage,
    UNet,
    beside_small,
    cascade,
    sample,
)

process = ForwardProcess(Schedule.cosine(20))


class Copying:
    """Answers with the image beside the noise, or with grey."""

    def __init__(self) -> None:
        self.asked: list[tuple[Tensor, Condition]] = []

    def __call__(self, x_t: Tensor, t: Tensor, condition: Any = None) -> Prediction:
        given = Condition.of(condition)
        self.asked.append((x_t, given))
        value = torch.full_like(x_t, 0.3) if given.concat is None else given.concat
        return Prediction(value=value, features=x_t)


def stage(side: int, **options: Any) -> Stage:
    return Stage(Copying(), process, (3, side, side), target=Clean(), steps=4, **options)


def test_each_stage_reads_what_the_one_before_drew() -> None:
    """Checks: Imagen cascade"""
    stages = [stage(4), stage(16, augmentation=0), stage(64)]
    states = torch.randn(2, 5, 8)
    images = list(cascade(stages, 2, states))
    assert [tuple(one.shape) for one in images] == [(2, 3, 4, 4), (2, 3, 16, 16), (2, 3, 64, 64)]
    torch.testing.assert_close(images[-1], torch.full_like(images[-1], 0.3))
    for one, small in zip(stages[1:], images, strict=False):
        assert isinstance(one.denoiser, Copying)
        given = one.denoiser.asked[0][1]
        assert given.context is states
        torch.testing.assert_close(given.concat, beside_small(small, one.shape[1:]).concat)
    levels = [one.denoiser.asked[0][1].level for one in stages if isinstance(one.denoiser, Copying)]
    assert levels[0] is None
    assert levels[1] is not None
    assert levels[1].tolist() == [0, 0]
    assert levels[2] is None


def test_the_smaller_image_is_enlarged_and_noised_to_its_level() -> None:
    """Half of the variance is noise at the level where the signal is half.

    Checks: Imagen noise conditioning augmentation
    """
    small, level = torch.ones(2, 3, 32, 32), torch.tensor([0, 12])
    given = beside_small(small, (64, 64), Condition(classes=torch.tensor([1, 2])), process=process, level=level)
    assert given.concat is not None
    assert torch.equal(given.concat[0], torch.ones(3, 64, 64))
    signal = process.schedule.signal[12].item()
    assert given.concat[1].mean().item() == pytest.approx(signal**0.5, abs=0.03)
    assert given.concat[1].var().item() == pytest.approx(1 - signal, rel=0.05)
    assert given.level is level
    assert given.classes is not None


def test_an_image_of_the_size_is_passed_as_it_is() -> None:
    """Checks: LDM super-resolution"""
    small = torch.randn(2, 3, 8, 8)
    assert beside_small(small, (8, 8)).concat is small


def test_image_depends_on_its_own_generator_alone() -> None:
    stages = [stage(4), stage(8, augmentation=10, eta=1.0)]

    def run(seeds: list[int]) -> list[Tensor]:
        return list(cascade(stages, len(seeds), generator=[torch.Generator().manual_seed(seed) for seed in seeds]))

    for together, alone in zip(run([5, 6, 7]), run([6]), strict=True):
        assert torch.equal(together[1:2], alone)


def test_an_enlarging_unet_is_trained_and_sampled_with_the_same_condition() -> None:
    """Gradients reach every parameter, the level's included."""
    unet = UNet(
        in_channels=6,
        out_channels=3,
        channels=8,
        multipliers=(1,),
        residual_blocks=1,
        heads=1,
        groups=2,
        augmented=True,
    )
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    small, level = torch.randn(2, 3, 4, 4), torch.tensor([3, 7])
    given = beside_small(small, (8, 8), process=process, level=level)
    Objective(unet, process)(torch.randn(2, 3, 8, 8), given).loss.mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in unet.parameters())
    enlarging = Stage(unet, process, (3, 8, 8), steps=2, augmentation=5)
    first, again = (enlarging.enlarge(small, generator=torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(first, again)
    by_hand = torch.Generator().manual_seed(0)
    given = beside_small(small, (8, 8), process=process, level=torch.tensor([5, 5]), generator=by_hand)
    assert torch.equal(sample(unet, (2, 3, 8, 8), given, process=process, steps=2, generator=by_hand), first)


def test_wrong_inputs_are_named() -> None:
    with pytest.raises(ValueError, match=r"step 21 is not one of 0\.\.20"):
        stage(4, augmentation=21)
    with pytest.raises(ValueError, match="none smaller"):
        cascade([stage(8), stage(4)], 1)
    with pytest.raises(ValueError, match="at least one"):
        cascade([], 1)
    small = torch.zeros(1, 3, 4, 4)
    with pytest.raises(ValueError, match="takes a process"):
        beside_small(small, (8, 8), level=torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ValueError, match="something in concat"):
        beside_small(small, (8, 8), Condition(concat=small))
