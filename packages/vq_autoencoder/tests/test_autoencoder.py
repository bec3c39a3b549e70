import pytest
import torch

from vq_autoencoder import (
    FSQAutoencoder,
    GumbelAutoencoder,
    KLAutoencoder,
    LFQAutoencoder,
    TokenAutoencoder,
    VQAutoencoder,
)

SMALL = {"channels": 8, "multipliers": (1, 2), "residual_blocks": 1, "resolution": 16, "groups": 4}
TOKENS = {
    "vq": lambda: VQAutoencoder(codes=16, code_width=4, **SMALL),
    "cosine": lambda: VQAutoencoder(codes=16, code_width=4, cosine=True, **SMALL),
    "gumbel": lambda: GumbelAutoencoder(codes=16, code_width=4, **SMALL),
    "fsq": lambda: FSQAutoencoder(levels=(4, 3, 3), **SMALL),
    "lfq": lambda: LFQAutoencoder(bits=5, bottleneck_channels=8, **SMALL),
}


@pytest.fixture(params=TOKENS)
def any_tokens(request) -> TokenAutoencoder:
    torch.manual_seed(0)
    return TOKENS[request.param]()


def test_all_bottlenecks_have_the_same_manners(any_tokens, images, tmp_path):
    """Encode, decode and the training pass agree; every parameter is reached; saved and read, it is the same."""
    reconstruction = any_tokens(images, generator=torch.Generator().manual_seed(0))
    (reconstruction.images.square().mean() + sum(term.sum() for term in reconstruction.terms.values())).backward()
    assert [name for name, parameter in any_tokens.named_parameters() if parameter.grad is None] == []
    any_tokens.save_pretrained(tmp_path)
    again = type(any_tokens).from_pretrained(tmp_path)
    with torch.no_grad():
        tokens, reconstruction = any_tokens.eval().encode(images), any_tokens(images)
        assert tokens.indices.max() < len(any_tokens.codebook) == any_tokens.quantizer.size
        assert torch.equal(tokens.vectors, any_tokens.codebook[tokens.indices].permute(0, 3, 1, 2))
        assert torch.equal(reconstruction.indices, tokens.indices)
        decoded = any_tokens.decode(tokens.indices)
        torch.testing.assert_close(reconstruction.images, decoded, atol=1e-5, rtol=0)
        assert torch.equal(any_tokens.decode_latents(tokens.latents), decoded)
        assert torch.equal(again.eval().decode(again.encode(images).indices), decoded)


def test_tokens_decode_to_the_image_of_their_vectors(small_vq, images):
    """Checks: LDM VQ regularisation"""
    autoencoder = small_vq().eval()
    tokens = autoencoder.encode(images)
    assert tokens.indices.shape == (3, 8, 8)
    assert torch.equal(tokens.vectors, autoencoder.codebook[tokens.indices].permute(0, 3, 1, 2))
    assert torch.equal(autoencoder.decode(tokens.indices), autoencoder.decode_vectors(tokens.vectors))
    assert torch.equal(autoencoder.quantise(tokens.latents).indices, tokens.indices)


def test_training_pass_and_encoding_agree(small_vq, images):
    autoencoder = small_vq().eval()
    tokens, reconstruction = autoencoder.encode(images), autoencoder(images)
    assert torch.equal(reconstruction.indices, tokens.indices)
    assert torch.equal(reconstruction.latents, tokens.latents)
    torch.testing.assert_close(reconstruction.images, autoencoder.decode(tokens.indices), atol=1e-5, rtol=0)


def test_without_quantisation_latents_pass_unchanged(small_vq, images):
    autoencoder = small_vq(ema_decay=0.9)
    before = autoencoder.codebook.detach().clone()
    reconstruction = autoencoder(images, quantise=False)
    assert torch.equal(reconstruction.images, autoencoder.decode_vectors(reconstruction.latents))
    assert reconstruction.terms == {}
    assert reconstruction.indices is None
    assert torch.equal(autoencoder.codebook, before)


def test_codes_drawn_from_latents_quantise_them_better(small_vq, images):
    autoencoder = small_vq(codes=64)
    latents = autoencoder.encode(images).latents

    def error() -> float:
        return (autoencoder.quantise(latents).vectors - latents).square().mean().item()

    before = error()
    autoencoder.initialise_codebook(latents, generator=torch.Generator().manual_seed(0))
    assert error() < 0.5 * before


def test_legacy_swaps_the_two_weights(small_vq):
    plain = small_vq().quantizer
    legacy = VQAutoencoder.legacy(codes=4, code_width=2, channels=8, groups=4).quantizer
    assert (plain.codebook_weight, plain.commitment_weight) == (1.0, 0.25)
    assert (legacy.codebook_weight, legacy.commitment_weight) == (0.25, 1.0)


def test_every_parameter_gets_a_gradient(small_vq, small_kl, images):
    for autoencoder in (small_vq(), small_kl()):
        reconstruction = autoencoder(images)
        (reconstruction.images.square().mean() + sum(term.sum() for term in reconstruction.terms.values())).backward()
        assert [name for name, parameter in autoencoder.named_parameters() if parameter.grad is None] == []


