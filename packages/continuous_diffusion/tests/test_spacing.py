"""Which steps are visited, against the rules of the published code and of diffusers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from continuous_diffusion import (
    Schedule,
    evenly,
    evenly_in_log_snr,
    leading,
    quadratic,
    spanning,
    strided,
    trailing,
)


@pytest.mark.parametrize("spacing", [evenly, strided, quadratic, leading, trailing, spanning])
def test_spacings_rise_within_the_steps(spacing: Callable[[int, int], Any]) -> None:
    chosen = spacing(1000, 20)
    assert sorted(set(chosen)) == list(chosen)
    assert chosen[0] >= 1
    assert chosen[-1] <= 1000
    assert len(chosen) == 20


def test_evenly_takes_all_steps_and_always_the_last() -> None:
    assert evenly(7, 7) == (1, 2, 3, 4, 5, 6, 7)
    assert all(evenly(T, n)[-1] == T and len(evenly(T, n)) == n for T in (1, 7, 50) for n in range(1, T + 1))


@pytest.mark.parametrize("steps", [1, 7, 20, 50, 333])
def test_the_three_rules_that_others_name(steps: int) -> None:
    """As diffusers has them, counted from 1."""
    counted_from_one = np.arange(1000, 0, -1000 / steps)[:steps].round()[::-1]
    assert trailing(1000, steps) == tuple(counted_from_one.astype(int))
    assert leading(1000, steps) == tuple(np.arange(steps) * (1000 // steps) + 1)
    assert spanning(1000, steps) == tuple(np.linspace(0, 999, steps).round().astype(int) + 1)


def test_log_snr_is_evenly_spaced_to_the_nearest_step() -> None:
    for schedule in (Schedule.cosine(5000), Schedule.linear(5000).to_zero_snr()):
        spaced = torch.tensor(evenly_in_log_snr(schedule, first=200, last=4500)(5000, 9))
        gaps = schedule.log_snr[spaced].diff()
        torch.testing.assert_close(gaps, gaps.mean().expand(8), rtol=0.02, atol=0)
        ends = evenly_in_log_snr(schedule)(5000, 5)
        assert ends[0] == 1
        assert ends[-1] == (5000 if schedule.signal[-1] > 0 else 4999)
    assert evenly_in_log_snr(Schedule.cosine(100), first=20, last=60)(100, 2) == (20, 60)


@pytest.mark.parity
@pytest.mark.parametrize(("spacing", "name"), [(leading, "leading"), (trailing, "trailing"), (spanning, "linspace")])
def test_steps_of_diffusers(spacing: Callable[[int, int], Any], name: str) -> None:
    diffusers = pytest.importorskip("diffusers")
    for steps in (3, 10, 50, 64):
        peer = diffusers.DDIMScheduler(timestep_spacing=name)
        peer.set_timesteps(steps)
        assert [t - 1 for t in spacing(1000, steps)] == peer.timesteps.flip(0).tolist()


@pytest.mark.parity
def test_steps_of_adm(golden: Any) -> None:
    io = golden("repaint").io
    for steps in (50, 250):
        assert [t - 1 for t in spanning(1000, steps)] == io[f"space_timesteps.{steps}"].tolist()
    assert [t - 1 for t in leading(1000, 50)] == io["space_timesteps.ddim50"].tolist()
    assert [t - 1 for t in spanning(1000, 20)] == io["respaced.timestep_map"].tolist()


@pytest.mark.parity
def test_official_steps(golden: Any) -> None:
    """The published steps, counted from 1.

    Checks: DDIM Eq. 16
    Checks: LDM sampling
    """
    io = golden("ldm_ddim_plms").io
    for steps in (7, 20, 50, 200):
        assert [t - 1 for t in strided(1000, steps)] == io[f"ddim_S{steps}_eta0.0.timesteps"].tolist()
    for steps in (20, 50):
        assert [t - 1 for t in quadratic(1000, steps)] == io[f"ddim_quad_S{steps}.timesteps"].tolist()
    signal = Schedule.sqrt_linear(1000, 0.00085, 0.012).signal
    chosen = [1, *strided(1000, 50)]
    now, then = signal[chosen[1:]], signal[chosen[:-1]]
    for eta in (0.0, 0.5, 1.0):
        sigma = eta * ((1 - then) / (1 - now) * (1 - now / then)).sqrt()
        torch.testing.assert_close(sigma, io[f"ddim_S50_eta{eta}.sigmas"], rtol=2e-5, atol=1e-7)
