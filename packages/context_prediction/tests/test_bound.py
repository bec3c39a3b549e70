import math
from itertools import permutations, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from context_prediction import (
    Border,
    Neighbourhood,
    aggregate,
    aggregate_log_probabilities,
    arrivals,
    bound,
    discrete_bound,
    ordered_loss,
    wasserstein,
)

STRIDES = {1: [1, 2, 3, (2,), (1, 3)], 2: [1, 2, (2,), 3, (1, 3)], 3: [1, (2,)]}
LONGEST = {1: 9, 2: 7, 3: 5}


@st.composite
def cases(draw):
    """A neighbourhood, as its arguments, and a grid of one to three axes on which it is defined, short ones too."""
    n = draw(st.integers(1, 3))
    stride, border = draw(st.sampled_from([(s, border) for s in STRIDES[n] for border in Border]))
    nearest, reach = (1, stride) if isinstance(stride, int) else (min(stride), max(stride))
    shortest = {
        Border.VALID: 2 * nearest,
        Border.REFLECT: reach + 1,
        Border.SYMMETRIC: max(2, reach),
        Border.CIRCULAR: 2 * reach + 1,
    }[border]
    return stride, border, draw(st.tuples(*n * [st.integers(shortest, max(shortest, LONGEST[n]))]))


def predictions(neighbourhood, grid, seed, b=2, c=2):
    generator = torch.Generator().manual_seed(seed)
    point, target = torch.randn(2, b, c, *grid, generator=generator, dtype=torch.float64)
    p = neighbourhood.size(len(grid))
    return point, torch.randn(b, p, c, *grid, generator=generator, dtype=torch.float64), target


def distributions(neighbourhood, grid, seed, b=2, k=4):
    """Log-probabilities, zero probabilities among them, and tokens."""
    point, neighbours, _ = predictions(neighbourhood, grid, seed, b, k)
    neighbours[:, :, 0] = neighbours[:, :, 0].where(neighbours[:, :, 1] < 1, -torch.inf)
    tokens = torch.randint(k, (b, *grid), generator=torch.Generator().manual_seed(seed))
    return (3 * point).log_softmax(1), (3 * neighbours).log_softmax(2), tokens


def sendings(neighbourhood, grid):
    """Every `(offset, sender, receiver)`, units as row-major positions."""
    found = neighbourhood.neighbours(*grid)
    positions, exists = found.positions.flatten(1), found.exists.flatten(1)
    return [(j, sender, int(positions[j, sender])) for j, sender in exists.nonzero().tolist()]


@given(case=cases(), seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=30)
def test_the_bound_holds(case, seed):
    """Also with each unit weighed by its arrivals, then without a constant.

    Checks: ConPreDiff aggregation bound
    """
    neighbourhood, grid = Neighbourhood(*case[:2]), case[2]
    point, neighbours, target = predictions(neighbourhood, grid, seed)
    sides = bound(point, neighbours, target, neighbourhood)
    assert (sides.error <= sides.constant * sides.loss * (1 + 1e-12)).all()
    errors = (aggregate(point, neighbours, neighbourhood) - target).square()
    weighed = (arrivals(neighbourhood, *grid) * errors).flatten(1).sum(1)
    assert (weighed <= sides.loss * (1 + 1e-12)).all()


@given(case=cases(), seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=30)
def test_the_discrete_bound_holds(case, seed):
    """Checks: ConPreDiff aggregation bound"""
    neighbourhood, grid = Neighbourhood(*case[:2]), case[2]
    sides = discrete_bound(*distributions(neighbourhood, grid, seed), neighbourhood)
    assert (sides.error <= sides.constant * sides.loss * (1 + 1e-12)).all()
    assert sides.error.isfinite().all() and (sides.error > 0).all()


@given(case=cases(), seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=20)
def test_the_constants_cannot_be_lower(case, seed):
    """Equality where the units of fewest arrivals, and they alone, are mispredicted by all in the same way.

    Checks: ConPreDiff aggregation bound
    """
    neighbourhood, grid = Neighbourhood(*case[:2]), case[2]
    wrong, _, target = predictions(neighbourhood, grid, seed)
    arrived = arrivals(neighbourhood, *grid)
    wrong = wrong.where(arrived == arrived.min(), target)
    sides = bound(wrong, neighbourhood.all_neighbours(wrong).values, target, neighbourhood)
    torch.testing.assert_close(sides.error, sides.constant * sides.loss)

    likelihood = torch.where(arrived == arrived.min(), 0.3, 1.0).double().expand(2, *grid)
    point = torch.stack([likelihood, 1 - likelihood], 1)
    neighbours = neighbourhood.all_neighbours(point).values
    tokens = torch.zeros(2, *grid, dtype=torch.int64)
    sides = discrete_bound(point.log(), neighbours.log(), tokens, neighbourhood)
    torch.testing.assert_close(sides.error, sides.constant * sides.loss)


