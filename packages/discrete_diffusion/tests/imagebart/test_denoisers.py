from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from discrete_diffusion.imagebart import DecoderOnly, EncoderDecoder, ScaleDenoiser

H, W, K, PREFIX = 2, 3, 7, 2
N = H * W
SIZE = {"codes": K, "grid": (H, W), "width": 24, "heads": 2, "prefix": PREFIX, "vocabulary": 12, "prefix_offset": 5}
NETWORKS: dict[str, Callable[[], EncoderDecoder | DecoderOnly]] = {
    "plain": partial(EncoderDecoder, **SIZE, encoder_depth=2, decoder_depth=2, head_width=8),
    "residual": partial(EncoderDecoder, **SIZE, encoder_depth=2, decoder_depth=2, keep=(1.0, 0.6, 0.2, 0.0)),
    "decoder-only": partial(DecoderOnly, **SIZE, depth=3),
    "unmasked": partial(DecoderOnly, **SIZE, depth=3, unmasked=3),
}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> EncoderDecoder | DecoderOnly:
    """A network whose every weight matters."""
    torch.manual_seed(3)
    built = NETWORKS[request.param]()
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.4 if parameter.ndim > 1 else 0.2)
    return built


def batch(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Coarser and finer tokens, scales, prefixes."""
    generator = torch.Generator().manual_seed(seed)
    x_t, target = torch.randint(K, (2, 3, N), generator=generator)
    return x_t, target, torch.tensor([1, 2, 3]), torch.randint(7, (3, PREFIX), generator=generator)


def decoded(network: ScaleDenoiser, x_t: Tensor, t: Tensor, condition: Tensor, target: Tensor) -> Tensor:
    step = network.decode(x_t, t, condition)
    previous = [None, *target.T[:-1]]
    return torch.stack([step(token) for token in previous], 1)


def test_cached_logits_are_the_uncached_ones(network) -> None:
    """Oracle: one pass over all positions, which has no caches; to 1e-5.

    Checks: ImageBART encoder-decoder scales, decoder-only scale
    """
    x_t, target, t, condition = batch()
    with torch.no_grad():
        whole = network(x_t, t, condition, target=target).value
        torch.testing.assert_close(decoded(network, x_t, t, condition, target), whole, atol=1e-5, rtol=1e-5)


def test_a_token_is_predicted_from_those_before_it_alone(network) -> None:
    """Oracle: an invariance to all that comes later, and its failure for what comes before.

    Checks: ImageBART encoder-decoder scales, decoder-only scale
    """
    x_t, target, t, condition = batch()
    for i in range(N):
        changed = target.clone()
        changed[:, i] = (changed[:, i] + 1) % K
        with torch.no_grad():
            difference = (
                network(x_t, t, condition, target=changed).value - network(x_t, t, condition, target=target).value
            )
        reached = difference.abs().amax(-1) > 1e-6
        assert not reached[:, : i + 1].any()
        assert reached[:, i + 1 :].all()


def test_the_coarser_scale_is_read_whole_unless_it_is_noise(network) -> None:
    """Oracle: every token of `x_t` reaches every logit of an encoder-decoder, and none of a decoder-only scale.

    Checks: ImageBART encoder-decoder scales, decoder-only scale
    """
    x_t, target, t, condition = batch()
    with torch.no_grad():
        before = network(x_t, t, condition, target=target).value
        for i in range(N):
            changed = x_t.clone()
            changed[:, i] = (changed[:, i] + 1) % K
            after = network(changed, t, condition, target=target).value
            if isinstance(network, DecoderOnly):
                assert torch.equal(after, before)
            else:
                assert bool(((after - before).abs().amax(-1) > 1e-7).all())


def test_prefix_and_scale_reach_every_logit(network) -> None:
    """Oracle: changing a token of the prefix, or the scale, changes all logits of that example and no other.

    Checks: ImageBART encoder-decoder scales, decoder-only scale
    Checks: ImageBART conditional prefixes
    """
    x_t, target, t, condition = batch()
    other, later = condition.clone(), t.clone()
    other[0, 1] = (other[0, 1] + 1) % 7
    later[0] = 2
    with torch.no_grad():
        before = network(x_t, t, condition, target=target).value
        for after in (network(x_t, t, other, target=target), network(x_t, later, condition, target=target)):
            assert bool(((after.value[0] - before[0]).abs().amax(-1) > 1e-7).all())
            torch.testing.assert_close(after.value[1:], before[1:])


def test_an_unmasked_prefix_sees_itself() -> None:
    """Oracle: attention by hand over one layer of identity-like sight: which inputs move the first position's state."""
    network = NETWORKS["unmasked"]()
    visible = network.decoder._visible(0, 5, torch.device("cpu"))
    assert visible.int().tolist() == [
        [1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1],
    ]


def test_an_untrained_residual_network_says_what_the_noised_token_says() -> None:
    """Oracle: `log(alpha_t v(x_t) + (1 - alpha_t) / K)` where the network's own logits are 0; and its learned factor.

    Checks: ImageBART residual-scaled logits
    """
    network = NETWORKS["residual"]()
    x_t, target, t, condition = batch()
    assert network.log_scales.tolist() == [0, 0, 0]
    with torch.no_grad():
        own = network.logits.bias.normal_()
        network.logits.weight.zero_()
        keep = torch.tensor([1, 0.6, 0.2, 0.0])
        alpha = (keep[t] / keep[t - 1])[:, None, None]
        likelihood = (alpha * torch.nn.functional.one_hot(x_t, K) + (1 - alpha) / K).log()
        for scales in ([0.0, 0.0, 0.0], [0.5, -1.0, 2.0]):
            network.log_scales.copy_(torch.tensor(scales))
            expected = network.log_scales.exp()[t - 1, None, None] * own + likelihood
            torch.testing.assert_close(network(x_t, t, condition, target=target).value, expected)


def test_a_loss_of_the_features_reaches_the_network_below_them(network) -> None:
    """Oracle: gradients of a plain function of the features, (b, d, h, w): everywhere but in the last layer."""
    x_t, target, t, condition = batch()
    prediction = network(x_t, t, condition, target=target)
    assert prediction.features.shape == (3, 24, H, W)
    neighbours = prediction.features[..., 1:] - prediction.features[..., :-1]
    neighbours.square().mean().backward()
    without = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    assert without <= {"norm.weight", "norm.bias", "logits.weight", "logits.bias", "log_scales"}
    normed = network.norm(prediction.features.flatten(2).transpose(1, 2))
    plain = network.logits(normed)
    if getattr(network, "process", None) is None:
        torch.testing.assert_close(plain, prediction.value)


def test_it_runs_in_bfloat16(network) -> None:
    """Oracle: float32, to the precision of bfloat16; training and decoding."""
    x_t, target, t, condition = batch()
    with torch.no_grad():
        exact = network(x_t, t, condition, target=target).value
        with torch.autocast("cpu", torch.bfloat16):
            for rough in (
                network(x_t, t, condition, target=target).value,
                decoded(network, x_t, t, condition, target),
            ):
                assert (rough.float() - exact).abs().mean() < 0.05 * exact.abs().mean()


def test_saved_networks_come_back(network, tmp_path) -> None:
    """Oracle: equality of arguments and logits."""
    x_t, target, t, condition = batch()
    network.save_pretrained(tmp_path)
    back = type(network).from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(
            back(x_t, t, condition, target=target).value, network(x_t, t, condition, target=target).value
        )


def test_a_label_is_a_prefix_of_one() -> None:
    """Oracle: the same logits for labels (b,) and prefixes (b, 1).

    Checks: ImageBART conditional prefixes
    """
    network = DecoderOnly(codes=K, grid=(H, W), width=8, depth=1, heads=2, prefix=1)
    x_t, target, t, condition = batch()
    ones = [network(x_t, t, labels, target=target).value for labels in (condition[:, 0], condition[:, :1])]
    assert torch.equal(*ones)


def test_input_that_does_not_fit_is_refused(network) -> None:
    x_t, target, t, condition = batch()
    with pytest.raises(ValueError, match="condition: expected tokens"):
        network(x_t, t, target=target)
    with pytest.raises(ValueError, match="condition: expected tokens"):
        network.decode(x_t, t, condition[:, :1])
    with pytest.raises(ValueError, match="the model embeds tokens 0 to 11"):
        network(x_t, t, condition + 7, target=target)
    with pytest.raises(ValueError, match=r"target: tokens must be in 0 .. 6, got \d to 7"):
        network(x_t, t, condition, target=torch.full_like(target, K).index_fill(1, torch.tensor([0]), 0))
    with pytest.raises(ValueError, match="target: expected tokens"):
        network(x_t[:, :-1], t, condition, target=target[:, :-1])
    with pytest.raises(ValueError, match="positions of this scale are drawn"):
        decoded(network, x_t, t, condition, torch.cat([target, target, target], 1))


def test_networks_that_cannot_be_are_refused() -> None:
    base = {"codes": K, "grid": (H, W), "width": 8, "heads": 2}
    with pytest.raises(ValueError, match="unmasked"):
        DecoderOnly(**base, depth=1, unmasked=2)
    with pytest.raises(ValueError, match="width must be a multiple"):
        DecoderOnly(codes=K, grid=(H, W), width=9, heads=2, depth=1)
    with pytest.raises(ValueError, match="vocabulary must hold"):
        DecoderOnly(**base, depth=1, vocabulary=3)
    with pytest.raises(ValueError, match="vocabulary must hold"):
        EncoderDecoder(**base, encoder_depth=1, decoder_depth=1, vocabulary=3)
    with pytest.raises(ValueError, match="start_token must be a code"):
        EncoderDecoder(**base, encoder_depth=1, decoder_depth=1, start_token=K)
    unconditional = EncoderDecoder(**base, encoder_depth=1, decoder_depth=1, keep=(1.0, 0.5, 0.0))
    x_t, target, t, condition = batch()
    with pytest.raises(ValueError, match="condition: expected none"):
        unconditional(x_t, t.clamp_max(2), condition, target=target)
    with pytest.raises(ValueError, match=r"t must be in 1 .. 2, got \[1, 2, 3\]"):
        unconditional(x_t, t, target=target)
    with pytest.raises(ValueError, match="x_t: expected tokens"):
        unconditional.encode(x_t[:, :2], t.clamp_max(2))
