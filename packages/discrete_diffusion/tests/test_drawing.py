import pytest
import torch

from discrete_diffusion.drawing import categorical, gumbel_max, uniform

CPU = torch.device("cpu")


def _generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_a_row_depends_on_its_own_generator_alone() -> None:
    pair = uniform((2, 5), device=CPU, generator=_generators(3, 4))
    assert torch.equal(pair[1:], uniform((1, 5), device=CPU, generator=_generators(4)))
    assert torch.equal(pair.flip(0), uniform((2, 5), device=CPU, generator=_generators(4, 3)))


def test_a_generator_too_few_is_named() -> None:
    with pytest.raises(ValueError, match="2 generators for a batch of 3"):
        uniform((3, 5), device=CPU, generator=_generators(1, 2))


def test_gumbel_draws_follow_the_law_down_to_rare_states() -> None:
    """Chi-square of 60,000 draws; impossible states never come."""
    law = torch.tensor([0.6, 0.3, 0.098, 0.002, 0.0])
    drawn = gumbel_max(law.log().expand(300, 200, 5), generator=torch.Generator().manual_seed(0))
    counts = torch.bincount(drawn.flatten(), minlength=5)
    assert counts[4] == 0
    statistic = ((counts - 60_000 * law) ** 2 / (60_000 * law))[:4].sum()
    assert statistic < 3 + 5 * 6**0.5


def test_inverting_the_cumulative_sum_never_draws_what_is_impossible() -> None:
    """Oracle: the definition, at the edges of u."""
    law = torch.tensor([[0.0, 2.0, 0.0, 1.0, 0.0]], dtype=torch.float64).expand(5, 5)
    u = torch.tensor([0.0, 0.6, 2 / 3, 0.9, 1 - 2**-53], dtype=torch.float64)
    assert categorical(law, u).tolist() == [1, 1, 3, 3, 3]
