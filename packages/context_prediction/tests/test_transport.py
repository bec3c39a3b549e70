import json
import sys
import warnings
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment, linprog
from scipy.spatial.distance import cdist

from context_prediction import linear_assignment, transport_plan, wasserstein, wasserstein_rms
from context_prediction.assignment import permutations as permutations_engine
from context_prediction.assignment import scipy_loop

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the sources of some releases of POT hold invalid escapes
    try:
        import ot
    except ImportError:
        ot = None

needs_pot = pytest.mark.skipif(ot is None, reason="POT is not installed")

sizes = st.integers(1, 7)
seeds = st.integers(0, 2**31)


def least_totals(cost):
    """Least total cost of every problem, by trying all permutations."""
    rows = torch.arange(cost.shape[-1])
    return cost[..., rows, torch.tensor(list(permutations(rows.tolist())))].sum(-1).amin(-1)


def totals(cost, matching):
    return cost.gather(-1, matching[..., None]).squeeze(-1).sum(-1)


@given(q=sizes, seed=seeds, tied=st.booleans(), dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
@settings(deadline=None, max_examples=30)
def test_assignment_is_exactly_optimal(q, seed, tied, dtype):
    """Against brute force, ties and repeated rows included.

    Checks: ConPreDiff empirical Wasserstein distance
    """
    generator = torch.Generator().manual_seed(seed)
    cost = torch.rand(7, 3, q, q, generator=generator)
    cost = ((3 * cost).floor() if tied else cost).to(dtype)
    cost[0, 0] = cost[0, 0, :1]
    matching = linear_assignment(cost)
    assert torch.equal(matching.sort(-1).values, torch.arange(q).expand(7, 3, q))
    torch.testing.assert_close(totals(cost.double(), matching), least_totals(cost.double()), rtol=1e-12, atol=0)


@pytest.mark.parametrize("q", [2, 3, 4, 5, 6, 9])
def test_assignment_costs_what_scipy_finds(q, generator):
    """Checks: ConPreDiff empirical Wasserstein distance"""
    cost = torch.randn(50, q, q, generator=generator, dtype=torch.float64)
    peer = torch.stack([torch.from_numpy(linear_sum_assignment(problem)[1]) for problem in cost.numpy()])
    torch.testing.assert_close(totals(cost, linear_assignment(cost)), totals(cost, peer), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("q", [4, 7])
def test_chunks_do_not_change_the_result(q, generator):
    a, b = torch.randn(2, 33, q, 3, generator=generator)
    cost = torch.cdist(a, b)
    assert torch.equal(linear_assignment(cost, chunk=5), linear_assignment(cost))
    assert torch.equal(wasserstein(a, b, chunk=5), wasserstein(a, b))
    assert torch.equal(wasserstein_rms(a, b, chunk=5), wasserstein_rms(a, b))


@given(q=sizes, seed=seeds)
@settings(deadline=None, max_examples=20)
def test_wasserstein_by_brute_force(q, seed):
    """Checks: ConPreDiff empirical Wasserstein distance"""
    a, b = torch.randn(2, 4, q, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    squared = (a[:, :, None] - b[:, None]).square().mean(-1)
    torch.testing.assert_close(wasserstein(a, b), least_totals(squared) / q)
    torch.testing.assert_close(wasserstein_rms(a, b), least_totals(squared.sqrt()) / q)


def test_wasserstein_on_a_line_matches_sorted_points(generator):
    """On a line the optimal transport is monotone.

    Checks: ConPreDiff empirical Wasserstein distance
    """
    a, b = torch.randn(2, 40, 5, 1, generator=generator)
    torch.testing.assert_close(wasserstein(a, b), (a.sort(1).values - b.sort(1).values).square().mean((1, 2)))


def test_wasserstein_to_a_shifted_copy_is_the_shift_squared(generator):
    a, shift = torch.randn(20, 5, 3, generator=generator), torch.tensor([0.3, -2.0, 5.0])
    moved = (a + shift)[:, torch.randperm(5, generator=generator)]
    torch.testing.assert_close(wasserstein(a, moved), shift.square().mean().expand(20))


@pytest.mark.parametrize("distance", [wasserstein, wasserstein_rms])
@pytest.mark.parametrize("q", [1, 4, 7])
def test_distances_between_multisets(distance, q, generator):
    """Symmetric, blind to order, zero for equal multisets and for no others."""
    a, b = torch.randn(2, 12, q, 3, generator=generator, dtype=torch.float64)
    a[0, :] = a[0, :1]
    shuffled = torch.randperm(q, generator=generator)
    torch.testing.assert_close(distance(a[:, shuffled], b), distance(a, b))
    torch.testing.assert_close(distance(a, b[:, shuffled]), distance(a, b))
    torch.testing.assert_close(distance(b, a), distance(a, b))
    assert (distance(a, a[:, shuffled]) == 0).all()
    assert (distance(a, b) > 0).all()


def test_multiplicities_count():
    """Equal as sets, not as multisets."""
    a, b = torch.tensor([[[0.0], [0.0], [1.0]]]), torch.tensor([[[0.0], [1.0], [1.0]]])
    torch.testing.assert_close(wasserstein(a, b), torch.tensor([1 / 3]))


@pytest.mark.parametrize("distance", [wasserstein, wasserstein_rms])
@pytest.mark.parametrize("q", [3, 6])
def test_gradients_off_ties(distance, q, generator):
    """Against finite differences.

    Checks: ConPreDiff empirical Wasserstein distance
    """
    a, b = torch.randn(2, 3, q, 2, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(distance, (a.requires_grad_(), b.requires_grad_()))


@pytest.mark.parametrize("distance", [wasserstein, wasserstein_rms])
def test_gradient_is_finite_where_sets_coincide(distance):
    a = torch.ones(2, 4, 3, requires_grad=True)
    distance(a, torch.ones(2, 4, 3)).sum().backward()
    assert a.grad is not None and (a.grad == 0).all()


def test_half_precision_is_computed_in_single(generator):
    a, b = torch.randn(2, 9, 4, 3, generator=generator).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = wasserstein(a, b)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, wasserstein(a.float(), b.float()))


def test_no_problems_no_matching():
    assert linear_assignment(torch.zeros(0, 4, 4)).shape == (0, 4)
    assert wasserstein(torch.zeros(0, 7, 3), torch.zeros(0, 7, 3)).shape == (0,)


@pytest.mark.parametrize("q", [3, 7])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_costs_that_are_not_finite_are_refused(q, bad):
    cost = torch.zeros(2, q, q)
    cost[1, 0, 0] = bad
    with pytest.raises(ValueError, match="not finite"):
        linear_assignment(cost)


@pytest.mark.parity
def test_recorded_outputs_of_nwr_gae(golden):
    """Loss, gradient and matching of the released code.

    Checks: NWR-GAE neighbourhood reconstruction loss
    """
    folder = golden / "nwrgae_hungarian"
    recorded = pytest.importorskip("safetensors.torch").load_file(folder / "io.safetensors")
    for case in json.loads((folder / "config.json").read_text())["cases"]:
        values = {name.split(".", 1)[1]: x for name, x in recorded.items() if name.startswith(f"c{case['index']}.")}
        predictions = values["predictions"].requires_grad_()
        a, b = predictions[:, : case["mask"]], values["targets"][:, : case["mask"]]
        loss = wasserstein_rms(a, b).mean()
        loss.backward()
        matching = linear_assignment(torch.cdist(a.detach().double(), b.double()))
        assert torch.equal(matching, values["assignment_target_of_prediction"])
        torch.testing.assert_close(loss.detach(), values["loss"], rtol=0, atol=1e-6)
        torch.testing.assert_close(predictions.grad, values["grad_predictions"], rtol=0, atol=1e-6)
        squared = wasserstein(values["predictions"].detach(), values["targets"]).mean()
        torch.testing.assert_close(squared, values["class_variant_mean_squared_loss"], rtol=0, atol=1e-5)


def test_root_mean_square_form_by_hand():
    """Pairs at distances 3 and 4 in one of two channels.

    Checks: NWR-GAE neighbourhood reconstruction loss
    """
    a, b = torch.tensor([[[0.0, 0.0], [10.0, 0.0]]]), torch.tensor([[[14.0, 0.0], [3.0, 0.0]]])
    torch.testing.assert_close(wasserstein_rms(a, b), torch.tensor([3.5 / 2**0.5]))


def least_cost(x, y, p, s):
    """The linear programme of transport itself, as any SciPy solves it."""
    cost = cdist(x, y)
    q, r = cost.shape
    sums = np.vstack([np.kron(np.eye(q), np.ones(r)), np.kron(np.ones(q), np.eye(r))])
    return linprog(cost.ravel(), A_eq=sums, b_eq=np.concatenate([p / p.sum(), s / s.sum()])).fun


@needs_pot
@pytest.mark.parametrize(("q", "r"), [(3, 3), (2, 5), (7, 4)])
def test_unequal_masses_cost_what_scipy_finds(q, r, generator):
    """SciPy solves the same linear programme.

    Checks: ConPreDiff empirical Wasserstein distance
    """
    a, b = torch.randn(4, q, 3, generator=generator).double(), torch.randn(4, r, 3, generator=generator).double()
    masses = torch.rand(4, q, generator=generator).double() + 0.1, torch.rand(4, r, generator=generator).double() + 0.1
    lengths = wasserstein_rms(a, b, a_mass=masses[0], b_mass=masses[1])
    peer = [
        least_cost(x, y, p, s) / 3**0.5
        for x, y, p, s in zip(a.numpy(), b.numpy(), *(m.numpy() for m in masses), strict=True)
    ]
    torch.testing.assert_close(lengths, torch.tensor(peer, dtype=torch.float64), rtol=1e-6, atol=1e-9)


@needs_pot
@pytest.mark.parametrize(("q", "r"), [(3, 3), (2, 5), (7, 4)])
def test_unequal_masses_cost_what_pot_finds(q, r, generator):
    """Checks: ConPreDiff empirical Wasserstein distance"""
    a, b = torch.randn(4, q, 3, generator=generator).double(), torch.randn(4, r, 3, generator=generator).double()
    p, s = torch.full((q,), 1 / q, dtype=torch.float64), torch.rand(r, generator=generator).double()
    squared = (a[:, :, None] - b[:, None]).square().sum(-1)
    peer = [float(ot.emd2(p.numpy(), (s / s.sum()).numpy(), cost.numpy())) / 3 for cost in squared]
    peer = torch.tensor(peer, dtype=torch.float64)
    torch.testing.assert_close(wasserstein(a, b, b_mass=s), peer, rtol=1e-9, atol=1e-12)


@needs_pot
@pytest.mark.parametrize("distance", [wasserstein, wasserstein_rms])
def test_uniform_masses_are_the_assignment(distance, generator):
    """A plan between equal sizes is a matching (Birkhoff); only proportions of masses matter."""
    a, b = torch.randn(2, 6, 5, 3, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(distance(a, b, a_mass=torch.full((5,), 3.0)), distance(a, b))


@needs_pot
@pytest.mark.parametrize("distance", [wasserstein, wasserstein_rms])
def test_a_mass_counts_as_so_many_points(distance, generator):
    a, b = torch.randn(2, 6, 4, 3, generator=generator, dtype=torch.float64)
    repeated = b[:, [0, 0, 0, 2]]
    mass = torch.tensor([3.0, 0.0, 1.0, 0.0])
    torch.testing.assert_close(distance(a, b, b_mass=mass), distance(a, repeated))


@needs_pot
@pytest.mark.parametrize("distance", [wasserstein, wasserstein_rms])
def test_gradients_of_plans(distance, generator):
    """Against finite differences, and finite where points coincide."""
    a, b = torch.randn(2, 3, 4, 2, generator=generator, dtype=torch.float64)
    mass = torch.rand(3, 4, generator=generator) + 0.1
    a.requires_grad_(), b.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: distance(x, y, a_mass=mass), (a, b))
    same = torch.ones(2, 3, 2, requires_grad=True)
    distance(same, torch.ones(2, 5, 2)).sum().backward()
    assert (same.grad == 0).all()


@needs_pot
def test_plans_move_all_masses(generator):
    cost = torch.rand(2, 3, 4, 6, generator=generator)
    a_mass, b_mass = torch.rand(3, 4, generator=generator), torch.rand(2, 1, 6, generator=generator)
    plan = transport_plan(cost, a_mass, b_mass)
    assert plan.shape == cost.shape and plan.dtype == torch.float32 and (plan >= 0).all()
    torch.testing.assert_close(plan.sum(-1), (a_mass / a_mass.sum(-1, keepdim=True)).expand(2, 3, 4))
    torch.testing.assert_close(plan.sum(-2), (b_mass / b_mass.sum(-1, keepdim=True)).expand(2, 3, 6))


@needs_pot
@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("mass", "message"),
    [
        (torch.ones(3), r"b_mass has shape \(3,\): give one mass for each of the 4 vectors"),
        (torch.zeros(4), "^b_mass .* sets without any; give masses of at least 0 with a positive sum$"),
        (torch.tensor([1.0, -1.0, 1.0, 1.0]), "negative or not finite"),
        (torch.tensor([1.0, torch.nan, 1.0, 1.0]), "negative or not finite"),
    ],
)
def test_bad_masses_are_named(mass, message):
    with pytest.raises(ValueError, match=message):
        wasserstein(torch.zeros(1, 4, 2), torch.zeros(1, 4, 2), b_mass=mass)
    with pytest.raises(ValueError, match=message.replace("b_mass", "a_mass")):
        wasserstein(torch.zeros(1, 4, 2), torch.zeros(1, 4, 2), a_mass=mass)


@needs_pot
@pytest.mark.parametrize("distance", [wasserstein, wasserstein_rms])
def test_many_points_far_from_the_origin_keep_their_digits(distance, generator):
    """Squares of lengths by a matrix product, as torch has them above 25 points, would lose all of these."""
    a, b = (1000 + torch.rand(2, q, 3, generator=generator) for q in (30, 40))
    torch.testing.assert_close(distance(a, b).double(), distance(a.double(), b.double()), rtol=1e-3, atol=1e-6)


@needs_pot
def test_a_plan_that_was_not_found_is_told(monkeypatch):
    monkeypatch.setattr("ot.lp.emd", lambda *_, **__: (None, {"warning": "numItermax reached"}))
    with pytest.raises(RuntimeError, match=r"problem of \(2, 3\): numItermax reached$"):
        transport_plan(torch.ones(1, 2, 3))


@needs_pot
def test_plans_of_costs_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        transport_plan(torch.full((1, 2, 3), torch.nan))


def test_unequal_sizes_without_pot_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ot.lp", None)
    with pytest.raises(ImportError, match=r"unequal sizes or masses needs ot; .*context-prediction\[ot\]"):
        wasserstein(torch.zeros(1, 4, 2), torch.zeros(1, 5, 2))


@pytest.mark.parametrize("distance", [wasserstein, wasserstein_rms])
@pytest.mark.parametrize("q", [3, 5, 7])
def test_the_engine_does_not_change_the_distance(distance, q, generator):
    """Off ties the optimal matching is one, so distances and gradients agree in every bit."""
    a, b = torch.randn(2, 20, q, 3, generator=generator)
    outcomes = []
    for engine in (None, permutations_engine, scipy_loop):
        given = a.clone().requires_grad_()
        result = distance(given, b, engine=engine)
        result.sum().backward()
        outcomes.append((result.detach(), given.grad))
    for other in outcomes[1:]:
        assert all(torch.equal(x, y) for x, y in zip(outcomes[0], other, strict=True))
