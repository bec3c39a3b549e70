from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from discrete_diffusion import Schedule


def test_the_closed_form_is_the_product_of_one_step_matrices(make_schedule, dense: Callable[..., Tensor]) -> None:
    """Oracle: matrix products, for every pair of times.

    Checks: VQ-Diffusion transition matrix, cumulative transition
    """
    schedule = make_schedule(7, 4)
    for t in range(1, 8):
        for s in range(t):
            alpha, beta, gamma = (p.item() for p in schedule.transition(torch.tensor(t), torch.tensor(s)))
            matrix = dense(schedule, t, s)
            assert matrix[0, 0].item() == pytest.approx(alpha + beta, abs=1e-14)
            assert matrix[1, 0].item() == pytest.approx(beta, abs=1e-14)
            assert matrix[4, 0].item() == pytest.approx(gamma, abs=1e-14)


@settings(deadline=None, max_examples=30)
@given(T=st.integers(2, 60), codes=st.integers(2, 300), final_mask=st.floats(0.01, 0.99))
def test_every_schedule_is_a_law_at_every_time(T: int, codes: int, final_mask: float) -> None:
    """Invariance: the probabilities of a token's fate are nonnegative and sum to 1."""
    named = (Schedule.released, Schedule.mask_only, Schedule.uniform_only)
    for schedule in (Schedule.paper(T, codes, final_mask=final_mask), *(make(T, codes) for make in named)):
        assert schedule.T == T
        torch.testing.assert_close(
            schedule.keep + schedule.mask + codes * schedule.replace, torch.ones(T + 1, dtype=torch.float64)
        )
        t = torch.arange(1, T + 1)
        alpha, beta, gamma = schedule.transition(t)
        torch.testing.assert_close(alpha + codes * beta + gamma, torch.ones(T, dtype=torch.float64))
        assert min(alpha.min(), beta.min() * codes + 1e-12, gamma.min()) >= 0


def test_the_papers_schedule_ends_at_nine_tenths_masked_and_one_tenth_replaced() -> None:
    """Checks: VQ-Diffusion noise schedule"""
    schedule = Schedule.paper(100, 2887)
    assert schedule.mask[-1].item() == pytest.approx(0.9)
    assert schedule.replace[-1].item() * 2887 == pytest.approx(0.1)
    assert schedule.mask[50].item() == pytest.approx(0.45)
    assert schedule.keep[-1].item() == 0


def test_the_released_schedule_has_the_released_constants() -> None:
    """Checks: VQ-Diffusion noise schedule"""
    schedule = Schedule.released(100, 2887)
    for t, keep, mask in ((1, 0.99999, 9e-6), (50, 0.50505, 0.494949), (100, 9e-6, 0.99999)):
        assert schedule.keep[t].item() == pytest.approx(keep, rel=1e-5)
        assert schedule.mask[t].item() == pytest.approx(mask, rel=1e-5)
    torch.testing.assert_close(
        2887 * schedule.replace[1:], torch.full((100,), 1e-6, dtype=torch.float64), atol=1e-15, rtol=0
    )
    alpha, beta, gamma = schedule.transition(torch.tensor([1, 50, 100]))
    torch.testing.assert_close(
        alpha, torch.tensor([0.99999, 0.980392, 8.902e-4], dtype=torch.float64), rtol=1e-4, atol=0
    )
    torch.testing.assert_close(gamma, torch.tensor([9e-6, 0.0196075, 0.999011], dtype=torch.float64), rtol=1e-4, atol=0)
    torch.testing.assert_close(
        2887 * beta, torch.tensor([1e-6, 3.81e-8, 9.88e-5], dtype=torch.float64), rtol=1e-2, atol=0
    )


@pytest.mark.parity
def test_the_released_schedule_is_the_official_one(golden) -> None:
    """Oracle: the official `alpha_schedule`, five sizes.

    Checks: VQ-Diffusion noise schedule
    """
    case = golden("vqdiffusion_process")
    for given_schedule in case.config["schedules"]:
        i, T, codes = (given_schedule[name] for name in ("index", "time_step", "N"))
        schedule = Schedule.released(T, codes)
        alpha, beta, gamma = schedule.transition(torch.arange(1, T + 1))
        official = {name: case.io[f"alpha{i}.{name}"] for name in ("att", "ctt", "btt", "at", "bt", "ct")}
        ours = {"att": schedule.keep.roll(-1), "ctt": schedule.mask.roll(-1), "at": alpha}
        for name, value in ours.items():
            torch.testing.assert_close(value, official[name], rtol=1e-12, atol=0)
        for name, value in {"btt": schedule.replace.roll(-1), "bt": beta, "ct": gamma}.items():
            torch.testing.assert_close(value, official[name], rtol=1e-12, atol=3e-16)


@pytest.mark.parametrize(
    ("keep", "mask", "message"),
    [
        ([1.0, 0.5, 0.6], [0.0, 0.1, 0.2], "negative probability"),
        ([1.0, 0.5, 0.2], [0.0, 0.3, 0.2], "negative probability"),
        ([1.0, 0.5, 0.2], [0.0, 0.6, 0.9], "at most 1"),
        ([0.9, 0.5, 0.2], [0.0, 0.1, 0.2], "clean"),
        ([1.0, 0.0, 0.0], [0.0, 0.5, 0.9], "positive"),
        ([1.0], [0.0], r"shape \(T \+ 1,\), got \(1,\)"),
    ],
)
def test_what_is_no_schedule_is_refused(keep: list[float], mask: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(torch.tensor(keep, dtype=torch.float64), torch.tensor(mask, dtype=torch.float64), 4)


def test_one_code_is_refused() -> None:
    with pytest.raises(ValueError, match="codes must be at least 2, got 1"):
        Schedule.paper(4, 1)


def test_single_precision_is_refused() -> None:
    with pytest.raises(TypeError, match="float64"):
        Schedule(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), 4)
