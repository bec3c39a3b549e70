"""An example has the same logits and tokens alone, among eight, in another order, and on another rank."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from discrete_diffusion import (
    PRESETS,
    Exact,
    FewerTokens,
    ForwardProcess,
    OneByOne,
    Prediction,
    Prepared,
    ReleasedStride,
    Schedule,
    State,
    TokenTransformer,
    by_gumbel_noise,
    trajectory,
)
from discrete_diffusion.denoiser import Denoiser
from discrete_diffusion.routes import Route

SCRIPT = Path(__file__).with_name("sample_ranks.py")
SMALL: dict[str, Any] = {"codes": 40, "grid": (4, 4), "steps": 8, "width": 32, "depth": 2, "heads": 2}
EIGHT = list(range(8))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    torch.manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def draw(
    denoiser: Denoiser, condition: Tensor, images: Sequence[int], codes: int, n: int, steps: int, **how: Any
) -> State:
    """The last state of some of the images."""
    states = trajectory(
        denoiser,
        (len(images), n),
        condition[list(images)],
        process=ForwardProcess(Schedule.released(steps, codes)),
        generator=[torch.Generator().manual_seed(image) for image in images],
        **how,
    )
    return list(states)[-1]


@pytest.mark.parametrize("route", [Exact(), Exact(by_gumbel_noise), ReleasedStride(3), FewerTokens()])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_tokens_and_logits_are_equal_alone_and_among_eight(route: Route, guidance: float) -> None:
    """With convolutions, whose kernels for one example round otherwise."""
    more: dict[str, Any] = {"convolution": True, "convolutional_feedforward": True, "condition_width": 8}
    denoiser, condition = OneByOne(TokenTransformer(**SMALL, **more)), torch.randn(8, 5, 8)
    how: dict[str, Any] = {"route": route, "guidance": guidance, "truncation": 0.9}
    together = draw(denoiser, condition, EIGHT, 40, 16, 8, **how)
    for image in (0, 3, 7):
        alone = draw(denoiser, condition, [image], 40, 16, 8, **how)
        assert torch.equal(alone.x[0], together.x[image])
        assert alone.estimate is not None and together.estimate is not None
        assert torch.equal(alone.estimate[0], together.estimate[image])
    assert torch.equal(draw(denoiser, condition, [6, 2], 40, 16, 8, **how).x, together.x[[6, 2]])
    assert len(together.x.unique(dim=0)) == 8


@pytest.mark.slow
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("wrap", [OneByOne, Prepared])
def test_tokens_of_a_wide_transformer_are_equal_alone_and_among_eight(wrap: Any, guidance: float) -> None:
    """Width, heads, codes and states of VQ-Diffusion-B, over two of its blocks and 64 of its positions."""
    arguments = {**PRESETS["b"].arguments, "depth": 2, "grid": (8, 8), "null_length": 1}
    codes, steps = arguments["codes"], arguments["steps"]
    denoiser = wrap(TokenTransformer(**arguments))
    condition = torch.randn(8, 77, arguments["condition_width"])
    how: dict[str, Any] = {"route": Exact(), "guidance": guidance, "truncation": 0.86}
    start = ForwardProcess(Schedule.released(steps, codes)).prior((8, 64))
    together = draw(denoiser, condition, EIGHT, codes, 64, steps, start=State(2, start), **how)
    for image in (0, 5):
        one = State(2, start[image : image + 1])
        assert torch.equal(
            draw(denoiser, condition, [image], codes, 64, steps, start=one, **how).x[0], together.x[image]
        )


@pytest.mark.parametrize("classes", [None, 3])
def test_each_answer_is_the_one_for_the_example_alone(classes: int | None) -> None:
    """Oracle: the transformer itself, asked about the whole batch, to rounding; and about each example, exactly."""
    model = TokenTransformer(**SMALL, classes=classes, condition_width=8 if classes is None else None)
    x, t = torch.randint(41, (3, 16)), torch.tensor([1, 5, 8])
    condition = torch.randn(3, 5, 8) if classes is None else torch.tensor([0, 2, 3])
    with torch.no_grad():
        found, whole = OneByOne(model)(x, t, condition), model(x, t, condition)
        alone = model(x[1:2].clone(), t[1:2].clone(), condition[1:2].clone())
    for name in ("value", "features"):
        torch.testing.assert_close(getattr(found, name), getattr(whole, name), rtol=1e-4, atol=1e-5)
        assert torch.equal(getattr(found, name)[1:2], getattr(alone, name))


def test_it_is_asked_once_for_each_example_and_knows_the_null_condition() -> None:
    asked: list[int] = []

    class Counting:
        def __call__(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Prediction:
            asked.append(len(x_t))
            return Prediction(x_t[..., None].float(), torch.zeros(len(x_t), 1, 2, 2))

        def null_condition(self, b: int, l: int) -> Tensor:  # noqa: E741
            return torch.full((b, l, 1), 7.0)

    x = torch.randint(5, (3, 4))
    assert torch.equal(OneByOne(Counting())(x, torch.ones(3, dtype=torch.int64)).value[..., 0], x.float())
    assert asked == [1, 1, 1]
    assert OneByOne(Counting())(x[:0], torch.ones(0, dtype=torch.int64)).value.shape == (0, 4, 1)
    assert torch.equal(OneByOne(Counting()).null_condition(2, 3), torch.full((2, 3, 1), 7.0))


@pytest.mark.slow
def test_two_gloo_ranks_sample_what_one_process_samples(tmp_path: Path) -> None:
    """Three images on one rank and two on the other, with guidance and truncation: the tokens of one batch of five."""
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
        assert torch.equal(load_file(tmp_path / f"{rank}.safetensors")["tokens"], expected)
