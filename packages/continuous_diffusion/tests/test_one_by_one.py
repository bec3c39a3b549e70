"""An image is the same bytes alone, among eight, in another order, and on another rank."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from continuous_diffusion import (
    Condition,
    ForwardProcess,
    Guided,
    Jump,
    OneByOne,
    Prediction,
    PredictionWithVariance,
    Resampling,
    Schedule,
    UNet,
    ancestral,
    ddim,
    dpm_solver,
    heun,
    inpaint,
    plms,
    sample,
)
from continuous_diffusion.solvers import Solver

SCRIPT = Path(__file__).with_name("sample_ranks.py")
SMALL: dict[str, Any] = {"channels": 32, "multipliers": (1, 2), "residual_blocks": 1, "attention_at": (2,), "heads": 2}
MEDIUM: dict[str, Any] = {
    "channels": 96,
    "multipliers": (1, 2, 2),
    "residual_blocks": 1,
    "attention_at": (2, 4),
    "head_channels": 32,
}
EIGHT = list(range(8))
process = ForwardProcess(Schedule.linear(1000))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(**arguments: Any) -> UNet:
    """A U-Net that answers something, although its last convolutions start at 0."""
    unet = UNet(**{"in_channels": 3, "out_channels": 3, **SMALL, **arguments})
    for parameter in unet.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return unet.eval()


def streams(images: Sequence[int]) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(image) for image in images]


def to_bytes(images: Tensor) -> Tensor:
    return images.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize(
    ("solver", "eta"), [(ddim, 1.0), (ddim, 0.0), (ancestral, 0.0), (plms, 0.0), (heun, 0.0), (dpm_solver, 0.0)]
)
def test_an_image_is_the_same_bytes_alone_and_among_eight(solver: Solver, eta: float, guidance: float) -> None:
    denoiser, states = OneByOne(network(condition_width=8)), torch.randn(8, 5, 8)

    def draw(images: list[int]) -> Tensor:
        how: dict[str, Any] = {"process": process, "solver": solver, "eta": eta, "steps": 3, "guidance": guidance}
        return sample(denoiser, (len(images), 3, 8, 8), states[images], generator=streams(images), **how)

    together = draw(EIGHT)
    assert torch.equal(torch.cat([draw([0]), draw([7])]), together[[0, 7]])
    assert torch.equal(draw([6, 2]), together[[6, 2]])
    assert len(to_bytes(together).flatten(1).unique(dim=0)) == 8


@pytest.mark.parametrize("side", [16, 20])
@pytest.mark.slow
def test_an_image_of_a_larger_network_is_the_same_bytes_alone_and_among_eight(side: int) -> None:
    """The widths, levels and heads of a network of 15 million parameters; sides that no vector register divides."""
    denoiser, states = OneByOne(network(**MEDIUM, condition_width=64)), torch.randn(8, 7, 64)

    def draw(images: list[int]) -> Tensor:
        how: dict[str, Any] = {"process": process, "steps": 3, "eta": 1.0, "guidance": 2.0, "clip": 1.0}
        shape = (len(images), 3, side, side)
        return sample(denoiser, shape, states[images], generator=streams(images), **how)

    together = draw(EIGHT)
    assert torch.equal(to_bytes(torch.cat([draw([image]) for image in (0, 3, 7)])), to_bytes(together[[0, 3, 7]]))
    assert torch.equal(draw([5, 6]), together[5:7])


def test_a_filled_image_is_the_same_bytes_alone_and_among_eight() -> None:
    denoiser, images = OneByOne(network()), torch.rand(8, 3, 8, 8) * 2 - 1
    mask = (torch.rand(8, 1, 8, 8) < 0.5).float()

    def fill(which: list[int]) -> Tensor:
        jumps = Resampling((Jump(length=2, passes=2),))
        how: dict[str, Any] = {"process": process, "steps": 4, "solver": ancestral, "resampling": jumps}
        return inpaint(denoiser, images[which], mask[which], generator=streams(which), **how)

    assert torch.equal(torch.cat([fill([2]), fill([7])]), fill(EIGHT)[[2, 7]])


def test_every_part_of_a_condition_goes_to_its_image() -> None:
    """Oracle: the network itself, asked about the whole batch, to rounding; and about each image, exactly."""
    unet = network(in_channels=5, condition_width=8, classes=4, augmented=True, learned_variance=True)
    x, t = torch.randn(3, 3, 8, 8), torch.tensor([1, 500, 1000])
    given = Condition(torch.randn(3, 2, 8), torch.tensor([0, 3, 4]), torch.randn(3, 2, 8, 8), torch.tensor([0, 7, 90]))
    with torch.no_grad():
        found, whole = OneByOne(unet)(x, t, given), unet(x, t, given)
    assert isinstance(found, PredictionWithVariance) and isinstance(whole, PredictionWithVariance)
    for name in ("value", "variance", "features"):
        torch.testing.assert_close(getattr(found, name), getattr(whole, name), rtol=1e-4, atol=1e-5)
    context, classes, concat, level = given.context, given.classes, given.concat, given.level
    assert context is not None and classes is not None and concat is not None and level is not None
    second = Condition(context[1:2].clone(), classes[1:2].clone(), concat[1:2].clone(), level[1:2].clone())
    with torch.no_grad():
        assert torch.equal(found.value[1:2], unet(x[1:2].clone(), t[1:2].clone(), second).value)


def test_it_is_asked_once_for_each_image_and_knows_what_the_network_knows() -> None:
    asked: list[int] = []

    def denoiser(x_t: Tensor, t: Tensor, condition: Any = None) -> Prediction:
        asked.append(len(x_t))
        return Prediction(value=2 * x_t, features=x_t)

    x = torch.randn(3, 1, 2, 2)
    assert torch.equal(OneByOne(denoiser)(x, torch.ones(3, dtype=torch.int64)).value, 2 * x)
    assert asked == [1, 1, 1]
    assert OneByOne(denoiser)(x[:0], torch.ones(0, dtype=torch.int64)).value.shape == (0, 1, 2, 2)
    unet = network(condition_width=8, classes=4)
    assert torch.equal(OneByOne(unet).null_condition(2, 3), unet.null_condition(2, 3))
    assert OneByOne(unet).null_class == 4


def test_guidance_without_null_states_says_what_to_do() -> None:
    def denoiser(x_t: Tensor, t: Tensor, condition: Any = None) -> Prediction:
        return Prediction(value=x_t, features=x_t)

    guided = Guided(OneByOne(denoiser), 2.0)
    with pytest.raises(TypeError, match=r"function has no null_condition\(b, l\): pass null= to Guided"):
        guided(torch.zeros(1, 1, 2, 2), torch.ones(1, dtype=torch.int64), torch.zeros(1, 2, 3))


@pytest.mark.slow
def test_two_gloo_ranks_sample_what_one_process_samples(tmp_path: Path) -> None:
    """Three images on one rank and two on the other, with noise and guidance: the floats of one batch of five."""
    specification = importlib.util.spec_from_file_location("sample_ranks", SCRIPT)
    assert specification is not None and specification.loader is not None
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    running = [subprocess.Popen([sys.executable, SCRIPT, str(rank), str(tmp_path)]) for rank in range(script.RANKS)]
    try:
        assert [process.wait(timeout=600) for process in running] == [0] * script.RANKS
    finally:
        for process in running:
            process.kill()
    expected = script.draw(range(script.IMAGES))
    for rank in range(script.RANKS):
        assert torch.equal(load_file(tmp_path / f"{rank}.safetensors")["images"], expected)