@given(case=cases(), seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=10)
def test_aggregation_averages_what_arrives(case, seed):
    """Against loops over senders and their neighbours.

    Checks: ConPreDiff aggregation bound
    """
    neighbourhood, grid = Neighbourhood(*case[:2]), case[2]
    point, neighbours, _ = predictions(neighbourhood, grid, seed)
    total, count, sent = point.flatten(2).clone(), torch.ones(point[0, 0].numel()), neighbours.flatten(3)
    for j, sender, receiver in sendings(neighbourhood, grid):
        total[..., receiver] += sent[:, j, :, sender]
        count[receiver] += 1
    torch.testing.assert_close(aggregate(point, neighbours, neighbourhood).flatten(2), total / count)
    assert torch.equal(arrivals(neighbourhood, *grid).flatten(), count.long())


@given(case=cases(), seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=10)
def test_the_discrete_bound_by_loops(case, seed):
    """Averaged distributions and both sides, over senders and their neighbours.

    Checks: ConPreDiff aggregation bound
    """
    neighbourhood, grid = Neighbourhood(*case[:2]), case[2]
    point, neighbours, tokens = distributions(neighbourhood, grid, seed, b=1)
    own, sent, ids = point[0].flatten(1).exp(), neighbours[0].flatten(2).exp(), tokens.flatten().tolist()
    total, count = own.clone(), torch.ones(len(ids), dtype=torch.float64)
    likelihoods = [own[token, unit] for unit, token in enumerate(ids)]
    for j, sender, receiver in sendings(neighbourhood, grid):
        total[:, receiver] += sent[j, :, sender]
        count[receiver] += 1
        likelihoods.append(sent[j, ids[receiver], sender])
    averaged = aggregate_log_probabilities(point, neighbours, neighbourhood)
    torch.testing.assert_close(averaged[0].flatten(1), (total / count).log())
    sides = discrete_bound(point, neighbours, tokens, neighbourhood)
    error = -sum(math.log(total[token, unit] / count[unit]) for unit, token in enumerate(ids))
    assert sides.error.item() == pytest.approx(error)
    assert sides.loss.item() == pytest.approx(-torch.stack(likelihoods).log().sum().item())
    assert sides.constant == 1 / count.min().item()


@pytest.mark.parametrize("border", [Border.CIRCULAR, Border.SYMMETRIC])
@pytest.mark.parametrize("stride", [1, 2, 3, (2,), (1, 3)], ids=str)
@pytest.mark.parametrize("grid", [(8,), (7, 9), (7, 8, 7)], ids=str)
def test_equally_many_predictions_arrive_everywhere(border, stride, grid):
    """p + 1, on a torus and behind a mirror that repeats the edge: the paper's constant 1/(p + 1).

    Checks: ConPreDiff aggregation bound
    """
    neighbourhood = Neighbourhood(stride, border)
    assert arrivals(neighbourhood, *grid).unique().tolist() == [neighbourhood.size(len(grid)) + 1]


@pytest.mark.parametrize("border", [Border.VALID, Border.REFLECT])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("grid", [(8,), (5, 9), (6, 5, 7)], ids=str)
def test_a_corner_receives_fewest_otherwise(border, stride, grid):
    """(s + 1)^n. As many arrive as are sent, with `VALID` at every unit, with `REFLECT` only in all.

    Checks: ConPreDiff aggregation bound
    """
    neighbourhood, n = Neighbourhood(stride, border), len(grid)
    arrived, sent = arrivals(neighbourhood, *grid), neighbourhood.counts(*grid) + 1
    assert arrived.min() == arrived[(0,) * n] == (stride + 1) ** n
    assert arrived.sum() == sent.sum()
    assert torch.equal(arrived, sent) is (border is Border.VALID)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("grid", [(8,), (8, 10), (8, 9, 8)], ids=str)
def test_arrivals_behind_a_mirror_at_the_edge(stride, grid):
    """Along each axis s + 1 on the edge, 2s + 2 up to s from it, 2s + 1 beyond.

    Checks: ConPreDiff aggregation bound
    """
    expected = torch.ones((), dtype=torch.int64)
    for length in grid:
        inwards = [min(i, length - 1 - i) for i in range(length)]
        along = [stride + 1 if i == 0 else 2 * stride + 2 if i <= stride else 2 * stride + 1 for i in inwards]
        expected = expected[..., None] * torch.tensor(along)
    assert torch.equal(arrivals(Neighbourhood(stride, Border.REFLECT), *grid), expected)


