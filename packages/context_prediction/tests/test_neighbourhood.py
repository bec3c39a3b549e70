import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from context_prediction import Border, Neighbourhood

BORDERS = list(Border)


def neighbours_by_definition(neighbourhood, unit, grid):
    """Multiset of the neighbours of a unit, as row-major positions, straight from the definition."""
    found = []
    for offset in neighbourhood.offsets(len(grid)):
        place = [here + step for here, step in zip(unit, offset, strict=True)]
        if neighbourhood.border is Border.CIRCULAR:
            place = [at % length for at, length in zip(place, grid, strict=True)]
        elif neighbourhood.border is Border.REFLECT:
            mirrored = [[*range(length), *range(length - 2, 0, -1)] for length in grid]
            place = [axis[at % len(axis)] for at, axis in zip(place, mirrored, strict=True)]
        elif not all(0 <= at < length for at, length in zip(place, grid, strict=True)):
            continue
        position = 0
        for at, length in zip(place, grid, strict=True):
            position = position * length + at
        found.append(position)
    return found


def position_map(b, grid):
    """A grid whose value at each unit is its row-major position, the same for every example."""
    return torch.arange(math.prod(grid), dtype=torch.float32).reshape(1, 1, *grid).expand(b, 1, *grid)


grids = st.lists(st.integers(2, 6), min_size=1, max_size=3)


@pytest.mark.parametrize(("stride", "interior", "corner"), [(1, 8, 3), (2, 24, 8), (3, 48, 15)])
def test_counts_of_valid_neighbours(stride, interior, corner):
    """Checks: ConPreDiff neighbourhood definition"""
    neighbourhood = Neighbourhood(stride)
    counts = neighbourhood.counts(9, 9)
    assert neighbourhood.size() == interior == counts[4, 4]
    assert {int(counts[y, x]) for y in (0, -1) for x in (0, -1)} == {corner}
    assert Neighbourhood(stride, Border.CIRCULAR).counts(9, 9).unique().tolist() == [interior]


@given(grid=grids, stride=st.integers(1, 3), border=st.sampled_from(BORDERS))
@settings(deadline=None, max_examples=30)
def test_neighbours_follow_the_definition(grid, stride, border):
    """Checks: ConPreDiff neighbourhood definition"""
    neighbourhood = Neighbourhood(stride, border)
    if min(grid) < {Border.VALID: 1, Border.REFLECT: stride + 1, Border.CIRCULAR: 2 * stride + 1}[border]:
        with pytest.raises(ValueError, match="too small"):
            neighbourhood.neighbours(*grid)
        return
    found = neighbourhood.neighbours(*grid)
    gathered = neighbourhood.all_neighbours(position_map(1, grid))
    for unit in torch.cartesian_prod(*map(torch.arange, grid)).reshape(-1, len(grid)).tolist():
        here = (slice(None), *unit)
        expected = neighbours_by_definition(neighbourhood, unit, grid)
        assert found.positions[here][found.exists[here]].tolist() == expected
        assert gathered.values[(0, slice(None), 0, *unit)][found.exists[here]].tolist() == expected
        assert neighbourhood.counts(*grid)[tuple(unit)] == len(expected)


def test_all_neighbours_are_zero_where_there_is_none():
    gathered = Neighbourhood(1).all_neighbours(torch.ones(2, 3, 4, 5))
    assert torch.equal(gathered.values.sum((1, 2)), 3.0 * Neighbourhood(1).counts(4, 5).expand(2, 4, 5))


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize("grid", [(5,), (4, 3), (3, 3, 4)])
def test_draws_are_uniform_over_each_units_own_neighbours(border, replacement, grid, generator):
    """Against the definition, by a chi-square statistic over all units.

    Checks: ConPreDiff neighbourhood definition
    """
    neighbourhood, q, b = Neighbourhood(2 if len(grid) == 1 else 1, border), 2, 4000
    drawn = neighbourhood.draw(position_map(b, grid), q, replacement=replacement, generator=generator).long()
    assert drawn.shape == (b, q, 1, *grid)
    statistic, freedom = 0.0, 0
    for unit in torch.cartesian_prod(*map(torch.arange, grid)).reshape(-1, len(grid)).tolist():
        expected = neighbours_by_definition(neighbourhood, unit, grid)
        seen = torch.bincount(drawn[(slice(None), slice(None), 0, *unit)].flatten(), minlength=math.prod(grid))
        weights = torch.bincount(torch.tensor(expected), minlength=math.prod(grid)) / len(expected)
        assert (seen[weights == 0] == 0).all()
        hoped = b * q * weights[weights > 0]
        statistic += float(((seen[weights > 0] - hoped).square() / hoped).sum())
        freedom += len(hoped) - 1
    assert statistic < freedom + 5 * math.sqrt(2 * freedom)


def test_draws_without_replacement_differ_and_exhaust_the_neighbourhood(generator):
    neighbourhood = Neighbourhood(2)
    drawn = neighbourhood.draw(position_map(3, (6, 7)), 8, replacement=False, generator=generator)
    corner = drawn[:, :, 0, 0, 0].sort(1).values
    assert torch.equal(corner, torch.tensor([1.0, 2, 7, 8, 9, 14, 15, 16]).expand(3, 8))
    assert (drawn.sort(1).values.diff(dim=1) > 0).all()


def test_pairs_drawn_without_replacement_are_equally_likely(generator):
    drawn = Neighbourhood(1).draw(position_map(6000, (2, 2)), 2, replacement=False, generator=generator).long()
    first, second = drawn[:, 0, 0, 0, 0], drawn[:, 1, 0, 0, 0]
    pairs = torch.bincount(4 * first + second, minlength=16)
    likely = [4 * i + j for i in (1, 2, 3) for j in (1, 2, 3) if i != j]
    assert pairs[likely].sum() == 6000
    assert (pairs[likely] - 1000).abs().max() < 5 * math.sqrt(1000)


def test_draws_depend_on_the_generator_alone():
    values = torch.randn(2, 3, 5, 5)
    one, same, other = (Neighbourhood(2).draw(values, 4, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_draws_carry_gradients_to_the_units_drawn(generator):
    values = torch.randn(2, 3, 4, 4, requires_grad=True)
    Neighbourhood(1).draw(values, 5, generator=generator).sum().backward()
    assert values.grad is not None and values.grad.sum() == 2 * 3 * 16 * 5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Neighbourhood(0), "stride is 0"),
        (lambda: Neighbourhood(3, Border.CIRCULAR).counts(6, 9), r"\(6, 9\) is too small.*at least 7"),
        (lambda: Neighbourhood(3, Border.REFLECT).counts(3, 9), r"\(3, 9\) is too small.*at least 4"),
        (lambda: Neighbourhood(3).counts(1, 1), "single unit"),
        (lambda: Neighbourhood(1).draw(torch.zeros(1, 1, 4, 4), 0), "q is 0"),
        (lambda: Neighbourhood(1).draw(torch.zeros(1, 1, 4, 4), 4, replacement=False), "only 3 neighbours"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
