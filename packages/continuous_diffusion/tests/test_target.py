"""Every target says the same thing in other coordinates."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from continuous_diffusion import Clean, Displacement, Epsilon, Target, Velocity
from continuous_diffusion.schedule import Coefficients

TARGETS = [Epsilon(), Velocity(), Clean(), Displacement()]


def coefficients(level: float, scale: float = 1.0) -> Coefficients:
    signal = torch.full((2, 1, 1, 1), level, dtype=torch.float64)
    return Coefficients(scale * signal.sqrt(), scale * (1 - signal).sqrt(), torch.full_like(signal, scale))


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: type(target).__name__)
@settings(deadline=None, max_examples=30)
@given(level=st.floats(1e-3, 1 - 1e-3), scale=st.floats(0.5, 2))
def test_round_trip(target: Target, level: float, scale: float) -> None:
    """Checks: Progressive Distillation v-prediction
    Checks: DDPM Eq. 14
    """
    x_0, noise = torch.randn(2, 3, 2, 2, dtype=torch.float64), torch.randn(2, 3, 2, 2, dtype=torch.float64)
    at = coefficients(level, scale)
    x_t = scale * (level**0.5 * x_0 + (1 - level) ** 0.5 * noise)
    value = target.of(x_0, noise, at)
    torch.testing.assert_close(target.estimate(x_t, value, at), x_0, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(target.noise(x_t, value, at), noise, rtol=1e-9, atol=1e-9)


def test_velocity_is_the_derivative_along_the_angle() -> None:
    """With alpha = cos(phi) and sigma = sin(phi), v = d x / d phi.

    Checks: Progressive Distillation v-prediction
    """
    x_0, noise = torch.randn(1, 2, 2, 2, dtype=torch.float64), torch.randn(1, 2, 2, 2, dtype=torch.float64)
    phi = torch.tensor(0.7, dtype=torch.float64)
    _, derivative = torch.autograd.functional.jvp(lambda angle: angle.cos() * x_0 + angle.sin() * noise, phi)
    at = Coefficients(phi.cos().reshape(1, 1, 1, 1), phi.sin().reshape(1, 1, 1, 1))
    torch.testing.assert_close(Velocity().of(x_0, noise, at), derivative)


def test_displacement_is_the_derivative_along_the_straight_path() -> None:
    """Checks: Rectified Flow straight path"""
    x_0, noise = torch.randn(1, 2, 2, 2, dtype=torch.float64), torch.randn(1, 2, 2, 2, dtype=torch.float64)
    u = torch.tensor(0.3, dtype=torch.float64)
    _, derivative = torch.autograd.functional.jvp(lambda time: (1 - time) * x_0 + time * noise, u)
    at = Coefficients((1 - u).reshape(1, 1, 1, 1), u.reshape(1, 1, 1, 1))
    torch.testing.assert_close(Displacement().of(x_0, noise, at), derivative)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: type(target).__name__)
def test_clean_error_is_the_squared_slope_of_the_estimate(target: Target) -> None:
    """Checks: Min-SNR weighting"""
    at = coefficients(0.3, 1.7)
    x_t, value = torch.randn(2, 1, 2, 2, dtype=torch.float64), torch.randn(2, 1, 2, 2, dtype=torch.float64)
    slope = target.estimate(x_t, value + 1, at) - target.estimate(x_t, value, at)
    torch.testing.assert_close(slope[:, 0, 0, 0] ** 2, target.clean_error(at))