@pytest.mark.parametrize(
    ("border", "constant"),
    [(Border.CIRCULAR, 1 / 9), (Border.SYMMETRIC, 1 / 9), (Border.VALID, 1 / 4), (Border.REFLECT, 1 / 4)],
)
def test_constants(border, constant):
    """1/(p + 1) where p + 1 predictions arrive everywhere; a corner receives 4 otherwise.

    Checks: ConPreDiff aggregation bound
    """
    neighbourhood = Neighbourhood(1, border)
    assert bound(*predictions(neighbourhood, (6, 6), 0), neighbourhood).constant == constant
    assert discrete_bound(*distributions(neighbourhood, (6, 6), 0), neighbourhood).constant == constant


@pytest.mark.parametrize("border", [Border.CIRCULAR, Border.SYMMETRIC])
@pytest.mark.parametrize("stride", [2, (1, 3)], ids=str)
def test_equality_where_all_predictions_of_a_unit_err_alike(border, stride):
    """Whatever the error of each unit: nothing is lost by Jensen's inequality, nor by unequal numbers of arrivals.

    Checks: ConPreDiff aggregation bound
    """
    neighbourhood = Neighbourhood(stride, border)
    wrong, _, target = predictions(neighbourhood, (7, 8), 1)
    sides = bound(wrong, neighbourhood.all_neighbours(wrong).values, target, neighbourhood)
    torch.testing.assert_close(sides.error, sides.constant * sides.loss)


def test_opposite_errors_cancel_in_the_average():
    """The other extreme: a large loss and no error.

    Checks: ConPreDiff aggregation bound
    """
    neighbourhood = Neighbourhood(1, Border.CIRCULAR)
    _, _, target = predictions(neighbourhood, (5, 5), 1)
    off = torch.tensor([1.0, -1] * 4, dtype=torch.float64)[None, :, None, None, None]
    sides = bound(target, neighbourhood.all_neighbours(target).values + off, target, neighbourhood)
    assert (sides.error < 1e-24).all()
    torch.testing.assert_close(sides.loss, torch.full((2,), 2.0 * 25 * 8, dtype=torch.float64))


@pytest.mark.parametrize("border", list(Border))
def test_perfect_predictions_leave_no_error(border):
    """Checks: ConPreDiff aggregation bound, point and neighbourhood loss"""
    neighbourhood = Neighbourhood(1, border)
    _, _, target = predictions(neighbourhood, (6, 6), 2)
    sides = bound(target, neighbourhood.all_neighbours(target).values, target, neighbourhood)
    assert (sides.loss == 0).all() and (sides.error < 1e-24).all()


def test_the_literal_reading_is_no_bound():
    """Averaging what a unit sends mixes targets: on a chequerboard the error is 64/81 at each unit, without loss.

    Checks: ConPreDiff aggregation bound
    """
    neighbourhood = Neighbourhood(1, Border.CIRCULAR)
    target = (1 - 2.0 * (torch.arange(6)[:, None] + torch.arange(6)).remainder(2)).double()[None, None]
    perfect = neighbourhood.all_neighbours(target).values
    literal = torch.cat([target[:, None], perfect], 1).mean(1)
    assert ordered_loss(target, perfect, target, neighbourhood) == 0
    torch.testing.assert_close((literal - target).square(), torch.full_like(target, 64 / 81))


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


@given(case=cases().filter(lambda case: len(case[2]) < 3), seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=15)
def test_the_matched_loss_is_at_most_the_ordered_one(case, seed):
    """Unit by unit: the identity is one of the permutations.

    Checks: ConPreDiff aggregation bound, empirical Wasserstein distance
    """
    neighbourhood, grid = Neighbourhood(*case[:2]), case[2]
    _, predicted, target = predictions(neighbourhood, grid, seed, b=1)
    real = neighbourhood.all_neighbours(target)
    for unit in range(0, target[0, 0].numel(), 5):
        exists = real.exists.flatten(1)[:, unit]
        sets = [values[0].flatten(2)[exists, :, unit] for values in (predicted, real.values)]
        ordered = (sets[0] - sets[1]).square().mean()
        assert wasserstein(*(values[None] for values in sets)) <= ordered * (1 + 1e-12)


