import pytest
import torch

from context_prediction import DirectDecoder, DistributionDecoder, LogScale


def randomised(module, generator):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return module


@pytest.mark.parametrize("grid", [(6,), (4, 5), (2, 3, 4)])
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_grids_of_any_dimension(grid, kernel_size, generator):
    options = {"kernel_size": kernel_size, "dimensions": len(grid)}
    features = torch.randn(2, 8, *grid, generator=generator)
    assert DistributionDecoder(8, 3, **options)(features, 4).shape == (2, 4, 3, *grid)
    assert DirectDecoder(8, 3, neighbours=5, **options)(features).shape == (2, 5, 3, *grid)


@pytest.mark.parametrize(("log_scale", "factor"), [(LogScale.VARIANCE, 0.5), (LogScale.STANDARD_DEVIATION, 1.0)])
def test_draws_have_the_moments_of_the_distribution(log_scale, factor, generator):
    """With FNN_n the identity, samples have mean mu and std exp(factor x).

    Checks: ConPreDiff distribution decoder
    """
    decoder = randomised(DistributionDecoder(6, 4, latent=4, log_scale=log_scale), generator)
    decoder.generate = torch.nn.Identity()
    features, q = torch.randn(2, 6, 3, 3, generator=generator), 20_000
    drawn = decoder(features, q, generator=generator)
    raw = decoder.scale_and_mean(decoder.trunk(features)).movedim(-1, 1)
    mean, std = raw[:, 4:], (factor * raw[:, :4]).clamp(-5, 2.5).exp()
    assert ((drawn.mean(1) - mean).abs() < 5 * std / q**0.5).all()
    assert ((drawn.std(1) / std - 1).abs() < 5 / (2 * q) ** 0.5).all()


def test_draws_are_the_reparameterised_formula(generator):
    """FNN_n(mu + std z) with z drawn the same way.

    Checks: ConPreDiff distribution decoder
    """
    decoder = randomised(DistributionDecoder(6, 4), generator)
    features = torch.randn(2, 6, 3, 3, generator=generator)
    drawn = decoder(features, 5, generator=torch.Generator().manual_seed(1))
    latent = decoder.distribution(features)
    z = torch.randn(2, 3, 3, 5, 6, generator=torch.Generator().manual_seed(1))
    for i in range(5):
        expected = decoder.generate(latent.mean + latent.std * z[..., i, :]).movedim(-1, 1)
        torch.testing.assert_close(drawn[:, i], expected)


@pytest.mark.parametrize("decode", [DistributionDecoder(8, 3, kernel_size=1), DistributionDecoder(8, 3, kernel_size=3)])
def test_kernel_size_is_the_reach_of_a_unit(decode, generator):
    """With kernel 1 a unit's samples depend on its own features alone, and on no other's."""
    features = torch.randn(1, 8, 7, 7, generator=generator, requires_grad=True)
    decode(features, 2, generator=generator)[..., 3, 3].sum().backward()
    touched = features.grad.abs().sum((0, 1)) > 0
    reach = 0 if isinstance(decode.trunk.blocks[0].expand.map, torch.nn.Linear) else 3
    expected = torch.zeros(7, 7, dtype=torch.bool)
    expected[3 - reach : 4 + reach, 3 - reach : 4 + reach] = True
    assert torch.equal(touched, expected)


def test_width_of_the_output_does_not_depend_on_the_stride():
    sizes = {sum(p.numel() for p in DirectDecoder(8, 3, neighbours=n).parameters()) for n in (8, 24, 48)}
    assert len(sizes) == 3
    decoder = DistributionDecoder(512, 3)
    assert decoder.trunk.project.out_features == 256
    assert decoder.generate[-1].out_features == 3


def test_scale_is_held_in_its_interval():
    decoder = DistributionDecoder(4, 2)
    torch.nn.init.constant_(decoder.scale_and_mean.bias, 1e4)
    assert decoder.distribution(torch.zeros(1, 4, 2, 2)).std.log().unique().tolist() == pytest.approx([2.5])
    torch.nn.init.constant_(decoder.scale_and_mean.bias, -1e4)
    assert decoder.distribution(torch.zeros(1, 4, 2, 2)).std.log().unique().tolist() == pytest.approx([-5.0])


@pytest.mark.parametrize("features", [1, 7, 8])
def test_times_change_the_outcome_only_if_asked(features, generator):
    x = torch.randn(2, features, 3, 3, generator=generator)
    plain, timed = DirectDecoder(features, 1, neighbours=8), DirectDecoder(features, 1, neighbours=8, timed=True)
    early, late = torch.tensor([1, 1]), torch.tensor([1, 900])
    assert torch.equal(plain(x, early), plain(x, late))
    assert torch.equal(timed(x, early)[0], timed(x, late)[0])
    if features > 1:
        assert not torch.equal(timed(x, early)[1], timed(x, late)[1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DistributionDecoder(4, 2)(torch.zeros(1, 5, 3, 3), 2), r"features has shape \(1, 5, 3, 3\)"),
        (lambda: DistributionDecoder(4, 2)(torch.zeros(1, 4, 3), 2), r"features has shape \(1, 4, 3\)"),
        (lambda: DistributionDecoder(4, 2, timed=True)(torch.zeros(1, 4, 3, 3), 2), "t is missing"),
        (lambda: DistributionDecoder(4, 2, kernel_size=2), "kernel_size is 2"),
        (lambda: DistributionDecoder(4, 2, dimensions=4), "dimensions is 4"),
    ],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
