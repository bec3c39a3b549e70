import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from context_prediction import Border, Neighbourhood, gather, neighbourhood

BORDERS = list(Border)
STRIDES = [1, 2, 3, (2,), (3,), (1, 3), (2, 3)]


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
        elif neighbourhood.border is Border.SYMMETRIC:
            mirrored = [[*range(length), *reversed(range(length))] for length in grid]
            place = [axis[at % len(axis)] for at, axis in zip(place, mirrored, strict=True)]
        elif not all(0 <= at < length for at, length in zip(place, grid, strict=True)):
            continue
        position = 0
        for at, length in zip(place, grid, strict=True):
            position = position * length + at
        found.append(position)
    return found


def units_of(grid):
    return torch.cartesian_prod(*map(torch.arange, grid)).reshape(-1, len(grid)).tolist()


def position_map(b, grid):
    """A grid whose value at each unit is its row-major position, the same for every example."""
    return torch.arange(math.prod(grid), dtype=torch.float32).reshape(1, 1, *grid).expand(b, 1, *grid)


grids = st.integers(1, 3).flatmap(lambda n: st.tuples(*n * [st.integers(2, {1: 9, 2: 7, 3: 4}[n])]))


@pytest.mark.parametrize(("stride", "interior", "corner"), [(1, 8, 3), (2, 24, 8), (3, 48, 15)])
def test_counts_of_valid_neighbours(stride, interior, corner):
    """Checks: ConPreDiff neighbourhood definition"""
    neighbourhood = Neighbourhood(stride)
    counts = neighbourhood.counts(9, 9)
    assert neighbourhood.size() == interior == counts[4, 4]
    assert {int(counts[y, x]) for y in (0, -1) for x in (0, -1)} == {corner}
    assert Neighbourhood(stride, Border.CIRCULAR).counts(9, 9).unique().tolist() == [interior]


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("stride", STRIDES)
def test_offsets_are_those_at_the_distances_named(stride, dimensions):
    """Checks: ConPreDiff neighbourhood definition"""
    rings = stride if isinstance(stride, tuple) else range(1, stride + 1)
    reach = torch.cartesian_prod(*dimensions * [torch.arange(-3, 4)]).reshape(-1, dimensions)
    expected = [offset.tolist() for offset in reach if int(offset.abs().max()) in rings]
    assert [list(offset) for offset in Neighbourhood(stride).offsets(dimensions)] == expected
    assert Neighbourhood(stride).size(dimensions) == len(expected)


def test_grids_are_of_two_dimensions_unless_said():
    one = Neighbourhood(1)
    assert one.offsets() == [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]
    assert one.size() == 8


def test_all_rings_together_are_a_stride():
    assert Neighbourhood((1, 2, 3)) == Neighbourhood((3, 1, 2)) == Neighbourhood(3) != Neighbourhood((3,))
    assert Neighbourhood((3, 1)) == Neighbourhood((1, 3))
    assert Neighbourhood((3, 1)).apart() == (Neighbourhood(1), Neighbourhood((3,)))
    assert Neighbourhood(2, Border.CIRCULAR).apart() == tuple(Neighbourhood((r,), Border.CIRCULAR) for r in (1, 2))


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("grid", [(9,), (7, 8), (7, 7, 7)])
def test_rings_apart_are_the_neighbourhood_taken_apart(grid, border):
    """The neighbours of its rings are those of the neighbourhood, each once.

    Checks: ConPreDiff neighbourhood definition
    Checks: ConPreDiff several strides
    """
    whole = Neighbourhood(3, border)
    values = position_map(1, grid) + 1
    rings = [ring.all_neighbours(values).values for ring in whole.apart()]
    together = torch.cat(rings, 1).sort(1).values
    assert torch.equal(together, whole.all_neighbours(values).values.sort(1).values)
    assert torch.equal(sum(ring.counts(*grid) for ring in whole.apart()), whole.counts(*grid))


