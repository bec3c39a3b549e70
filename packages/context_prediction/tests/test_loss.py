import copy
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from context_prediction import (
    Border,
    Constant,
    ContextPrediction,
    DirectContextPrediction,
    DirectDecoder,
    DistributionDecoder,
    LogScale,
    Neighbourhood,
    SlicedWasserstein,
    TransformerBlock,
    chamfer,
    energy_distance,
    gaussian_wasserstein,
    linear_assignment,
    wasserstein,
    wasserstein_rms,
)


class Toy(nn.Module):
    """A denoiser of two layers that hands out the input of its last one."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x):
        features = torch.tanh(self.first(x))
        return self.last(features), features


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_loss_follows_the_formula(generator):
    """Draws and matching redone by hand from the same numbers.

    Checks: ConPreDiff neighbourhood distribution loss
    """
    context = ContextPrediction(features=8, target=3, stride=2, samples=4)
    features, target = torch.randn(2, 8, 5, 6, generator=generator), torch.randn(2, 3, 5, 6, generator=generator)
    result = context(features, target, generator=seeded(1))
    same = seeded(1)
    real = context.neighbourhood.draw(target, 4, generator=same)
    generated = context.decoder(features, 4, generator=same)
    for unit in [(0, 0, 0), (1, 2, 3), (1, 4, 5)]:
        b, y, x = unit
        apart = (generated[b, :, None, :, y, x] - real[b, None, :, :, y, x]).square().mean(-1)
        matching = linear_assignment(apart[None])[0]
        torch.testing.assert_close(result.units[unit], apart[torch.arange(4), matching].mean())
    torch.testing.assert_close(result.loss, result.units.mean((1, 2)))


def test_direct_loss_follows_the_formula(generator):
    """Each neighbour against its own target, by loops.

    Checks: ConPreDiff point and neighbourhood loss
    """
    context = DirectContextPrediction(features=8, target=3, stride=1)
    features, target = torch.randn(2, 8, 4, 5, generator=generator), torch.randn(2, 3, 4, 5, generator=generator)
    predicted = context.decoder(features)
    result = context(features, target)
    for y, x in [(0, 0), (2, 2), (3, 1)]:
        errors = []
        for j, (dy, dx) in enumerate(context.neighbourhood.offsets()):
            if 0 <= y + dy < 4 and 0 <= x + dx < 5:
                errors.append((predicted[:, j, :, y, x] - target[:, :, y + dy, x + dx]).square().mean(1))
        torch.testing.assert_close(result.units[:, y, x], torch.stack(errors).mean(0))
    torch.testing.assert_close(result.loss, result.units.mean((1, 2)))


@pytest.mark.parametrize("border", list(Border))
def test_a_constant_image_is_predicted_perfectly(border):
    """If every neighbour is the same vector and the decoder says so, the loss is zero."""
    context = ContextPrediction(features=4, target=2, border=border)
    nn.init.zeros_(context.decoder.generate[-1].weight)
    nn.init.constant_(context.decoder.generate[-1].bias, 0.7)
    result = context(torch.randn(1, 4, 8, 8), torch.full((1, 2, 8, 8), 0.7))
    assert (result.units == 0).all() and result.loss.shape == (1,)


def test_training_the_head_lowers_the_loss(generator):
    """On flat images, whose neighbours the features tell.

    Checks: ConPreDiff neighbourhood distribution loss
    """
    torch.manual_seed(0)
    context = ContextPrediction(features=4, target=2, width=16, samples=3)
    features = torch.randn(8, 4, 1, 1).expand(8, 4, 4, 4)
    target = features[:, :2]
    optimiser = torch.optim.Adam(context.parameters(), 2e-2)
    losses = []
    for _ in range(40):
        losses.append(context(features, target, generator=generator).loss.mean())
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < 0.25 * losses[0]


@pytest.mark.parametrize("make", [ContextPrediction, DirectContextPrediction])
def test_targets_receive_no_gradient_and_features_do(make, generator):
    target = torch.randn(2, 3, 5, 5, requires_grad=True)
    features = torch.randn(2, 8, 5, 5, requires_grad=True)
    make(features=8, target=3, stride=1)(features, target, generator=generator).loss.sum().backward()
    assert target.grad is None
    assert features.grad is not None and (features.grad.abs().sum((0, 1)) > 0).all()


def test_loss_depends_on_the_generator_alone():
    context = ContextPrediction(features=8, target=3)
    features, target = torch.randn(2, 8, 5, 5), torch.randn(2, 3, 5, 5)
    one, same, other = (context(features, target, generator=seeded(s)).loss for s in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_grids_of_other_dimensions(generator):
    for grid in [(12,), (3, 4, 5)]:
        context = ContextPrediction(features=4, target=2, stride=1, dimensions=len(grid))
        result = context(torch.randn(1, 4, *grid), torch.randn(1, 2, *grid), generator=generator)
        assert result.units.shape == (1, *grid) and result.loss.isfinite().all()


def test_autocast_agrees_with_single_precision(generator):
    context = ContextPrediction(features=16, target=3)
    features, target = torch.randn(2, 16, 6, 6, generator=generator), torch.randn(2, 3, 6, 6, generator=generator)
    exact = context(features, target, generator=seeded(1)).loss
    with torch.autocast("cpu", torch.bfloat16):
        mixed = context(features, target, generator=seeded(1)).loss
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, exact, rtol=2e-2, atol=0)


def test_double_precision_agrees_with_single(generator):
    context = ContextPrediction(features=16, target=3)
    features, target = torch.randn(2, 16, 6, 6, generator=generator), torch.randn(2, 3, 6, 6, generator=generator)
    single = context(features, target, generator=seeded(1)).loss
    double = context.double()(features.double(), target.double(), generator=seeded(1)).loss
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=0)


def test_the_backbone_does_not_know_of_the_head():
    """Parameters, keys and outputs are bit-identical with and without it.

    Checks: ConPreDiff removal at inference
    """
    torch.manual_seed(0)
    alone = Toy()
    together = copy.deepcopy(alone)
    context = ContextPrediction(features=16, target=3)
    noisy, clean = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    _, features = together(noisy)
    context(features, clean, generator=seeded(1)).loss.mean().backward()
    assert together.first.weight.grad is not None and together.last.weight.grad is None
    assert list(alone.state_dict()) == list(together.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(alone.parameters(), together.parameters(), strict=True))
    assert torch.equal(alone(noisy)[0], together(noisy)[0])


def test_samples_do_not_know_of_the_head():
    """DDIM over a backbone trained with the head, and over one made anew of its `state_dict`: the same images, in bits.

    Checks: ConPreDiff removal at inference
    """
    torch.manual_seed(0)
    backbone, context = Toy(), ContextPrediction(features=16, target=3, stride=1)
    optimiser = torch.optim.Adam([*backbone.parameters(), *context.parameters()], 1e-2)
    for _ in range(3):
        clean = torch.randn(2, 3, 6, 6)
        estimate, features = backbone(clean + torch.randn_like(clean))
        loss = (estimate - clean).square().mean() + context(features, clean).loss.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    alone = Toy()
    alone.load_state_dict(backbone.state_dict())
    del context

    def ddim(model):
        signal = torch.linspace(0.05, 1, 6)
        x = torch.randn(2, 3, 6, 6, generator=seeded(5))
        for now, later in zip(signal[:-1], signal[1:], strict=True):
            estimate, _ = model(x)
            noise = (x - now.sqrt() * estimate) / (1 - now).sqrt()
            x = later.sqrt() * estimate + (1 - later).sqrt() * noise
        return x

    with torch.no_grad():
        assert torch.equal(ddim(backbone), ddim(alone))


def test_a_weight_of_zero_trains_the_same_backbone():
    """With weight 0 every step equals, to the bit, that of the loop without the head."""
    torch.manual_seed(0)
    models = {"without": Toy(), "with": Toy()}
    models["with"].load_state_dict(models["without"].state_dict())
    context, weight = ContextPrediction(features=16, target=3, stride=1), Constant(0.0)
    for name, model in models.items():
        optimiser, draws = torch.optim.Adam(model.parameters(), 1e-2), seeded(3)
        for _ in range(3):
            clean = torch.randn(2, 3, 6, 6, generator=draws)
            estimate, features = model(clean + torch.randn(2, 3, 6, 6, generator=draws))
            loss = (estimate - clean).square().mean((1, 2, 3))
            if name == "with":
                loss = loss + weight(torch.ones(2, dtype=torch.int64)) * context(features, clean).loss
            optimiser.zero_grad()
            loss.mean().backward()
            optimiser.step()
    assert all(torch.equal(models["with"].state_dict()[k], v) for k, v in models["without"].state_dict().items())


def test_another_distance_can_be_given(generator):
    contexts = [
        ContextPrediction(features=4, target=2, distance=d) for d in (wasserstein_rms, lambda a, b: a[..., 0, 0])
    ]
    for context in contexts:
        features, target = torch.randn(1, 4, 5, 5), torch.randn(1, 2, 5, 5)
        result = context(features, target, generator=seeded(1))
        same = seeded(1)
        real = context.neighbourhood.draw(target, 5, generator=same).movedim((1, 2), (-2, -1))
        generated = context.decoder(features, 5, generator=same).movedim((1, 2), (-2, -1))
        assert torch.equal(result.units, context.distance(generated, real))


def test_state_dict_round_trip(generator):
    one, other = (ContextPrediction(features=8, target=3, timed=True) for _ in range(2))
    other.load_state_dict(one.state_dict())
    features, target, t = torch.randn(2, 8, 5, 5), torch.randn(2, 3, 5, 5), torch.tensor([3, 70])
    losses = [context(features, target, t=t, generator=seeded(1)).loss for context in (one, other)]
    assert torch.equal(*losses)


@pytest.mark.parametrize("make", [ContextPrediction, DirectContextPrediction])
@pytest.mark.usefixtures("unchecked_shapes")
def test_bad_input_is_named(make):
    context, good = make(features=4, target=2, stride=1), torch.zeros(1, 4, 5, 5)
    with pytest.raises(ValueError, match="must share batch and grid"):
        context(good, torch.zeros(1, 2, 6, 5))
    with pytest.raises(ValueError, match="must share batch and grid"):
        context(good, torch.zeros(2, 2, 5, 5))
    with pytest.raises(ValueError, match=r"features has shape \(0, 4, 5, 5\), which is empty"):
        context(good[:0], torch.zeros(0, 2, 5, 5))
    with pytest.raises(ValueError, match="target .* not finite"):
        context(good, torch.full((1, 2, 5, 5), torch.nan))
    with pytest.raises(ValueError, match="features .* not finite"):
        context(good + torch.inf, torch.zeros(1, 2, 5, 5))


@pytest.mark.usefixtures("unchecked_shapes")
def test_integer_targets_are_refused():
    with pytest.raises(TypeError, match="code vectors"):
        ContextPrediction(features=4, target=2)(torch.zeros(1, 4, 5, 5), torch.zeros(1, 2, 5, 5, dtype=torch.int64))


def test_constructor_arguments_are_checked():
    with pytest.raises(ValueError, match="samples is 0"):
        ContextPrediction(features=4, target=2, samples=0)
    with pytest.raises(ValueError, match="chunk is 0"):
        ContextPrediction(features=4, target=2, chunk=0)


def shapes(module):
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def test_what_a_head_is_told_reaches_its_parts():
    """And told nothing, it has the defaults of its docstring."""
    sizes = {"width": 12, "depth": 3, "kernel_size": 3, "dimensions": 1, "timed": True}
    around = {"stride": (1, 3), "border": Border.REFLECT}
    more = {"latent": 5, "log_scale": LogScale.STANDARD_DEVIATION}
    drawn = ContextPrediction(
        features=8, target=2, samples=4, replacement=False, chunk=5000, check_finite=False, **around, **sizes, **more
    )
    direct = DirectContextPrediction(features=8, target=2, check_finite=False, **around, **sizes)
    for head in (drawn, direct):
        assert head.neighbourhood == Neighbourhood((1, 3), Border.REFLECT)
        assert not head.check_finite
    assert shapes(drawn.decoder) == shapes(DistributionDecoder(8, 2, **sizes, **more))
    assert shapes(direct.decoder) == shapes(DirectDecoder(8, 2, neighbours=4, **sizes))
    assert (drawn.samples, drawn.replacement, drawn.decoder.log_scale) == (4, False, LogScale.STANDARD_DEVIATION)
    assert (drawn.chunk, ContextPrediction(features=8, target=2).chunk) == (5 * 1024, 64 * 1024)
    plain, direct = ContextPrediction(features=8, target=2), DirectContextPrediction(features=8, target=2)
    assert shapes(plain.decoder) == shapes(DistributionDecoder(8, 2))
    assert shapes(direct.decoder) == shapes(DirectDecoder(8, 2, neighbours=48))
    for head in (plain, direct):
        assert head.neighbourhood == Neighbourhood(3, Border.VALID)
        assert head.check_finite
    assert (plain.samples, plain.replacement, plain.decoder.log_scale) == (5, True, LogScale.VARIANCE)
    assert plain.distance is wasserstein
    for kind in (ContextPrediction, DirectContextPrediction):
        own = kind(features=8, target=2, block=partial(TransformerBlock, heads=1))
        assert any(isinstance(module, TransformerBlock) for module in own.modules())


def test_all_neighbours_against_as_many_generated(generator):
    """Without draws: at a valid border each unit's own number, matched one to one; redone unit by unit.

    Checks: ConPreDiff neighbourhood distribution loss, neighbourhood definition
    """
    context = ContextPrediction(features=8, target=3, stride=2, samples=None)
    features, target = torch.randn(2, 8, 4, 5, generator=generator), torch.randn(2, 3, 4, 5, generator=generator)
    result = context(features, target, generator=seeded(1))
    latent = context.decoder.distribution(features)
    z = torch.randn(2, 4, 5, 24, 8, generator=seeded(1))
    for b, y, x in [(0, 0, 0), (0, 2, 2), (1, 3, 1)]:
        near = [(v, w) for v in range(4) for w in range(5) if max(abs(v - y), abs(w - x)) <= 2 and (v, w) != (y, x)]
        real = torch.stack([target[b, :, v, w] for v, w in near])
        generated = context.decoder.generate(latent.mean[b, y, x] + latent.std[b, y, x] * z[b, y, x, : len(near)])
        torch.testing.assert_close(result.units[b, y, x], wasserstein(generated, real))


def test_rings_apart_are_a_term_each(generator):
    """Draws, both of the decoder's distributions and the matching redone ring by ring from the same numbers.

    Checks: ConPreDiff neighbourhood distribution loss
    Checks: ConPreDiff several strides
    """
    context = ContextPrediction(features=8, target=3, stride=(1, 3), apart=True, samples=4)
    features, target = torch.randn(2, 8, 7, 7, generator=generator), torch.randn(2, 3, 7, 7, generator=generator)
    result = context(features, target, generator=seeded(1))
    same = seeded(1)
    real = [hood.draw(target, 4, generator=same).movedim((1, 2), (-2, -1)) for hood in context.neighbourhood.apart()]
    z = torch.randn(2, 7, 7, 8, 8, generator=same)
    terms = []
    for ring, noise in enumerate((z[..., :4, :], z[..., 4:, :])):
        latent = context.decoder.distribution(features, ring=ring)
        drawn = latent.mean[..., None, :] + latent.std[..., None, :] * noise
        terms.append(wasserstein(context.decoder.generate(drawn), real[ring]))
    torch.testing.assert_close(result.units, (terms[0] + terms[1]) / 2)
    assert context.decoder.generate[-1].out_features == 3


def test_rings_together_are_one_neighbourhood():
    """Checks: ConPreDiff several strides"""
    one, rings = (ContextPrediction(features=8, target=3, stride=s) for s in (3, (1, 2, 3)))
    rings.load_state_dict(one.state_dict())
    features, target = torch.randn(2, 8, 8, 8), torch.randn(2, 3, 8, 8)
    assert torch.equal(*(c(features, target, generator=seeded(1)).loss for c in (one, rings)))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"timed": True, "samples": 9},
        {"samples": None, "stride": 1},
        {"stride": (1, 2), "apart": True},
        {"stride": (1, 2), "apart": True, "samples": None, "distance": chamfer},
        {"distance": SlicedWasserstein(8)},
        {"replacement": False, "distance": chamfer},
        {"kernel_size": 3, "width": 8, "timed": True},
        {"kernel_size": 3, "width": 8, "timed": True, "dimensions": 1},
    ],
)
@pytest.mark.parametrize("own_generator", [True, False])
def test_the_size_of_chunks_does_not_change_the_result(options, own_generator):
    """Nor the gradients, nor the numbers drawn afterwards; to rounding in single precision."""
    whole = ContextPrediction(features=8, target=3, **options)
    parts = ContextPrediction(features=8, target=3, chunk=1, **options)
    parts.load_state_dict(whole.state_dict())
    assert parts.chunk == 1024
    grid = (1200,) if options.get("dimensions") == 1 else (30, 40)
    features, target, t = torch.randn(2, 8, *grid), torch.randn(2, 3, *grid), torch.tensor([3, 500])
    outcomes = []
    for context in (whole, parts):
        torch.manual_seed(1)
        source, given = (seeded(1) if own_generator else None), features.clone().requires_grad_()
        result = context(given, target, t=t, generator=source)
        (result.loss * torch.tensor([1.0, 2.0])).sum().backward()
        gradients = [given.grad, *(parameter.grad for parameter in context.parameters())]
        drawn_next = torch.rand(3, generator=source)
        outcomes.append([result.units.detach(), result.loss.detach(), *gradients, drawn_next])
    for one, other in zip(*outcomes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_no_more_than_a_chunk_is_held(monkeypatch):
    """Of a large grid, no tensor of the head is as long as the grid."""
    context, held = ContextPrediction(features=8, target=3, chunk=1024), []
    draw = context.decoder.draw
    monkeypatch.setattr(context.decoder, "draw", lambda latent, noise: held.append(len(noise)) or draw(latent, noise))
    context(torch.randn(1, 8, 50, 50), torch.randn(1, 3, 50, 50)).loss.sum().backward()
    assert max(held) == 1024 and sum(held) == 2 * 2500


MILLION = """
import torch
from context_prediction import ContextPrediction

