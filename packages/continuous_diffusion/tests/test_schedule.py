"""Noise schedules, against the published table and the official arrays."""

import math
from typing import Any

import pytest
import torch

from continuous_diffusion import Schedule

PUBLISHED = [
    (0.0015, 0.0195, 0.9985, 0.115844, 1.42304e-4),
    (0.0015, 0.0155, 0.9985, 0.151077, 6.68665e-4),
    (0.0015, 0.0205, 0.9985, 0.108576, 9.69109e-5),
    (0.00085, 0.012, 0.99915, 0.277670, 4.66010e-3),
]


@pytest.mark.parametrize(("first", "last", "start", "middle", "end"), PUBLISHED)
def test_published_models_have_the_tabulated_signal(
    first: float, last: float, start: float, middle: float, end: float
) -> None:
    """Checks: LDM noise schedule"""
    signal = Schedule.sqrt_linear(1000, first, last).signal
    expected = torch.tensor([1.0, start, middle, end], dtype=torch.float64)
    torch.testing.assert_close(signal[[0, 1, 500, 1000]], expected, rtol=5e-6, atol=0)


@pytest.mark.parametrize("schedule", [Schedule.linear(30), Schedule.cosine(30), Schedule.sqrt_linear(30)])
def test_betas_invert_the_cumulative_product(schedule: Schedule) -> None:
    torch.testing.assert_close(Schedule.from_betas(schedule.betas).signal, schedule.signal, rtol=1e-13, atol=0)


def test_cosine_follows_its_formula_until_beta_is_capped() -> None:
    """Checks: Improved DDPM cosine schedule"""
    schedule = Schedule.cosine(1000)
    for t in (1, 250, 500, 990):
        f = [math.cos((s / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for s in (t, 0)]
        assert schedule.signal[t].item() == pytest.approx(f[0] / f[1], rel=1e-12)
    assert schedule.betas.max().item() == pytest.approx(0.999, rel=1e-12)


def test_ends_of_the_linear_schedules_are_as_given() -> None:
    for make in (Schedule.linear, Schedule.sqrt_linear):
        betas = make(17, 0.001, 0.3).betas
        assert betas[[0, -1]].tolist() == pytest.approx([0.001, 0.3], rel=1e-10)
    assert Schedule.linear(3, 0.1, 0.3).betas[1].item() == pytest.approx(0.2)
    assert Schedule.sqrt_linear(3, 0.01, 0.09).betas[1].item() == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        (torch.tensor([0.9, 0.5]), "index 0 is the clean image"),
        (torch.tensor([1.0, 0.5, 0.5]), "fall strictly"),
        (torch.tensor([1.0, 0.0]), "above 0"),
        (torch.tensor([1.0]), "T at least 1"),
    ],
)
def test_impossible_levels_are_refused(signal: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(signal.double())


def test_no_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        Schedule.linear(0)


@pytest.mark.parity
def test_official_schedules(golden: Any) -> None:
    """Checks: LDM noise schedule
    Checks: Improved DDPM cosine schedule
    """
    case = golden("ldm_ddim_plms")
    makers = {"linear": Schedule.sqrt_linear, "sqrt_linear": Schedule.linear}
    seen = 0
    for entry in case.config["schedules"]:
        T, kind, prefix = entry["timesteps"], entry["beta_schedule"], f"schedule{entry['index']}"
        if kind == "cosine":
            ours = Schedule.cosine(T, entry["cosine_s"])
        elif kind in makers:
            ours = makers[kind](T, entry["linear_start"], entry["linear_end"])
        else:
            ours = Schedule.from_betas(case.io[f"{prefix}.betas_f64"])
        torch.testing.assert_close(ours.signal[1:], case.io[f"{prefix}.alphas_cumprod_f64"], rtol=1e-12, atol=0)
        torch.testing.assert_close(ours.betas, case.io[f"{prefix}.betas_f64"], rtol=1e-10, atol=0)
        seen += 1
    assert seen == 7
