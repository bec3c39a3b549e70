"""Guidance, against its formula on a denoiser that counts its calls."""

import pytest
import torch
from torch import Tensor

from continuous_diffusion import Guided, Prediction, PredictionWithVariance, UNet


class Linear:
    """value = x + mean of the condition, features = the same."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Prediction:
        self.batches.append(len(x_t))
        shift = torch.zeros(len(x_t)) if condition is None else condition.mean((1, 2))
        value = x_t + t[:, None, None, None] + shift[:, None, None, None]
        return Prediction(value=value, features=value)

    def null_condition(self, b: int, l: int) -> Tensor:  # noqa: E741
        return torch.full((b, l, 4), -1.0)


x, t, condition = torch.randn(2, 3, 2, 2), torch.tensor([3, 5]), torch.randn(2, 6, 4)


@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("null", [None, torch.full((1, 6, 4), 2.0), torch.randn(2, 6, 4)])
def test_formula_in_one_doubled_batch(scale: float, null: Tensor | None) -> None:
    """Checks: Classifier-free Guidance Eq. 6"""
    denoiser = Linear()
    guided = Guided(denoiser, scale, null=null)(x, t, condition)
    assert denoiser.batches == [4]
    absent = denoiser.null_condition(2, 6) if null is None else null.expand(2, 6, 4)
    conditional, unconditional = denoiser(x, t, condition), denoiser(x, t, absent)
    w = scale - 1
    torch.testing.assert_close(guided.value, (1 + w) * conditional.value - w * unconditional.value)
    torch.testing.assert_close(guided.features, conditional.features)


def test_scale_one_is_one_plain_call() -> None:
    denoiser = Linear()
    assert torch.equal(Guided(denoiser, 1.0)(x, t, condition).value, Linear()(x, t, condition).value)
    assert denoiser.batches == [2]


def test_only_the_steps_of_the_interval_are_guided() -> None:
    """Checks: Guidance Interval guidance in an interval"""
    plain, full = Linear()(x, t, condition).value, Guided(Linear(), 4.0)(x, t, condition).value
    for interval, expected in {
        (1, 9): full,
        (3, 5): full,
        (6, 9): plain,
        (4, 9): torch.stack([plain[0], full[1]]),
        (1, 4): torch.stack([full[0], plain[1]]),
    }.items():
        denoiser = Linear()
        torch.testing.assert_close(Guided(denoiser, 4.0, interval=interval)(x, t, condition).value, expected)
        assert denoiser.batches == ([2] if interval == (6, 9) else [4])


def test_a_learned_variance_is_that_of_the_conditional_half() -> None:
    """Checks: Classifier-free Guidance Eq. 6"""

    def denoiser(x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> PredictionWithVariance:
        told = Linear()(x_t, t, condition)
        return PredictionWithVariance(told.value, told.features, variance=2 * told.value)

    guided = Guided(denoiser, 4.0, null=torch.zeros(1, 6, 4))(x, t, condition)
    assert isinstance(guided, PredictionWithVariance)
    torch.testing.assert_close(guided.variance, denoiser(x, t, condition).variance)


def test_guidance_of_guidance_multiplies_the_scales() -> None:
    twice = Guided(Guided(Linear(), 2.0), 3.0)(x, t, condition).value
    torch.testing.assert_close(twice, Guided(Linear(), 6.0)(x, t, condition).value, atol=1e-5, rtol=1e-5)


def test_the_network_keeps_its_parameters() -> None:
    unet = UNet(
        in_channels=1,
        out_channels=1,
        channels=4,
        multipliers=(1,),
        residual_blocks=1,
        heads=1,
        condition_width=4,
        groups=2,
    )
    guided = Guided(unet, 2.0, null=torch.zeros(1, 6, 4))
    assert set(guided.state_dict()) == {f"denoiser.{name}" for name in unet.state_dict()}


def test_wrong_inputs_are_named() -> None:
    with pytest.raises(ValueError, match="holds no step"):
        Guided(Linear(), 2.0, interval=(5, 4))
    with pytest.raises(ValueError, match="nothing to be guided by"):
        Guided(Linear(), 2.0)(x, t)
    with pytest.raises(ValueError, match="pad them to one length"):
        Guided(Linear(), 2.0, null=torch.zeros(1, 5, 4))(x, t, condition)
    with pytest.raises(TypeError, match="has no null_condition"):
        Guided(lambda x_t, t, c=None: Prediction(x_t, x_t), 2.0)(x, t, condition)
