"""Every distance against another implementation, a closed form or brute force, and what all of them have in common."""

import math
import sys
import warnings

import numpy as np
import pytest
import scipy.stats
import torch

from context_prediction import (
    Sinkhorn,
    SlicedWasserstein,
    chamfer,
    energy_distance,
    gaussian_wasserstein,
    wasserstein,
    wasserstein_rms,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the sources of some releases of POT hold invalid escapes
    try:
        import ot
    except ImportError:
        ot = None
    try:
        import geomloss
    except ImportError:
        geomloss = None

needs_pot = pytest.mark.skipif(ot is None, reason="POT is not installed")
needs_geomloss = pytest.mark.skipif(geomloss is None, reason="geomloss is not installed")

SHARP = Sinkhorn(blur=0.01, scaling=0.9)


def sliced(a, b):
    return SlicedWasserstein(32)(a, b, generator=torch.Generator().manual_seed(0))


EXACT = [wasserstein, wasserstein_rms, chamfer, energy_distance, gaussian_wasserstein, sliced]
ALL = [*EXACT, pytest.param(SHARP, marks=needs_geomloss)]
UNEQUAL = [*ALL[2:], pytest.param(wasserstein, marks=needs_pot), pytest.param(wasserstein_rms, marks=needs_pot)]


def two_sets(*shape, seed=0, dtype=torch.float64):
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("distance", ALL)
@pytest.mark.parametrize("q", [1, 4, 7])
def test_order_within_either_set_does_not_matter(distance, q):
    a, b = two_sets(5, q, 3)
    shuffled = torch.randperm(q, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(distance(a[:, shuffled], b), distance(a, b), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(distance(a, b[:, shuffled]), distance(a, b), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("distance", ALL)
def test_distances_are_symmetric(distance):
    a, b = two_sets(6, 5, 3)
    torch.testing.assert_close(distance(a, b), distance(b, a), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("distance", ALL)
def test_zero_for_equal_multisets_and_positive_for_others(distance):
    a, b = two_sets(6, 5, 3)
    a[0] = a[0, :1]
    shuffled = torch.randperm(5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(distance(a, a[:, shuffled]), torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-6)
    assert (distance(a, b) > 1e-2).all()


REPEATED = torch.tensor([[[0.0], [0.0], [3.0]]], dtype=torch.float64)
OTHERWISE = torch.tensor([[[0.0], [3.0], [3.0]]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("distance", "by_hand"),
    [
        (wasserstein, 3.0),
        (wasserstein_rms, 1.0),
        (energy_distance, 2 * 5 / 3 - 4 / 3 - 4 / 3),
        (sliced, 3.0),
        (chamfer, 0.0),
    ],
)
def test_multiplicities(distance, by_hand):
    """{0, 0, 3} against {0, 3, 3}: Chamfer alone is blind to them."""
    expected = torch.tensor([by_hand], dtype=torch.float64)
    torch.testing.assert_close(distance(REPEATED, OTHERWISE), expected)


def test_sets_of_equal_moments_are_one_to_the_gaussian_distance():
    """Mean 0 and variance 1 from three points as from two: no counter-example to Wasserstein."""
    three = torch.tensor([[[-math.sqrt(1.5)], [0.0], [math.sqrt(1.5)]]], dtype=torch.float64)
    two = torch.tensor([[[-1.0], [1.0]]], dtype=torch.float64)
    assert gaussian_wasserstein(three, two).item() == pytest.approx(0, abs=1e-12)
    assert sliced(three, two) > 0.1 and energy_distance(three, two) > 0.01


@pytest.mark.parametrize("distance", UNEQUAL)
@pytest.mark.parametrize("sizes", [(2, 6), (3, 5)])
def test_repeating_every_point_changes_nothing(distance, sizes):
    """An oracle for unequal sizes: both sets repeated up to the common multiple are the same measures."""
    q, r = sizes
    a, b = two_sets(4, q * r, 3)
    a, b = a[:, :q], b[:, :r]
    whole = math.lcm(q, r)
    repeated = distance(a.repeat(1, whole // q, 1), b.repeat(1, whole // r, 1))
    torch.testing.assert_close(distance(a, b), repeated, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("distance", EXACT)
@pytest.mark.parametrize(("q", "c"), [(3, 2), (4, 6)])
def test_gradients_off_ties(distance, q, c):
    """Against finite differences."""
    a, b = two_sets(2, q, c)
    assert torch.autograd.gradcheck(distance, (a.requires_grad_(), b.requires_grad_()))


@pytest.mark.parametrize("distance", [*EXACT[2:], *(p for p in UNEQUAL[-2:])])
def test_gradients_of_unequal_sizes(distance):
    a, b = two_sets(2, 5, 3)
    assert torch.autograd.gradcheck(distance, (a[:, :3].clone().requires_grad_(), b.clone().requires_grad_()))


@pytest.mark.parametrize("distance", ALL)
@pytest.mark.parametrize("repeated", [True, False])
def test_gradient_is_finite_and_zero_where_sets_coincide(distance, repeated):
    same = torch.ones(2, 4, 3) if repeated else two_sets(2, 4, 3)[0].float()
    a = same.clone().requires_grad_()
    distance(a, same.flip(1)).sum().backward()
    assert a.grad is not None
    torch.testing.assert_close(a.grad, torch.zeros_like(a), rtol=0, atol=1e-5)


@pytest.mark.parametrize("distance", ALL)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_computed_in_at_least_single_precision(distance, dtype):
    a, b = two_sets(5, 4, 3).to(dtype)
    result = distance(a, b)
    assert result.dtype == torch.float32
    assert torch.equal(result, distance(a.float(), b.float()))
    torch.testing.assert_close(result.double(), distance(a.double(), b.double()), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("distance", ALL)
def test_any_leading_axes(distance):
    a, b = two_sets(2, 3, 4, 4, 3)
    apart = distance(a.flatten(0, 2), b.flatten(0, 2)).reshape(2, 3, 4)
    torch.testing.assert_close(distance(a, b), apart)
    torch.testing.assert_close(distance(a[0, 0, 0], b[0, 0, 0]), apart[0, 0, 0])
    assert distance(a[:0], b[:0]).shape == (0, 3, 4)


@pytest.mark.parametrize("distance", ALL)
def test_widening_with_copies_changes_nothing(distance):
    """The division by the channels: a vector of equal channels is as far as one channel of it."""
    a, b = two_sets(4, 5, 1)
    if distance is sliced:
        distance, tolerance = SlicedWasserstein(20_000), 5e-2
    else:
        tolerance = 1e-6
    wide = distance(a.expand(4, 5, 3), b.expand(4, 5, 3))
    torch.testing.assert_close(wide, distance(a, b), rtol=tolerance, atol=1e-9)


def test_chamfer_by_definition():
    """Checks: ConPreDiff surrogates of the matching"""
    a, b = two_sets(4, 6, 3)
    squared = (a[:, :, None] - b[:, None]).square().mean(-1)
    torch.testing.assert_close(chamfer(a, b), squared.amin(2).mean(1) + squared.amin(1).mean(1))
    assert (chamfer(a, b) <= 2 * wasserstein(a, b)).all()


def test_energy_distance_is_that_of_scipy_on_a_line():
    a, b = two_sets(10, 6, 1)
    peer = [scipy.stats.energy_distance(x.flatten(), y.flatten()) ** 2 for x, y in zip(a, b, strict=True)]
    torch.testing.assert_close(energy_distance(a, b), torch.tensor(peer, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_energy_distance_by_definition():
    a, b = two_sets(3, 4, 5)

    def mean_length(x, y):
        return torch.stack([(x[:, i] - y[:, j]).square().mean(-1).sqrt() for i in range(4) for j in range(4)]).mean(0)

    by_hand = 2 * mean_length(a, b) - mean_length(a, a) - mean_length(b, b)
    torch.testing.assert_close(energy_distance(a, b), by_hand)


@pytest.mark.parametrize(("q", "r", "c"), [(9, 7, 3), (3, 4, 6), (1, 4, 2), (1, 1, 3)])
def test_gaussian_distance_by_definition(q, r, c):
    """Roots of the covariances by their eigenvalues; of singular ones too: fewer points than channels, or one point."""
    a, b = two_sets(4, max(q, r), c)
    a, b = a[:, :q], b[:, :r]
    of_a, of_b = ((x - x.mean(1, keepdim=True)).mT @ (x - x.mean(1, keepdim=True)) / x.shape[1] for x in (a, b))
    values, vectors = torch.linalg.eigh(of_a)
    root = vectors @ torch.diag_embed(values.clamp(min=0).sqrt()) @ vectors.mT
    shared = torch.linalg.eigvalsh(root @ of_b @ root).clamp(min=0).sqrt().sum(-1)
    traces = sum(x.diagonal(dim1=-2, dim2=-1).sum(-1) for x in (of_a, of_b))
    expected = ((a.mean(1) - b.mean(1)).square().sum(-1) + traces - 2 * shared) / c
    torch.testing.assert_close(gaussian_wasserstein(a, b), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("q", "r", "c"), [(9, 7, 3), (12, 5, 2)])
@needs_pot
def test_gaussian_distance_is_that_of_pot(q, r, c):
    a, b = two_sets(4, max(q, r), c)
    a, b = a[:, :q], b[:, :r]
    for distance, x, y in zip(gaussian_wasserstein(a, b), a, b, strict=True):
        moments = (x.mean(0), y.mean(0), x.T.cov(correction=0), y.T.cov(correction=0))
        peer = ot.gaussian.bures_wasserstein_distance(*(moment.numpy() for moment in moments))
        assert distance.item() == pytest.approx(np.squeeze(peer) ** 2 / c, rel=1e-6, abs=1e-7)


def test_gaussian_distance_of_diagonal_covariances():
    """Closed form where the covariances commute: the deviations' squared distance."""
    corners = torch.tensor([[s, t] for s in (-1.0, 1.0) for t in (-1.0, 1.0)], dtype=torch.float64)
    a, b = corners * torch.tensor([2.0, 0.5]), corners * torch.tensor([1.0, 3.0]) + torch.tensor([1.0, -2.0])
    expected = torch.tensor((1 + 4 + (2 - 1) ** 2 + (0.5 - 3) ** 2) / 2, dtype=torch.float64)
    torch.testing.assert_close(gaussian_wasserstein(a, b), expected)


def test_gaussian_distance_is_at_most_wasserstein():
    """Gelbrich's bound."""
    a, b = two_sets(50, 5, 3)
    assert (gaussian_wasserstein(a, b) <= wasserstein(a, b)).all()


@needs_pot
@pytest.mark.parametrize(("q", "r"), [(6, 6), (4, 7)])
def test_sliced_distance_is_that_of_pot(q, r):
    """On the same directions."""
    a, b = two_sets(3, 7, 4)
    a, b = a[:, :q], b[:, :r]
    ours = SlicedWasserstein(25)(a, b, generator=torch.Generator().manual_seed(5))
    directions = torch.randn(4, 25, generator=torch.Generator().manual_seed(5)).double()
    directions = directions / directions.norm(dim=0)
    peer = [ot.sliced_wasserstein_distance(x, y, projections=directions) ** 2 for x, y in zip(a, b, strict=True)]
    torch.testing.assert_close(ours, torch.stack(peer), rtol=1e-6, atol=1e-9)


@needs_pot
def test_sliced_distance_on_a_line_is_that_of_pot():
    a, b = two_sets(5, 7, 1)
    a = a[:, :4]
    peer = [float(ot.emd2_1d(x.flatten().numpy(), y.flatten().numpy())) for x, y in zip(a, b, strict=True)]
    torch.testing.assert_close(sliced(a, b), torch.tensor(peer, dtype=torch.float64))


def test_sliced_distance_is_below_wasserstein_on_average():
    a, b = two_sets(20, 5, 3)
    many = SlicedWasserstein(5_000)(a, b, generator=torch.Generator().manual_seed(0))
    assert (many <= 1.02 * wasserstein(a, b)).all()


def test_sliced_distance_depends_on_the_generator_alone():
    a, b = two_sets(5, 4, 3)
    one, same, other = (SlicedWasserstein(8)(a, b, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


@needs_geomloss
@needs_pot
def test_sinkhorn_divergence_is_that_of_pot():
    """Its three entropic terms from POT's log-domain plans, run to convergence.

    Checks: ConPreDiff surrogates of the matching
    """
    a, b = two_sets(3, 5, 2)
    blur, uniform = 0.5, torch.full((5,), 0.2, dtype=torch.float64)
    entropy = 2 * blur**2

    def regularised(x, y):
        cost = (x[:, None] - y[None]).square().mean(-1)
        plan = ot.sinkhorn(uniform, uniform, cost, entropy, method="sinkhorn_log", numItermax=1_000, warn=False)
        return (plan * cost).sum() + entropy * (plan * (plan / 0.04).log()).sum()

    peer = [regularised(x, y) - (regularised(x, x) + regularised(y, y)) / 2 for x, y in zip(a, b, strict=True)]
    torch.testing.assert_close(Sinkhorn(blur=blur, scaling=0.99)(a, b), torch.stack(peer), rtol=1e-3, atol=1e-4)


@needs_geomloss
def test_sinkhorn_divergence_between_its_limits():
    """Little blur: Wasserstein. Much blur: the squared distance of the means.

    Checks: ConPreDiff surrogates of the matching
    """
    a, b = two_sets(6, 5, 3)
    torch.testing.assert_close(SHARP(a, b), wasserstein(a, b), rtol=2e-2, atol=0)
    far = Sinkhorn(blur=100.0, diameter=200.0)(a, b)
    torch.testing.assert_close(far, (a.mean(1) - b.mean(1)).square().mean(1), rtol=1e-3, atol=1e-4)


@needs_geomloss
def test_a_pair_of_sets_does_not_depend_on_the_others_in_its_batch():
    a, b = two_sets(6, 5, 3)
    a[3] *= 5
    torch.testing.assert_close(SHARP(a, b)[:3], SHARP(a[:3], b[:3]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("distance", ALL)
@pytest.mark.parametrize(
    "shapes", [((4, 3, 2), (4, 3, 5)), ((4, 3, 2), (5, 3, 2)), ((4, 0, 2), (4, 3, 2)), ((3,), (3,))]
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_sets_that_cannot_be_compared_are_named(distance, shapes):
    a, b = (torch.zeros(shape) for shape in shapes)
    with pytest.raises(ValueError, match=r"a has shape \(.*\) and b \(.*\): give two sets .* for the same units$"):
        distance(a, b)


def test_settings_are_checked():
    with pytest.raises(ValueError, match="projections is 0"):
        SlicedWasserstein(0)
    with pytest.raises(ValueError, match=r"blur is 0\.0"):
        Sinkhorn(blur=0.0)
    for scaling in (0.0, 1.0):
        with pytest.raises(ValueError, match=rf"scaling {scaling}"):
            Sinkhorn(scaling=scaling)
    assert (SlicedWasserstein(1).projections, Sinkhorn(diameter=0.5).diameter) == (1, 0.5)


@pytest.mark.parametrize("distance", [SHARP, wasserstein, energy_distance])
@pytest.mark.parametrize("units", [(0,), (2, 0), (0, 2)])
def test_no_units_have_no_distances(distance, units):
    """Without geomloss, too."""
    found = distance(torch.zeros(*units, 3, 2), torch.zeros(*units, 3, 2))
    assert found.shape == units


def test_a_sliced_distance_without_a_generator_is_drawn_from_that_of_torch():
    a, b = two_sets(5, 4, 3)
    torch.manual_seed(1)
    assert torch.equal(
        SlicedWasserstein(8)(a, b), SlicedWasserstein(8)(a, b, generator=torch.Generator().manual_seed(1))
    )


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "geomloss", None)
    with pytest.raises(ImportError, match=r"Sinkhorn needs geomloss; .*context-prediction\[sinkhorn\]"):
        Sinkhorn()(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3))