@given(grid=grids, stride=st.sampled_from(STRIDES), border=st.sampled_from(BORDERS))
@settings(deadline=None, max_examples=20)
def test_neighbours_follow_the_definition(grid, stride, border):
    """Checks: ConPreDiff neighbourhood definition"""
    neighbourhood = Neighbourhood(stride, border)
    reach = neighbourhood.rings[-1]
    needed = {Border.VALID: 1, Border.REFLECT: reach + 1, Border.SYMMETRIC: reach, Border.CIRCULAR: 2 * reach + 1}
    expected = {tuple(unit): neighbours_by_definition(neighbourhood, unit, grid) for unit in units_of(grid)}
    if min(grid) < needed[border] or not all(expected.values()):
        with pytest.raises(ValueError, match="too small"):
            neighbourhood.neighbours(*grid)
        return
    found = neighbourhood.neighbours(*grid)
    gathered = neighbourhood.all_neighbours(position_map(1, grid))
    counts = neighbourhood.counts(*grid)
    for unit, positions in expected.items():
        here = (slice(None), *unit)
        assert found.positions[here][found.exists[here]].tolist() == positions
        assert gathered.values[(0, slice(None), 0, *unit)][found.exists[here]].tolist() == positions
        assert counts[unit] == len(positions)


def test_all_neighbours_are_zero_where_there_is_none():
    gathered = Neighbourhood(1).all_neighbours(torch.ones(2, 3, 4, 5))
    assert torch.equal(gathered.values.sum((1, 2)), 3.0 * Neighbourhood(1).counts(4, 5).expand(2, 4, 5))


@pytest.mark.parametrize("stride", [3, (1, 3), (2,)])
def test_masses_are_uniform_over_the_neighbours_that_exist(stride):
    neighbourhood = Neighbourhood(stride)
    found = neighbourhood.all_neighbours(torch.randn(1, 1, 6, 7))
    assert (found.masses[~found.exists] == 0).all()
    expected = (1 / neighbourhood.counts(6, 7)).expand_as(found.masses)
    assert torch.equal(found.masses[found.exists], expected[found.exists])
    torch.testing.assert_close(found.masses.sum(0), torch.ones(6, 7))


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize(
    ("grid", "stride"), [((5,), 2), ((7,), (1, 3)), ((4, 3), 1), ((5, 6), (2,)), ((3, 3, 4), 1)], ids=str
)
def test_draws_are_uniform_over_each_units_own_neighbours(border, replacement, grid, stride, generator):
    """Against the definition, by a chi-square statistic over all units.

    Checks: ConPreDiff neighbourhood definition
    """
    neighbourhood, q, b = Neighbourhood(stride, border), 2, 4000
    drawn = neighbourhood.draw(position_map(b, grid), q, replacement=replacement, generator=generator).long()
    assert drawn.shape == (b, q, 1, *grid)
    statistic, freedom = 0.0, 0
    for unit in units_of(grid):
        expected = neighbours_by_definition(neighbourhood, unit, grid)
        seen = torch.bincount(drawn[(slice(None), slice(None), 0, *unit)].flatten(), minlength=math.prod(grid))
        weights = torch.bincount(torch.tensor(expected), minlength=math.prod(grid)) / len(expected)
        assert (seen[weights == 0] == 0).all()
        hoped = b * q * weights[weights > 0]
        statistic += float(((seen[weights > 0] - hoped).square() / hoped).sum())
        freedom += len(hoped) - 1
    assert statistic < freedom + 5 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize(("grid", "stride"), [((5,), 2), ((7, 8), 3), ((5, 6), (2,)), ((3, 3, 4), 1)], ids=str)
def test_draws_are_read_off_the_integers_of_the_generator(border, replacement, grid, stride):
    """The remainder of each is the place in the list of neighbours; so a seed keeps its draws, and its published runs.

    Checks: ConPreDiff neighbourhood definition
    """
    neighbourhood, q = Neighbourhood(stride, border), 2
    seeds = [torch.Generator().manual_seed(7) for _ in range(2)]
    drawn = neighbourhood.draw_positions(2, grid, q, replacement=replacement, generator=seeds[0])
    chance = torch.randint(2**31 - 1, (2, *grid, q), generator=seeds[1])
    for example in range(2):
        for unit in units_of(grid):
            left = neighbours_by_definition(neighbourhood, unit, grid)
            for number, position in zip(chance[(example, *unit)], drawn[(example, *unit)], strict=True):
                place = int(number) % len(left)
                assert position == (left[place] if replacement else left.pop(place))


@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize("at_once", [1, 50, 130])
def test_draws_do_not_depend_on_how_many_are_made_at_once(at_once, replacement, monkeypatch):
    def draw():
        seeded = torch.Generator().manual_seed(1)
        return Neighbourhood((1, 3)).draw_positions(2, (6, 7), 5, replacement=replacement, generator=seeded)

    whole = draw()
    monkeypatch.setattr(neighbourhood, "DRAWS_AT_ONCE", at_once)
    assert torch.equal(draw(), whole)


