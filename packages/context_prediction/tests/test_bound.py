import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from context_prediction import Border, Neighbourhood, aggregate, arrivals, bound, ordered_loss, wasserstein

neighbourhoods = st.sampled_from([Neighbourhood(s, border) for s in (1, 2, (2,)) for border in Border])
grids = st.lists(st.integers(5, 7), min_size=1, max_size=2)


def predictions(neighbourhood, grid, seed, b=2, c=2):
    generator = torch.Generator().manual_seed(seed)
    point, target = torch.randn(2, b, c, *grid, generator=generator, dtype=torch.float64)
    p = neighbourhood.size(len(grid))
    return point, torch.randn(b, p, c, *grid, generator=generator, dtype=torch.float64), target


@given(neighbourhood=neighbourhoods, grid=grids, seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=30)
def test_the_bound_holds(neighbourhood, grid, seed):
    """Checks: ConPreDiff aggregation bound"""
    sides = bound(*predictions(neighbourhood, grid, seed), neighbourhood)
    assert (sides.error <= sides.constant * sides.loss * (1 + 1e-12)).all()


@given(neighbourhood=neighbourhoods, grid=grids, seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=10)
def test_aggregation_averages_what_arrives(neighbourhood, grid, seed):
    """Against loops over senders and their neighbours.

    Checks: ConPreDiff aggregation bound
    """
    point, neighbours, _ = predictions(neighbourhood, grid, seed)
    found = neighbourhood.neighbours(*grid)
    total, count = point.flatten(2).clone(), torch.ones(point[0, 0].numel())
    positions, exists, sent = found.positions.flatten(1), found.exists.flatten(1), neighbours.flatten(3)
    for j, sender in exists.nonzero().tolist():
        total[..., positions[j, sender]] += sent[:, j, :, sender]
        count[positions[j, sender]] += 1
    torch.testing.assert_close(aggregate(point, neighbours, neighbourhood).flatten(2), total / count)
    assert torch.equal(arrivals(neighbourhood, *grid).flatten(), count.long())


@pytest.mark.parametrize(
    ("border", "constant"), [(Border.CIRCULAR, 1 / 9), (Border.VALID, 1 / 4), (Border.REFLECT, 1 / 4)]
)
def test_constants(border, constant):
    """1/(p + 1) on a torus; a corner receives 4 predictions otherwise.

    Checks: ConPreDiff aggregation bound
    """
    neighbourhood = Neighbourhood(1, border)
    assert bound(*predictions(neighbourhood, (6, 6), 0), neighbourhood).constant == constant


def test_equality_where_all_errors_are_equal():
    """Equal errors of every prediction make Jensen's inequality an equality.

    Checks: ConPreDiff aggregation bound
    """
    neighbourhood = Neighbourhood(2, Border.CIRCULAR)
    _, _, target = predictions(neighbourhood, (6, 7), 1)
    sides = bound(target + 0.5, neighbourhood.all_neighbours(target).values + 0.5, target, neighbourhood)
    torch.testing.assert_close(sides.error, sides.constant * sides.loss)


@pytest.mark.parametrize("border", list(Border))
def test_perfect_predictions_leave_no_error(border):
    """Checks: ConPreDiff aggregation bound, point and neighbourhood loss"""
    neighbourhood = Neighbourhood(1, border)
    _, _, target = predictions(neighbourhood, (6, 6), 2)
    sides = bound(target, neighbourhood.all_neighbours(target).values, target, neighbourhood)
    assert (sides.loss == 0).all() and (sides.error < 1e-24).all()


def test_the_literal_reading_is_no_bound():
    """Averaging what a unit sends mixes targets: error without loss.

    Checks: ConPreDiff aggregation bound
    """
    neighbourhood = Neighbourhood(1, Border.CIRCULAR)
    _, _, target = predictions(neighbourhood, (6, 6), 3)
    perfect = neighbourhood.all_neighbours(target).values
    literal = torch.cat([target[:, None], perfect], 1).mean(1)
    assert (ordered_loss(target, perfect, target, neighbourhood) == 0).all()
    assert ((literal - target).square().flatten(1).sum(1) > 10).all()


def test_ordered_loss_by_loops():
    """Checks: ConPreDiff point and neighbourhood loss"""
    neighbourhood = Neighbourhood(1)
    point, neighbours, target = predictions(neighbourhood, (3, 4), 4)
    expected = (point - target).square().sum((1, 2, 3))
    for y in range(3):
        for x in range(4):
            for j, (dy, dx) in enumerate(neighbourhood.offsets()):
                if 0 <= y + dy < 3 and 0 <= x + dx < 4:
                    expected += (neighbours[:, j, :, y, x] - target[:, :, y + dy, x + dx]).square().sum(1)
    torch.testing.assert_close(ordered_loss(point, neighbours, target, neighbourhood), expected)


def test_the_matched_loss_is_at_most_the_ordered_one():
    """So the trained loss bounds nothing: a permuted prediction has matched loss 0 and an error.

    Checks: ConPreDiff aggregation bound, empirical Wasserstein distance
    """
    neighbourhood = Neighbourhood(1, Border.CIRCULAR)
    point, neighbours, target = predictions(neighbourhood, (5, 5), 5)
    real = neighbourhood.all_neighbours(target).values
    for predicted in (neighbours, real.roll(1, 1)):
        sets = [values.movedim((1, 2), (-2, -1)) for values in (predicted, real)]
        matched = 8 * 2 * wasserstein(*sets).flatten(1).sum(1)
        ordered = ordered_loss(target, predicted, target, neighbourhood)
        assert (matched <= ordered * (1 + 1e-12)).all()
    assert (matched == 0).all()
    assert (bound(target, real.roll(1, 1), target, neighbourhood).error > 1).all()
