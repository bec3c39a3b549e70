"""Every target says the same thing in other coordinates."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from continuous_diffusion import Clean, Epsilon, Target, Velocity

TARGETS = [Epsilon(), Velocity(), Clean()]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: type(target).__name__)
@settings(deadline=None, max_examples=30)
@given(level=st.floats(1e-3, 1 - 1e-3))
def test_round_trip(target: Target, level: float) -> None:
    """Checks: Progressive Distillation v-prediction
    Checks: DDPM Eq. 14
    """
    x_0, noise = torch.randn(2, 3, 2, 2, dtype=torch.float64), torch.randn(2, 3, 2, 2, dtype=torch.float64)
    signal = torch.full((2,), level, dtype=torch.float64)
    x_t = level**0.5 * x_0 + (1 - level) ** 0.5 * noise
    value = target.of(x_0, noise, signal)
    torch.testing.assert_close(target.estimate(x_t, value, signal), x_0, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(target.noise(x_t, value, signal), noise, rtol=1e-9, atol=1e-9)


def test_velocity_is_the_derivative_along_the_angle() -> None:
    """With alpha = cos(phi) and sigma = sin(phi), v = d x / d phi.

    Checks: Progressive Distillation v-prediction
    """
    x_0, noise = torch.randn(1, 2, 2, 2, dtype=torch.float64), torch.randn(1, 2, 2, 2, dtype=torch.float64)
    phi = torch.tensor(0.7, dtype=torch.float64)
    _, derivative = torch.autograd.functional.jvp(lambda angle: angle.cos() * x_0 + angle.sin() * noise, phi)
    signal = phi.cos().square().reshape(1)
    torch.testing.assert_close(Velocity().of(x_0, noise, signal), derivative)
