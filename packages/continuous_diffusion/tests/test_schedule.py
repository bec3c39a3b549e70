"""Noise schedules, against the published table and the official arrays."""

import math
from typing import Any

import pytest
import torch

from continuous_diffusion import Betas, ForwardProcess, Schedule

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
        (torch.tensor([1.0, 0.0, -0.1]), "above 0"),
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
        elif kind == "sqrt":
            ours = Schedule.sqrt(T, entry["linear_start"], entry["linear_end"])
        elif kind in makers:
            ours = makers[kind](T, entry["linear_start"], entry["linear_end"])
        else:
            raise AssertionError(f"{kind} is not one of LDM's schedules")
        torch.testing.assert_close(ours.signal[1:], case.io[f"{prefix}.alphas_cumprod_f64"], rtol=1e-12, atol=0)
        torch.testing.assert_close(ours.betas, case.io[f"{prefix}.betas_f64"], rtol=1e-10, atol=0)
        seen += 1
    assert seen == 7


def test_named_ranges_are_the_tabulated_ones() -> None:
    """Checks: LDM noise schedule"""
    assert {one.value for one in Betas} == {row[:2] for row in PUBLISHED}
    assert torch.equal(Schedule.sqrt_linear(9, *Betas.FACES.value).signal, Schedule.sqrt_linear(9).signal)


def test_log_snr_is_inverted_between_and_beyond_the_steps() -> None:
    schedule = Schedule.sqrt_linear(40)
    steps = torch.tensor([1.0, 2.0, 17.0, 40.0], dtype=torch.float64)
    torch.testing.assert_close(schedule.at_log_snr(schedule.log_snr[steps.long()]), steps)
    between = (schedule.log_snr[17] + schedule.log_snr[18]) / 2
    assert schedule.at_log_snr(between[None]).item() == pytest.approx(17.5)
    assert schedule.at_log_snr(torch.tensor([99.0, -99.0]).double()).tolist() == [1, 40]
    assert schedule.log_snr[0] == math.inf
    assert Schedule(torch.tensor([1.0, 0.5]).double()).at_log_snr(torch.zeros(1).double()).item() == 1


def test_a_continuous_schedule_is_sampled_at_the_steps() -> None:
    def cosine(u: torch.Tensor) -> torch.Tensor:
        return -2 * torch.log(torch.tan(u * 0.98 * math.pi / 2))

    schedule = Schedule.from_log_snr(cosine, 10)
    expected = torch.cos(torch.arange(11, dtype=torch.float64) / 10 * 0.98 * math.pi / 2) ** 2
    torch.testing.assert_close(schedule.signal, expected)


def test_zero_terminal_snr_keeps_the_first_level_and_loses_the_last() -> None:
    """Affine in the root of the signal, so second differences keep their ratio.

    Checks: Zero Terminal SNR Algorithm 1
    """
    before = Schedule.sqrt_linear(100)
    after = before.to_zero_snr()
    assert after.signal[[0, -1]].tolist() == [1, 0]
    assert after.signal[1].item() == pytest.approx(before.signal[1].item())
    ratio = after.signal[1:].sqrt().diff() / before.signal[1:].sqrt().diff()
    torch.testing.assert_close(ratio, ratio[:1].expand(99))


def test_rectified_flow_is_the_straight_line() -> None:
    """Checks: Rectified Flow straight path"""
    process, t = ForwardProcess(Schedule.rectified_flow(8)), torch.arange(9)
    alpha, sigma, _ = process.coefficients(t, torch.zeros(9, 1, 1, 1).double())
    torch.testing.assert_close(sigma.flatten(), t.double() / 8)
    torch.testing.assert_close(alpha.flatten(), 1 - t.double() / 8)
    shifted = ForwardProcess(Schedule.rectified_flow(8, shift=3.1)).coefficients(t, torch.zeros(9, 1, 1, 1).double())
    assert shifted.sigma[4].item() == pytest.approx(3.1 * 0.5 / (1 + 2.1 * 0.5))
    assert shifted.alpha[8] == 0


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (torch.ones(2), r"scale: shape \(2,\) beside a signal \(3,\)"),
        (torch.tensor([0.9, 1.0, 1.0]), "1 at index 0"),
        (torch.tensor([1.0, 0.0, 1.0]), "must be positive"),
    ],
)
def test_impossible_scales_are_refused(scale: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(torch.tensor([1.0, 0.5, 0.1]).double(), scale.double())


def test_one_step_cannot_lose_its_signal() -> None:
    with pytest.raises(ValueError, match="at least two"):
        Schedule.linear(1).to_zero_snr()


@pytest.mark.parity
def test_zero_terminal_snr_of_diffusers() -> None:
    """Checks: Zero Terminal SNR Algorithm 1"""
    peer = pytest.importorskip("diffusers").DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, rescale_betas_zero_snr=True
    )
    ours = Schedule.sqrt_linear(1000, *Betas.TEXT.value).to_zero_snr()
    torch.testing.assert_close(ours.signal[1:].float(), peer.alphas_cumprod, rtol=1e-4, atol=1e-6)
