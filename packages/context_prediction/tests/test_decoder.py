import math

import pytest
import torch

from context_prediction import DirectDecoder, DistributionDecoder, LogScale, ResidualBlock, TransformerBlock


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
    Checks: NWR-GAE neighbourhood decoder
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


@pytest.mark.parametrize(("kernel_size", "depth", "reach"), [(1, 2, 0), (3, 1, 2), (3, 2, 4), (5, 1, 4)])
def test_kernel_size_is_the_reach_of_a_unit(kernel_size, depth, reach, generator):
    """With kernel 1 a unit's samples depend on its own features alone, and on no other's; a block reaches twice.

    Checks: ConPreDiff context head
    """
    decode = DistributionDecoder(8, 3, kernel_size=kernel_size, depth=depth)
    features = torch.randn(1, 8, 11, 11, generator=generator, requires_grad=True)
    decode(features, 2, generator=generator)[..., 5, 5].sum().backward()
    touched = features.grad.abs().sum((0, 1)) > 0
    expected = torch.zeros(11, 11, dtype=torch.bool)
    expected[5 - reach : 6 + reach, 5 - reach : 6 + reach] = True
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


def test_distributions_know_the_time_only_if_asked(generator):
    features = torch.randn(2, 8, 3, 3, generator=generator)
    early, late = torch.tensor([1, 1]), torch.tensor([1, 900])
    for timed in (False, True):
        decode = DistributionDecoder(8, 3, timed=timed)
        means = [decode.distribution(features, t).mean for t in (early, late)]
        draws = [decode(features, 2, t, generator=torch.Generator().manual_seed(1)) for t in (early, late)]
        for one, other in (means, draws):
            assert torch.equal(one[0], other[0])
            assert torch.equal(one[1], other[1]) != timed


@pytest.mark.parametrize("width", [4, 5])
def test_times_are_sines_and_cosines(width):
    """Oracle: the formula, by loops."""
    trunk = DirectDecoder(8, 1, neighbours=8, width=width, timed=True).trunk
    assert [type(layer).__name__ for layer in trunk.time] == ["Linear", "SiLU", "Linear"]
    trunk.time = torch.nn.Identity()
    half = -(-width // 2)
    angles = [[t * 10_000 ** (-i / half) for i in range(half)] for t in (0, 3, 999)]
    expected = [[*map(math.sin, row), *map(math.cos, row)][:width] for row in angles]
    torch.testing.assert_close(trunk.embed(torch.tensor([0, 3, 999])), torch.tensor(expected), rtol=1e-4, atol=1e-4)


def test_heads_have_the_sizes_of_their_docstrings():
    for decode in (DistributionDecoder(300, 3), DirectDecoder(300, 3, neighbours=8)):
        assert (decode.trunk.project.out_features, len(decode.trunk.blocks)) == (256, 2)
    narrow = DistributionDecoder(300, 3, width=16)
    assert (narrow.trunk.project.out_features, narrow.generate[0].in_features) == (16, 16)
    assert DirectDecoder(300, 3, neighbours=8, width=16).read.in_features == 16
    assert [type(layer).__name__ for layer in narrow.generate] == ["Linear", "SiLU", "Linear", "SiLU", "Linear"]
    assert [TransformerBlock(width).heads for width in (8, 63, 80, 96)] == [1, 1, 2, 3]
    assert TransformerBlock(8).feed[0].out_features == 32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DistributionDecoder(4, 2)(torch.zeros(1, 5, 3, 3), 2), r"features has shape \(1, 5, 3, 3\)"),
        (lambda: DistributionDecoder(4, 2)(torch.zeros(1, 4, 3), 2), r"features has shape \(1, 4, 3\)"),
        (lambda: DistributionDecoder(4, 2, timed=True)(torch.zeros(1, 4, 3, 3), 2), r"^t is missing: .*\(b,\)$"),
        (lambda: DistributionDecoder(4, 2, kernel_size=2), "kernel_size is 2"),
        (lambda: DistributionDecoder(4, 2, dimensions=4), "dimensions is 4"),
        (lambda: DistributionDecoder(4, 2, rings=0), "rings is 0"),
        (lambda: DistributionDecoder(4, 2, kernel_size=3, block=TransformerBlock), "kernel_size is 3, but block"),
        (lambda: DirectDecoder(4, 2, neighbours=8, kernel_size=3, block=TransformerBlock), "kernel_size is 3, but"),
        (lambda: TransformerBlock(6, heads=4), "heads is 4, which does not divide the width 6"),
    ],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_default_blocks_are_residual_ones(generator):
    """The same parameters by name, and the same numbers, as with the block given.

    Checks: ConPreDiff context head
    """
    torch.manual_seed(0)
    plain = DistributionDecoder(8, 3)
    torch.manual_seed(0)
    given = DistributionDecoder(8, 3, block=ResidualBlock)
    features = torch.randn(1, 8, 4, 4, generator=generator)
    assert list(plain.state_dict()) == list(given.state_dict())
    assert torch.equal(*(d(features, 2, generator=torch.Generator().manual_seed(1)) for d in (plain, given)))
    assert {"trunk.blocks.0.norm.weight", "trunk.blocks.1.contract.map.bias"} <= set(plain.state_dict())


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_attention_is_that_of_torch(heads, dtype, generator):
    """Against `torch.nn.MultiheadAttention` with the same weights.

    Checks: ConPreDiff context head
    """
    block = randomised(TransformerBlock(8, heads=heads), generator).to(dtype)
    peer = torch.nn.MultiheadAttention(8, heads, batch_first=True, dtype=dtype)
    peer.load_state_dict(
        {
            "in_proj_weight": block.project.weight,
            "in_proj_bias": block.project.bias,
            "out_proj.weight": block.merge.weight,
            "out_proj.bias": block.merge.bias,
        }
    )
    units = torch.randn(2, 12, 8, generator=generator).to(dtype)
    torch.testing.assert_close(block.attend(units), peer(units, units, units)[0])