def test_draws_are_whole_vectors(generator):
    values = torch.randn(2, 3, 4, 5)
    positions = Neighbourhood(2).draw_positions(2, (4, 5), 1, generator=generator)
    drawn = gather(values, positions)
    for example, row, column in torch.cartesian_prod(torch.arange(2), torch.arange(4), torch.arange(5)).tolist():
        (position,) = positions[example, row, column]
        assert torch.equal(drawn[example, 0, :, row, column], values[example].flatten(1)[:, position])


def test_slabs_of_draws_are_those_of_the_whole(generator):
    values = torch.randn(2, 3, 6, 5, 4)
    seeds = [torch.Generator().manual_seed(1) for _ in range(2)]
    whole = Neighbourhood(1).draw(values, 4, generator=seeds[0])
    positions = Neighbourhood(1).draw_positions(2, (6, 5, 4), 4, generator=seeds[1])
    slabs = [gather(values, positions[:, rows : rows + 2]) for rows in (0, 2, 4)]
    assert torch.equal(torch.cat(slabs, 3), whole)


@pytest.mark.slow
def test_draws_of_a_million_units_take_little_more_memory_than_their_positions():
    """Peak of a fresh process, in units of the 72 MiB of the result."""
    program = """
import resource, torch
from context_prediction import Neighbourhood
Neighbourhood(3).draw_positions(1, (64, 64), 9)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
Neighbourhood(3).draw_positions(1, (1024, 1024), 9)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 / 72)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 3


def test_draws_without_replacement_differ_and_exhaust_the_neighbourhood(generator):
    """Checks: NWR-GAE sampling of neighbours"""
    neighbourhood = Neighbourhood(2)
    drawn = neighbourhood.draw(position_map(3, (6, 7)), 8, replacement=False, generator=generator)
    corner = drawn[:, :, 0, 0, 0].sort(1).values
    assert torch.equal(corner, torch.tensor([1.0, 2, 7, 8, 9, 14, 15, 16]).expand(3, 8))
    assert (drawn.sort(1).values.diff(dim=1) > 0).all()


def test_pairs_drawn_without_replacement_are_equally_likely(generator):
    """Checks: NWR-GAE sampling of neighbours"""
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


def test_draws_without_a_generator_are_from_that_of_torch():
    torch.manual_seed(3)
    drawn = Neighbourhood(2).draw_positions(1, (5, 6), 4)
    generator = torch.Generator().manual_seed(3)
    assert torch.equal(drawn, Neighbourhood(2).draw_positions(1, (5, 6), 4, generator=generator))


def test_draws_carry_gradients_to_the_units_drawn(generator):
    values = torch.randn(2, 3, 4, 4, requires_grad=True)
    Neighbourhood(1).draw(values, 5, generator=generator).sum().backward()
    assert values.grad is not None and values.grad.sum() == 2 * 3 * 16 * 5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Neighbourhood(0), "stride is 0"),
        (lambda: Neighbourhood(()), r"stride is \(\)"),
        (lambda: Neighbourhood((0, 1)), r"stride is \(0, 1\)"),
        (lambda: Neighbourhood((2, 2)), r"stride is \(2, 2\).*each once"),
        (lambda: Neighbourhood((3,)).counts(3, 3), r"\(3, 3\) is too small: unit \(0, 0\).*rings \(3,\).*at least 6"),
        (
            lambda: Neighbourhood((3,)).draw(torch.zeros(1, 1, 5, 5), 1),
            r"\(5, 5\) is too small: unit \(2, 2\) has no neighbour within rings \(3,\).*nearer ring",
        ),
        (lambda: Neighbourhood((1, 3), Border.SYMMETRIC).counts(2, 9), r"\(2, 9\) is too small.*at least 3"),
        (lambda: Neighbourhood(3, Border.CIRCULAR).counts(6, 9), r"\(6, 9\) is too small.*at least 7"),
        (lambda: Neighbourhood(3, Border.REFLECT).counts(3, 9), r"\(3, 9\) is too small.*at least 4"),
        (lambda: Neighbourhood(3).counts(1, 1), "single unit"),
        (lambda: Neighbourhood(1).draw(torch.zeros(1, 1, 4, 4), 0), "q is 0"),
        (
            lambda: Neighbourhood(1).draw(torch.zeros(1, 1, 4, 4), 4, replacement=False),
            r"only 3 neighbours within stride 1: draw .* or raise the stride$",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("stride", [1.5, (1, 2.5), [1, 3], None])
def test_strides_of_another_type_are_named(stride):
    with pytest.raises(TypeError, match="an integer, 3, or a tuple of rings"):
        Neighbourhood(stride)
