import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vq_autoencoder import FiniteScalarQuantizer, LookupFreeQuantizer


def latents(d: int, seed: int = 0, b: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(b, d, 3, 4, generator=generator, dtype=torch.float64)


def bounded(z: float, levels: int) -> float:
    """The bounding function, written out for one number."""
    reach = (levels - 1) * 1.001 / 2
    offset = 0.5 if levels % 2 == 0 else 0.0
    return math.tanh(z + math.atanh(offset / reach)) * reach - offset


@settings(deadline=None, max_examples=20)
@given(levels=st.lists(st.integers(2, 9), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_finite_scalars_round_each_channel(levels, seed):
    """Checks: FSQ quantisation"""
    module, z = FiniteScalarQuantizer(levels=levels), latents(len(levels), seed)
    quantised = module(z)
    flat = z.permute(0, 2, 3, 1).reshape(-1, len(levels))
    for row, token, vector in zip(
        flat, quantised.indices.flatten(), quantised.vectors.permute(0, 2, 3, 1).reshape(flat.shape), strict=True
    ):
        digits = [round(bounded(x, n)) + n // 2 for x, n in zip(row.tolist(), levels, strict=True)]
        assert all(0 <= digit < n for digit, n in zip(digits, levels, strict=True))
        assert token == sum(digit * math.prod(levels[:i]) for i, digit in enumerate(digits))
        values = [(digit - n // 2) / (n // 2) for digit, n in zip(digits, levels, strict=True)]
        assert vector.tolist() == pytest.approx(values)
    assert torch.equal(quantised.indices, module.nearest(z))
    torch.testing.assert_close(module.lookup(quantised.indices).double(), quantised.vectors)


@pytest.mark.parametrize("levels", [(8, 5, 5, 5), (2, 3), (4,)])
def test_every_lattice_point_is_one_token(levels):
    module = FiniteScalarQuantizer(levels=levels)
    codes = module.codes
    assert module.size == math.prod(levels) == len(torch.unique(codes, dim=0))
    assert codes.abs().max() <= 1
    for channel, n in enumerate(levels):
        assert len(torch.unique(codes[:, channel])) == n


def test_gradient_of_finite_scalars_is_that_of_their_bound():
    """Checks: FSQ quantisation"""
    module = FiniteScalarQuantizer(levels=(5, 4))
    z = latents(2).requires_grad_()
    module(z).vectors.sum().backward()
    steps = 1e-6
    for place in [(0, 0, 1, 2), (1, 1, 2, 3)]:
        n, x = (5, 4)[place[1]], z[place].item()
        slope = (bounded(x + steps, n) - bounded(x - steps, n)) / (2 * steps) / (n // 2)
        assert z.grad[place].item() == pytest.approx(slope, rel=1e-6)
    assert module(z).terms == {}


@pytest.mark.parametrize("bits", [1, 3, 10])
def test_look_up_free_codes_are_the_nearest_corners(bits):
    """Checks: MAGVIT-v2 look-up free quantisation"""
    module, z = LookupFreeQuantizer(bits=bits), latents(bits)
    quantised = module(z)
    rows = z.permute(0, 2, 3, 1).reshape(-1, bits)
    brute = torch.cdist(rows, module.codes.double()).argmin(dim=1)
    assert torch.equal(quantised.indices.flatten(), brute)
    assert torch.equal(module.lookup(quantised.indices).double(), z.sign())
    error = (z - z.sign()).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(quantised.terms["commitment"], 0.25 * error)


def brute_entropies(z: torch.Tensor, codes: torch.Tensor, temperature: float, diversity: float) -> torch.Tensor:
    """The penalty from a softmax over all codes."""
    rows = z.permute(0, 2, 3, 1).flatten(0, 2)
    q = torch.softmax(-(rows[:, None] - codes[None]).square().sum(dim=2) / temperature, dim=1)
    entropy, mean = torch.special.entr(q).sum(dim=1).mean(), q.mean(dim=0)
    return entropy - diversity * torch.special.entr(mean).sum()


@pytest.mark.parametrize(("temperature", "diversity"), [(1.0, 1.0), (0.7, 0.0), (3.0, 2.0)])
def test_entropy_penalty_equals_that_over_all_codes(temperature, diversity):
    """Value and gradient.

    Checks: MAGVIT-v2 entropy penalty
    """
    module = LookupFreeQuantizer(bits=4, temperature=temperature, diversity=diversity)
    ours, brute = (latents(4, seed=3).requires_grad_() for _ in range(2))
    module.entropies(ours).mean().backward()
    expected = brute_entropies(brute, module.codes.double(), temperature, diversity)
    expected.backward()
    torch.testing.assert_close(module.entropies(ours).mean(), expected)
    torch.testing.assert_close(ours.grad, brute.grad)


def test_entropies_of_many_bits_are_summed_over_groups():
    z = latents(11)
    groups = [LookupFreeQuantizer(bits=n).entropies(part) for n, part in zip((8, 3), z.split([8, 3], 1), strict=True)]
    torch.testing.assert_close(LookupFreeQuantizer(bits=11).entropies(z), sum(groups))


def test_gradient_of_signs_passes_straight_through():
    z = latents(3).requires_grad_()
    weight = torch.randn_like(z)
    (LookupFreeQuantizer(bits=3)(z).vectors * weight).sum().backward()
    assert torch.equal(z.grad, weight)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FiniteScalarQuantizer(levels=()), "2 or more"),
        (lambda: FiniteScalarQuantizer(levels=(3, 1)), "2 or more"),
        (lambda: LookupFreeQuantizer(bits=0), r"1..62, got 0"),
        (lambda: LookupFreeQuantizer(bits=4, temperature=0.0), "temperature must be above 0"),
        (lambda: LookupFreeQuantizer(bits=4, entropy_weight=-1.0), "must not be negative"),
    ],
)
def test_refuse_settings_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()
