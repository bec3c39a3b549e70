import pytest
import torch

from discrete_diffusion.imagebart import equidistant, explicit, geometric
from discrete_diffusion.imagebart.schedule import FFHQ_KEEP, IMAGENET_KEEP

F32 = torch.finfo(torch.float32).eps


@pytest.mark.parity
def test_schedules_are_those_of_the_official_code(golden) -> None:
    """Oracle: recorded float32 arrays, which the official code multiplies up; ours to the rounding of that.

    Checks: ImageBART scale schedules
    """
    case = golden("imagebart_scale")
    tables = {("ffhq_bernoulli_PSIM", n): keep for n, keep in FFHQ_KEEP.items()}
    tables |= {("bernoulli_PSIM", n): keep for n, keep in IMAGENET_KEEP.items()}
    compared = 0
    for entry in case.config["schedules"]:
        kind, scales = entry["redraw_prob"], entry["n_scales"]
        recorded = case.io[f"sched{entry['index']}.alphacum"].double()
        tolerance = 4 * F32
        if kind == "geometric":
            schedule = geometric(scales, 24)
        elif isinstance(kind, str) and kind.startswith("alphacum:"):
            schedule = explicit([float(p) for p in kind.removeprefix("alphacum:").split(",")], 24)
        elif isinstance(kind, float):
            schedule = explicit([(1 - kind) ** t for t in range(scales + 1)], 24)
        elif (kind, scales) in tables:
            schedule, tolerance = explicit(tables[kind, scales], 24), 5e-5
        else:
            continue
        torch.testing.assert_close(schedule.keep, recorded, atol=tolerance, rtol=0)
        alphas = torch.cat([torch.ones(1, dtype=torch.float64), schedule.keep[1:] / schedule.keep[:-1]])
        recorded_alphas = case.io[f"sched{entry['index']}.alphats"].double()
        torch.testing.assert_close(alphas, recorded_alphas, atol=2 * tolerance, rtol=0)
        compared += 1
    assert compared == 10


def test_geometric_scales_lose_equal_shares() -> None:
    """Oracle: the published values at n = 4.

    Checks: ImageBART scale schedules
    """
    assert geometric(4, 24).keep.tolist() == [1, 0.75, 0.5, 0.25, 0.0]
    assert geometric(1, 24).keep.tolist() == [1, 0]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_fitted_schedule_is_equidistant_in_its_metric(sign: int) -> None:
    """Oracle: a metric linear in `keep` gives the geometric schedule, a quadratic one its square roots.

    Checks: ImageBART scale schedules
    """
    keep = torch.linspace(1, 0, 20).tolist()
    linear = equidistant(keep, [sign * (3 - p) for p in keep], scales=5, codes=24)
    torch.testing.assert_close(linear.keep, geometric(5, 24).keep, atol=1e-6, rtol=0)
    keep = torch.linspace(1, 0, 2001, dtype=torch.float64).tolist()
    quadratic = equidistant(keep, [sign * (1 - p) ** 2 for p in keep], scales=4, codes=24)
    expected = 1 - (torch.arange(5, dtype=torch.float64) / 4).sqrt()
    torch.testing.assert_close(quadratic.keep, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ([0.9, 0.0], "must start with 1"),
        ([1.0], "must start with 1"),
        ([1.0, 0.5, 0.5, 0.0], "must fall at every scale"),
        ([1.0, 0.4, 0.6, 0.0], "must fall at every scale"),
        ([1.0, 0.5, -0.1], "must fall at every scale, and not below 0"),
    ],
)
def test_a_schedule_that_does_not_fall_is_refused(keep: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        explicit(keep, 24)


def test_measurements_that_cannot_be_fitted_are_refused() -> None:
    with pytest.raises(ValueError, match="scales must be at least 1"):
        geometric(0, 24)
    with pytest.raises(ValueError, match="got 2 for 3"):
        equidistant([1.0, 0.5, 0.0], [0.0, 1.0], scales=2, codes=24)
    with pytest.raises(ValueError, match="keep must fall from 1 to 0"):
        equidistant([1.0, 0.5, 0.1], [0.0, 1.0, 2.0], scales=2, codes=24)
    with pytest.raises(ValueError, match="metric must rise throughout"):
        equidistant([1.0, 0.5, 0.0], [0.0, 2.0, 1.0], scales=2, codes=24)
    with pytest.raises(ValueError, match="metric must rise throughout"):
        equidistant([1.0, 0.5, 0.0], [1.0, 1.0, 1.0], scales=2, codes=24)
    with pytest.raises(ValueError, match="scales must be at least 1"):
        equidistant([1.0, 0.5, 0.0], [0.0, 1.0, 2.0], scales=0, codes=24)