def peak():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 2**10

context = ContextPrediction(features=64, target=3, samples=9, chunk=16_384)
features, target = torch.randn(1, 64, 1024, 1024, requires_grad=True), torch.randn(1, 3, 1024, 1024)
before = peak()
loss = context(features, target).loss
loss.sum().backward()
assert loss.isfinite().all() and features.grad.isfinite().all()
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_a_million_units_fit_in_memory():
    """Forward and backward add at most 2 GB; all at once, the noise alone takes 2.25 GB and each layer as much."""
    done = subprocess.run([sys.executable, "-c", MILLION], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 2_000


@pytest.mark.parametrize(
    "distance", [wasserstein_rms, chamfer, energy_distance, gaussian_wasserstein, SlicedWasserstein(8)]
)
def test_every_distance_trains_the_head(distance):
    torch.manual_seed(0)
    context = ContextPrediction(features=4, target=2, width=16, distance=distance)
    features = torch.randn(4, 4, 1, 1).expand(4, 4, 4, 4)
    optimiser = torch.optim.Adam(context.parameters(), 2e-2)
    losses = []
    for _ in range(40):
        losses.append(context(features, features[:, :2], generator=seeded(0)).loss.mean())
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < 0.6 * losses[0]


def test_a_random_distance_draws_from_the_generator():
    context = ContextPrediction(features=8, target=3, distance=SlicedWasserstein(2))
    features, target = torch.randn(2, 8, 5, 5), torch.randn(2, 3, 5, 5)
    one, same, other = (context(features, target, generator=seeded(s)).loss for s in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_the_estimate_can_feed_the_head(generator):
    """Any grid of vectors is good: here the denoised image, through which the gradient reaches the last layer."""
    backbone, context = Toy(), ContextPrediction(features=3, target=3)
    estimate, _ = backbone(torch.randn(2, 3, 8, 8))
    context(estimate, torch.randn(2, 3, 8, 8), generator=generator).loss.mean().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in backbone.parameters())


@pytest.mark.parametrize("make", [ContextPrediction, DirectContextPrediction])
def test_a_trunk_of_transformer_blocks(make, generator):
    context = make(features=8, target=3, stride=1, block=TransformerBlock)
    features = torch.randn(2, 8, 5, 5, requires_grad=True)
    context(features, torch.randn(2, 3, 5, 5), generator=generator).loss.mean().backward()
    assert features.grad.abs().sum() > 0 and all(p.grad is not None for p in context.parameters())


def test_direct_prediction_of_rings(generator):
    """One output for each unit of the rings."""
    context = DirectContextPrediction(features=4, target=2, stride=(1, 3))
    assert context.decoder.read.out_features == (8 + 24) * 2
    assert context(torch.randn(1, 4, 7, 7), torch.randn(1, 2, 7, 7)).loss.isfinite().all()