def test_latents_are_shifted_and_scaled_on_the_way_out_and_back_on_the_way_in(small_kl, images):
    """Checks: LDM latent rescaling"""
    autoencoder = small_kl().eval()
    plain = autoencoder.encode(images, sample=False)
    decoded = autoencoder.decode(plain.values)
    autoencoder.latent_shift.copy_(torch.tensor([0.5, -1.0, 0.0, 2.0]))
    autoencoder.latent_scale.copy_(torch.tensor([2.0, 0.1, 1.0, 3.0]))
    moved = autoencoder.encode(images, sample=False)
    assert torch.equal(moved.mean, plain.mean)
    assert torch.allclose(moved.values[:, 3], (plain.mean[:, 3] - 2.0) * 3.0)
    torch.testing.assert_close(autoencoder.decode(moved.values), decoded, atol=1e-5, rtol=0)


def test_fitted_latents_have_mean_zero_and_deviation_one_per_channel(small_kl):
    """Checks: LDM latent rescaling"""
    autoencoder = small_kl().eval()
    images = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    autoencoder.fit_scale(iter([images[:40], images[40:]]))
    with torch.no_grad():
        values = autoencoder.encode(images, generator=torch.Generator().manual_seed(1)).values
    assert values.mean(dim=(0, 2, 3)).abs().max() < 0.05
    assert (values.std(dim=(0, 2, 3)) - 1).abs().max() < 0.05
    fitted = autoencoder.latent_scale.clone()
    autoencoder.fit_scale([images])
    torch.testing.assert_close(autoencoder.latent_scale, fitted)


def test_scalar_scale_is_one_over_the_deviation_of_one_batch(small_kl, images):
    """Checks: LDM latent rescaling"""
    autoencoder = small_kl().eval()
    z = autoencoder.encode(images, generator=torch.Generator().manual_seed(5)).values
    autoencoder.fit_scalar_scale(images, generator=torch.Generator().manual_seed(5))
    assert torch.allclose(autoencoder.latent_scale, 1 / z.std())
    assert not autoencoder.latent_shift.any()


def test_scale_needs_images(small_kl):
    with pytest.raises(ValueError, match="batches holds no images"):
        small_kl().fit_scale([])


def test_sampling_is_reproducible(small_kl, images):
    autoencoder = small_kl()
    first, second = (autoencoder(images, generator=torch.Generator().manual_seed(2)) for _ in range(2))
    assert torch.equal(first.images, second.images)


def test_survive_saving(small_vq, small_kl, images, tmp_path):
    vq, kl = small_vq(ema_decay=0.9, revival_threshold=0.1, patch=2, subpixel=True), small_kl()
    vq(images)
    kl.fit_scale([images])
    vq.save_pretrained(tmp_path / "vq")
    kl.save_pretrained(tmp_path / "kl")
    vq_again, kl_again = VQAutoencoder.from_pretrained(tmp_path / "vq"), KLAutoencoder.from_pretrained(tmp_path / "kl")
    assert vq_again.layout == vq.layout
    assert vq_again.quantizer.ema_decay == 0.9
    for model, again in ((vq, vq_again), (kl, kl_again)):
        assert model.state_dict().keys() == again.state_dict().keys()
        assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_refuse_what_they_cannot_take(small_vq, small_kl):
    with pytest.raises(ValueError, match="width 15 is no multiple of the factor 2; resize to 14 or 16"):
        small_vq().encode(torch.zeros(1, 3, 16, 15))
    with pytest.raises(ValueError, match=r"images must have shape \(b, 3, H, W\)"):
        small_kl().encode(torch.zeros(1, 4, 16, 16))
    with pytest.raises(ValueError, match="the mask token 16 has no code"):
        small_vq().decode(torch.full((1, 2, 2), 16))
    with pytest.raises(ValueError, match="latents must have 4 channels"):
        small_vq().quantise(torch.zeros(1, 3, 2, 2))
    with pytest.raises(ValueError, match="latents must have 4 channels"):
        small_kl().decode(torch.zeros(1, 3, 2, 2))


def gradient_norm(autoencoder, images, *, mixed: bool) -> float:
    autoencoder.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        reconstruction = autoencoder(images, generator=torch.Generator().manual_seed(0))
        loss = (reconstruction.images.float() - images).abs().mean() + sum(
            t.mean() for t in reconstruction.terms.values()
        )
    loss.backward()
    return torch.cat([p.grad.flatten() for p in autoencoder.parameters()]).norm().item()


def test_gradient_norm_in_bfloat16_is_that_of_float32(any_tokens):
    """Within 2 % over a batch of 64: a few tokens change, as their latents do. Draws are those of one generator."""
    images = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        if isinstance(any_tokens, VQAutoencoder):
            any_tokens.initialise_codebook(any_tokens.latents(images), generator=torch.Generator().manual_seed(0))
    state = {name: value.clone() for name, value in any_tokens.state_dict().items()}
    full = gradient_norm(any_tokens, images, mixed=False)
    any_tokens.load_state_dict(state)
    assert gradient_norm(any_tokens, images, mixed=True) == pytest.approx(full, rel=0.02)


@pytest.mark.slow
def test_500_steps_in_bfloat16_stay_finite(any_tokens, images):
    optimiser = torch.optim.AdamW(any_tokens.parameters(), lr=2e-3)
    for step in range(500):
        with torch.autocast("cpu", torch.bfloat16):
            reconstruction = any_tokens(images, generator=torch.Generator().manual_seed(step))
            error = (reconstruction.images.float() - images).abs().mean()
            loss = error + sum(term.mean() for term in reconstruction.terms.values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step == 0:
            first = error.item()
        assert torch.isfinite(loss)
    assert all(torch.isfinite(value).all() for value in any_tokens.state_dict().values())
    assert error.item() < 0.8 * first
