import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vq_autoencoder import Decoder, Encoder, Layout
from vq_autoencoder.networks import AttentionBlock, Downsample, attention


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@settings(deadline=None, max_examples=15)
@given(
    levels=st.integers(1, 3),
    patch=st.sampled_from([1, 2, 3, 4]),
    subpixel=st.booleans(),
    mid_blocks=st.integers(0, 2),
    decoder_blocks=st.sampled_from([None, 1]),
    scale=st.integers(1, 3),
)
def test_encoder_divides_and_decoder_multiplies_by_the_factor(
    levels, patch, subpixel, mid_blocks, decoder_blocks, scale
):
    layout = Layout(
        channels=4,
        multipliers=(1, 2, 3)[:levels],
        residual_blocks=1,
        resolution=48,
        patch=patch,
        subpixel=subpixel,
        mid_blocks=mid_blocks,
        decoder_blocks=decoder_blocks,
    )
    images = torch.zeros(1, 3, layout.factor * scale, layout.factor * 2)
    features = Encoder(layout, 5)(images)
    assert features.shape == (1, 5, scale, 2)
    assert Decoder(layout, 5)(features).shape == images.shape


def test_official_kl_f8_has_its_published_size():
    """Parameters of kl-f8, the 83.65 M autoencoder of Stable Diffusion, without its two 1x1 convolutions."""
    layout = Layout(channels=128, multipliers=(1, 2, 4, 4))
    with torch.device("meta"):
        encoder, decoder = Encoder(layout, 8), Decoder(layout, 4)
    one_by_one = (8 * 8 + 8) + (4 * 4 + 4)
    assert parameters(encoder) + parameters(decoder) + one_by_one == 83_653_863


def test_written_out_attention_agrees_with_the_fused_one():
    q, k, v = torch.randn(3, 2, 9, 16, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    fused = attention(q.float(), k.float(), v.float())
    assert torch.allclose(attention(q, k, v).float(), fused, atol=0.02)


def test_attention_block_does_not_know_where_positions_are():
    torch.manual_seed(0)
    block = AttentionBlock(8, groups=4).double()
    x = torch.randn(2, 8, 3, 5, dtype=torch.float64)
    order = torch.randperm(15)
    shuffled = x.flatten(2)[:, :, order].view_as(x)
    assert torch.allclose(block(shuffled).flatten(2), block(x).flatten(2)[:, :, order])


def test_downsampling_pads_right_and_below_only():
    torch.manual_seed(0)
    module = Downsample(1)
    with torch.no_grad():
        module.conv.weight.zero_()
        module.conv.bias.zero_()
        module.conv.weight[0, 0, 0, 0] = 1.0
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert torch.equal(module(x), x[:, :, ::2, ::2])


@pytest.mark.parametrize("patch", [1, 2])
def test_layouts_of_memory_give_the_same_image(patch):
    torch.manual_seed(0)
    layout = Layout(channels=8, multipliers=(1, 2), residual_blocks=1, resolution=16, patch=patch, groups=4)
    decoder = Decoder(layout, 4).double()
    features = torch.randn(2, 4, 4, 4, dtype=torch.float64)
    plain = decoder(features)
    assert torch.allclose(decoder.to(memory_format=torch.channels_last)(features), plain)


def test_works_under_bfloat16_autocast():
    torch.manual_seed(0)
    layout = Layout(channels=8, multipliers=(1, 2), residual_blocks=1, resolution=16, groups=4)
    encoder = Encoder(layout, 4)
    images = torch.rand(2, 3, 16, 16)
    exact = encoder(images)
    with torch.autocast("cpu", torch.bfloat16):
        rough = encoder(images)
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().max() < 0.05 * exact.abs().max()


def test_images_out_of_range_bring_one_warning(small_kl, images):
    """In [0, 255], in [0, 1] times two, and with what is not a number."""
    for wrong, bounds in ((images * 127.5 + 127.5, r"\[.*, 25\d.*\]"), (images * 2, r"\[-2, 1.999\]")):
        autoencoder = small_kl().eval()
        autoencoder.encode(images)
        with pytest.warns(UserWarning, match=f"images lie in {bounds}.* should in .-1, 1.: from uint8"):
            autoencoder.encode(wrong)
        autoencoder.encode(wrong)
    with pytest.warns(UserWarning, match="nan"):
        small_kl().encode(images / 0 * 0)
    training = small_kl().train()
    training(images)
    training(images * 2)


def test_compiled_and_meta_networks_look_at_no_values(small_kl):
    with torch.device("meta"):
        assert small_kl().encode(torch.zeros(1, 3, 16, 16)).values.shape == (1, 4, 8, 8)


@pytest.mark.parametrize("mixed", [False, True])
def test_without_gradients_values_are_the_same_and_inputs_unharmed(small_kl, images, mixed):
    """Without them activations are overwritten and channels stand last."""
    autoencoder = small_kl(attention_resolutions=(8,)).eval()
    before = images.clone()
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        kept = autoencoder.encode(images, sample=False).values.detach()
        decoded = autoencoder.decode(kept).detach()
        with torch.no_grad():
            again = autoencoder.encode(images, sample=False).values
            tolerance = {"atol": 2e-2 if mixed else 1e-5, "rtol": 2e-2 if mixed else 1e-5}
            torch.testing.assert_close(again, kept, **tolerance)
            latents = kept.clone()
            torch.testing.assert_close(autoencoder.decode(latents), decoded, **tolerance)
    assert torch.equal(images, before)
    assert torch.equal(latents, kept)
