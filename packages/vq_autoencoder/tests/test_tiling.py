import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vq_autoencoder import KLAutoencoder, Tiling, VQAutoencoder, decode_tiled, encode_tiled
from vq_autoencoder.networks import AttentionBlock

LOCAL = {
    "channels": 8,
    "multipliers": (1, 1),
    "residual_blocks": 1,
    "decoder_blocks": 1,
    "mid_blocks": 0,
    "resolution": 64,
    "groups": 4,
}


def local(autoencoder: nn.Module) -> nn.Module:
    """Without its global layers: what is left sees a few positions around each."""
    for module in list(autoencoder.modules()):
        assert not isinstance(module, AttentionBlock)
        for name, child in list(module.named_children()):
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, nn.Identity())
    return autoencoder.eval()


@settings(deadline=None, max_examples=30)
@given(side=st.integers(1, 200), tile=st.integers(8, 40), quarter=st.integers(0, 4), scale=st.integers(1, 4))
def test_tiles_cover_everything_with_weights_that_sum_to_one(side, tile, quarter, scale):
    tiling = Tiling(tile=tile, overlap=4 * min(quarter, tile // 8))
    total = torch.zeros(side * scale)
    for start in tiling.starts(side):
        weights = tiling.weights(side, start, scale=scale)
        assert weights.min() >= 0
        total[start * scale : start * scale + len(weights)] += weights
    torch.testing.assert_close(total, torch.ones(side * scale))


def test_weights_spare_the_border_that_lacks_its_surroundings():
    tiling = Tiling(tile=32, overlap=16)
    assert tiling.starts(80) == [0, 16, 32, 48]
    weights = tiling.weights(80, 16)
    assert not weights[:4].any()
    assert not weights[-4:].any()
    assert tiling.weights(80, 0)[:16].eq(1).all()


def test_decoding_by_tiles_equals_decoding_at_once_where_layers_are_local():
    """The decoder sees 7 positions around each: tolerance 1e-5."""
    torch.manual_seed(0)
    autoencoder = local(KLAutoencoder(latent_channels=4, **LOCAL))
    autoencoder.latent_scale.fill_(0.5)
    values = torch.randn(2, 4, 70, 45)
    with torch.inference_mode():
        tiled = decode_tiled(autoencoder, values, tiling=Tiling(tile=56, overlap=28))
        torch.testing.assert_close(tiled, autoencoder.decode(values), atol=1e-5, rtol=0)


def test_encoding_by_tiles_equals_encoding_at_once_where_layers_are_local():
    torch.manual_seed(0)
    vq, kl = (
        local(VQAutoencoder(codes=32, code_width=4, **LOCAL)),
        local(KLAutoencoder(latent_channels=4, **LOCAL)),
    )
    images = torch.rand(1, 3, 128, 90) * 2 - 1
    tiling = Tiling(tile=40, overlap=20)
    with torch.inference_mode():
        vq.initialise_codebook(vq.latents(images))
        tokens, at_once = encode_tiled(vq, images, tiling=tiling), vq.encode(images)
        torch.testing.assert_close(tokens.latents, at_once.latents, atol=1e-5, rtol=0)
        assert (tokens.indices == at_once.indices).double().mean() > 0.999
        drawn = [torch.Generator().manual_seed(3) for _ in range(2)]
        latents = encode_tiled(kl, images, tiling=tiling, generator=drawn[0])
        expected = kl.encode(images, generator=drawn[1])
        torch.testing.assert_close(latents.values, expected.values, atol=1e-5, rtol=0)
        assert torch.equal(decode_tiled(vq, tokens.indices[:, :9, :9]), vq.decode(tokens.indices[:, :9, :9]))


def test_an_image_of_one_tile_is_coded_at_once(small_kl, images):
    autoencoder = small_kl().eval()
    with torch.inference_mode():
        latents = encode_tiled(autoencoder, images, sample=False)
        assert torch.equal(latents.values, autoencoder.encode(images, sample=False).values)
        assert torch.equal(decode_tiled(autoencoder, latents.values), autoencoder.decode(latents.values))


def test_memory_is_bounded_by_the_tile(small_kl):
    """No call of the decoder sees more than a tile."""
    autoencoder = small_kl().eval()
    seen = []
    autoencoder.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[2:]))
    with torch.inference_mode():
        decode_tiled(autoencoder, torch.randn(1, 4, 20, 30), tiling=Tiling(tile=8, overlap=4))
    assert set(seen) == {(8, 8)}
    assert len(seen) == 4 * 7


@pytest.mark.parametrize(("tile", "overlap"), [(0, 0), (16, 6), (16, 12), (8, -4)])
def test_refuses_tilings_that_do_not_overlap_well(tile, overlap):
    with pytest.raises(ValueError, match=f"got tile {tile} and overlap {overlap}"):
        Tiling(tile=tile, overlap=overlap)


def test_refuses_what_the_autoencoder_refuses(small_kl):
    with pytest.raises(ValueError, match="width 15 is no multiple of the factor 2"):
        encode_tiled(small_kl(), torch.zeros(1, 3, 16, 15))
    with pytest.raises(ValueError, match="latents must have 4 channels"):
        decode_tiled(small_kl(), torch.zeros(1, 3, 8, 8))