def test_attention_in_bf16_on_a_cpu_agrees_with_single_precision(generator):
    block = randomised(TransformerBlock(8, heads=2), generator)
    rows = torch.randn(2, 3, 4, 8, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = block(rows)
    torch.testing.assert_close(mixed, block(rows), rtol=5e-2, atol=5e-2)


def test_transformer_block_is_the_sum_of_its_parts(generator):
    """Pre-norm residuals, each by hand.

    Checks: ConPreDiff context head
    """
    block = randomised(TransformerBlock(8, heads=2), generator)
    rows = torch.randn(2, 3, 4, 8, generator=generator)
    units = rows.reshape(2, 12, 8)
    units = units + block.attend(block.attention_norm(units))
    hidden = block.feed_norm(units)
    hidden = torch.nn.functional.gelu(hidden @ block.feed[0].weight.T + block.feed[0].bias)
    units = units + hidden @ block.feed[2].weight.T + block.feed[2].bias
    torch.testing.assert_close(block(rows), units.reshape(2, 3, 4, 8), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("grid", [(6,), (4, 5), (2, 3, 4)])
def test_transformer_blocks_see_every_unit(grid, generator):
    """On grids of any dimension; and permuting the units permutes what they say."""
    decode = DirectDecoder(8, 3, neighbours=2, block=TransformerBlock, dimensions=len(grid))
    features = torch.randn(1, 8, *grid, generator=generator, requires_grad=True)
    predicted = decode(features)
    predicted.flatten(3)[..., 0].sum().backward()
    assert (features.grad.abs().sum((0, 1)) > 0).all() and not decode.trunk.pointwise
    mirrored = decode(features.flip(-1))
    torch.testing.assert_close(mirrored.flip(-1), predicted)


@pytest.mark.parametrize(("kernel_size", "pointwise"), [(1, True), (3, False)])
def test_a_trunk_knows_whether_it_is_pointwise(kernel_size, pointwise):
    assert DistributionDecoder(4, 2, kernel_size=kernel_size).trunk.pointwise is pointwise
    assert DistributionDecoder(4, 2, block=lambda width: torch.nn.Linear(width, width)).trunk.pointwise is False


def test_each_ring_has_a_distribution_of_its_own(generator):
    """Rows of the one network: ring by ring the log-scales, then the means.

    Checks: ConPreDiff distribution decoder
    """
    rings, single = DistributionDecoder(6, 4, rings=3), DistributionDecoder(6, 4)
    features = torch.randn(1, 6, 3, 3, generator=generator)
    assert rings.generate[-1].out_features == 4
    for ring in range(3):
        own = {name: value for name, value in rings.state_dict().items() if not name.startswith("scale_and_mean")}
        own |= {
            f"scale_and_mean.{kind}": rings.state_dict()[f"scale_and_mean.{kind}"][12 * ring : 12 * (ring + 1)]
            for kind in ("weight", "bias")
        }
        single.load_state_dict(own)
        one, other = (torch.Generator().manual_seed(1) for _ in range(2))
        drawn = rings(features, 5, ring=ring, generator=one)
        torch.testing.assert_close(drawn, single(features, 5, generator=other))


def test_noise_in_parts_is_the_noise_of_the_whole():
    """Units asked for in multiples of 1,024 draw the same numbers; on a CPU those of one call of `torch.randn`."""
    decoder, source = DistributionDecoder(4, 2), torch.Generator().manual_seed(1)
    whole = decoder.noise((50, 50), 3, generator=torch.Generator().manual_seed(1)).flatten(0, 1)
    parts = torch.cat([decoder.noise((count,), 3, generator=source) for count in (1024, 1024, 452)])
    assert torch.equal(whole, parts)
    assert torch.equal(whole, torch.randn(2500, 3, 4, generator=torch.Generator().manual_seed(1)))