def test_the_trained_loss_bounds_nothing():
    """A permuted prediction has matched loss 0 and an error.

    Checks: ConPreDiff aggregation bound, empirical Wasserstein distance
    """
    neighbourhood = Neighbourhood(1, Border.CIRCULAR)
    _, _, target = predictions(neighbourhood, (5, 5), 5)
    real = neighbourhood.all_neighbours(target).values
    permuted = real.roll(1, 1)
    assert (wasserstein(*(values.movedim((1, 2), (-2, -1)) for values in (permuted, real))) == 0).all()
    assert (bound(target, permuted, target, neighbourhood).error > 1).all()


@pytest.mark.parametrize("q", [1, 2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_draws_are_on_average_further_apart_than_their_distributions(q, seed):
    """W2^2(P, Q) <= E W2^2(P_q, Q_q), over all draws with and all without replacement; for q = 1 by moments.

    Checks: ConPreDiff empirical Wasserstein distance
    """
    a, b = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for draws in (list(product(range(3), repeat=q)), list(permutations(range(3), q))):
        pairs = torch.tensor(list(product(draws, draws)))
        mean = wasserstein(a[pairs[:, 0]], b[pairs[:, 1]]).mean()
        assert wasserstein(a[None], b[None])[0] <= mean * (1 + 1e-12)
        if q == 1:
            moments = (a.mean(0) - b.mean(0)).square() + a.var(0, correction=0) + b.var(0, correction=0)
            torch.testing.assert_close(mean, moments.mean())


def test_logarithms_neither_overflow_nor_vanish():
    """Likelihoods below the smallest number keep their ratios; what all rule out stays ruled out.

    Checks: ConPreDiff aggregation bound
    """
    sure = torch.tensor([0.0, -3000, -torch.inf])
    averaged = aggregate_log_probabilities(
        sure[None, :, None].expand(1, 3, 4), sure[None, None, :, None].expand(1, 2, 3, 4), Neighbourhood(1)
    )
    torch.testing.assert_close(averaged, sure[None, :, None].expand(1, 3, 4))


def test_the_discrete_bound_carries_gradients():
    """Those of both sides, against differences.

    Checks: ConPreDiff aggregation bound
    """
    neighbourhood, tokens = Neighbourhood((2,)), torch.tensor([[0, 2, 1, 1]])
    point, neighbours, _ = predictions(neighbourhood, (4,), 0, b=1, c=3)

    def sides(point, neighbours):
        found = discrete_bound(point.log_softmax(1), neighbours.log_softmax(2), tokens, neighbourhood)
        return found.error, found.loss

    assert torch.autograd.gradcheck(sides, (point.requires_grad_(), neighbours.requires_grad_()))


@pytest.mark.usefixtures("unchecked_shapes")
def test_bad_input_to_the_bound_is_named():
    neighbourhood = Neighbourhood(1)
    point, neighbours, target = predictions(neighbourhood, (4, 5), 0)
    with pytest.raises(ValueError, match=r"neighbours has shape .*for \(2, 8, 2, 4, 5\).*offsets"):
        aggregate(point, neighbours[:, :7], neighbourhood)
    with pytest.raises(ValueError, match="neighbours has shape"):
        bound(point, neighbours[..., :4], target, neighbourhood)
    with pytest.raises(ValueError, match=r"target \(2, 2, 4, 4\) and point \(2, 2, 4, 5\)"):
        bound(point, neighbours, target[..., :4], neighbourhood)
    with pytest.raises(TypeError, match="torch.int64.*discrete_bound"):
        bound(point, neighbours, target.long(), neighbourhood)


@pytest.mark.usefixtures("unchecked_shapes")
def test_bad_input_to_the_discrete_bound_is_named():
    neighbourhood = Neighbourhood(1)
    point, neighbours, tokens = distributions(neighbourhood, (4, 5), 0)
    with pytest.raises(ValueError, match="neighbours has shape"):
        discrete_bound(point, neighbours[:, :7], tokens, neighbourhood)
    with pytest.raises(ValueError, match=r"tokens has shape \(2, 4, 4\)"):
        discrete_bound(point, neighbours, tokens[..., :4], neighbourhood)
    with pytest.raises(TypeError, match="torch.float32.*token ids"):
        discrete_bound(point, neighbours, tokens.float(), neighbourhood)
    masked = torch.where(torch.arange(40).reshape(2, 4, 5) == 7, 4, 1)
    with pytest.raises(ValueError, match="ids from 1 to 4, .* probabilities of 4, 0 to 3; .*without the mask"):
        discrete_bound(point, neighbours, masked, neighbourhood)
    with pytest.raises(ValueError, match="point is not normalised.*log_softmax of the logits over k$"):
        discrete_bound(point + 1, neighbours, tokens, neighbourhood)
    with pytest.raises(ValueError, match="neighbours is not normalised"):
        discrete_bound(point, neighbours.exp(), tokens, neighbourhood)
