import pytest
import torch

from discrete_diffusion import ImportanceTimes, UniformTimes

CPU = torch.device("cpu")


@pytest.mark.parametrize("make", [UniformTimes, ImportanceTimes])
def test_every_time_is_drawn_including_the_last(make: type[UniformTimes] | type[ImportanceTimes]) -> None:
    """Chi-square of 20,000 draws of 1..20; new samplers are uniform."""
    times = make(20)
    drawn = times.sample(20_000, device=CPU, generator=torch.Generator().manual_seed(0))
    counts = torch.bincount(drawn, minlength=21)
    assert counts[0] == 0 and len(counts) == 21
    assert ((counts[1:] - 1000) ** 2 / 1000).sum() < 19 + 5 * 38**0.5
    torch.testing.assert_close(times.probability(drawn[:5]), torch.full((5,), 0.05))


def test_importance_is_uniform_until_each_time_was_seen_eleven_times() -> None:
    """Checks: VQ-Diffusion importance sampling of t"""
    times, t = ImportanceTimes(3), torch.tensor([1, 2, 3])
    for _ in range(10):
        times.update(t, torch.tensor([1.0, 2.0, 4.0]))
    torch.testing.assert_close(times.probability(t), torch.full((3,), 1 / 3))
    times.update(t, torch.tensor([1.0, 2.0, 4.0]))
    torch.testing.assert_close(times.probability(t), torch.tensor([0.25, 0.25, 0.5]), atol=1e-3, rtol=0)
    drawn = times.sample(9000, device=CPU, generator=torch.Generator().manual_seed(0))
    assert abs((drawn == 3).float().mean().item() - 0.5) < 0.03


def test_times_drawn_twice_enter_with_their_mean_square() -> None:
    """Oracle: arithmetic. The history is kept in the state_dict."""
    times = ImportanceTimes(2)
    times.update(torch.tensor([2, 2]), torch.tensor([3.0, 4.0]))
    again = ImportanceTimes(2)
    again.load_state_dict(times.state_dict())
    torch.testing.assert_close(again.history, torch.tensor([0.0, 0.1 * 12.5]))
    assert again.count.tolist() == [0, 2]


@pytest.mark.parity
def test_importance_is_the_official_law(golden) -> None:
    """Oracle: the official probabilities for a recorded history.

    Checks: VQ-Diffusion importance sampling of t
    """
    io, times = golden("vqdiffusion_process").io, ImportanceTimes(100)
    times.history.copy_(io["loss.Lt_history_before"])
    times.count.copy_(io["loss.Lt_count_before"])
    torch.testing.assert_close(times.probability(torch.arange(1, 101)), io["importance.pt_all"], rtol=1e-5, atol=0)
