import pytest
import torch

from vq_autoencoder import (
    KLAutoencoder,
    PatchGAN,
    Remapping,
    VQAutoencoder,
    discriminator_from_taming,
    from_compvis,
    from_taming,
    remapping_from_taming,
)

DDCONFIG = {
    "double_z": False,
    "z_channels": 4,
    "resolution": 16,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 8,
    "ch_mult": [1, 2],
    "num_res_blocks": 1,
    "attn_resolutions": [8],
    "dropout": 0.0,
}
VQ = {"ddconfig": DDCONFIG, "embed_dim": 3, "n_embed": 10}
KL = {"ddconfig": DDCONFIG | {"double_z": True}, "embed_dim": 3}
LAYOUT = {"channels": 8, "multipliers": (1, 2), "residual_blocks": 1, "resolution": 16, "attention_resolutions": (8,)}


def official_vq() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    state = VQAutoencoder(codes=10, code_width=3, bottleneck_channels=4, **LAYOUT).state_dict()
    return {key.replace("quantizer.codebook", "quantize.embedding.weight"): value for key, value in state.items()}


def official_kl() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    state = KLAutoencoder(latent_channels=3, bottleneck_channels=4, **LAYOUT).state_dict()
    return {key: value for key, value in state.items() if not key.startswith("latent_")}


@pytest.mark.parametrize(("arguments", "weights"), [({}, (0.25, 1.0)), ({"beta": 0.5, "legacy": False}, (1.0, 0.5))])
def test_taming_arguments_decide_the_weights_of_the_terms(arguments, weights):
    quantizer = from_taming(official_vq(), VQ | arguments).quantizer
    assert (quantizer.codebook_weight, quantizer.commitment_weight) == weights


def test_a_whole_latent_diffusion_file_gives_its_first_stage_and_scale():
    """Checks: LDM latent rescaling"""
    parts = {f"first_stage_model.{key}": value for key, value in official_kl().items()}
    parts |= {"model.diffusion_model.out.weight": torch.zeros(1), "first_stage_model.loss.logvar": torch.zeros(())}
    whole = {"first_stage_config": {"params": KL}, "scale_factor": 0.18215}
    autoencoder = from_compvis(parts, whole)
    assert torch.allclose(autoencoder.latent_scale, torch.tensor(0.18215))
    fitted = from_compvis(parts | {"scale_factor": torch.tensor(0.5)}, whole)
    assert fitted.latent_scale.tolist() == [0.5, 0.5, 0.5]
    assert from_compvis(official_kl(), KL).latent_scale.tolist() == [1.0, 1.0, 1.0]


def test_names_every_key_that_does_not_fit():
    state = official_vq()
    del state["encoder.conv_in.bias"]
    state["encoder.extra"] = torch.zeros(2)
    state["quantize.embedding.weight"] = torch.zeros(11, 3)
    with pytest.raises(ValueError, match="does not hold a VQAutoencoder") as error:
        from_taming(state, VQ)
    for problem in (
        "missing encoder.conv_in.bias (8,)",
        "unknown encoder.extra (2,)",
        "quantizer.codebook has shape (11, 3) instead of (10, 3)",
    ):
        assert problem in str(error.value)


def test_half_a_gumbel_quantiser_is_named():
    state = official_vq() | {"quantize.proj.weight": torch.zeros(10, 3, 1, 1)}
    with pytest.raises(ValueError, match="does not hold a GumbelAutoencoder.*missing quantizer.proj.bias"):
        from_taming(state, VQ)


def test_long_lists_of_keys_are_cut():
    with pytest.raises(ValueError, match=r"missing decoder.conv_in.bias .*; and \d+ more$"):
        from_taming({}, VQ)


def test_codes_of_a_remapped_file_are_kept_and_their_tokens_known():
    state = official_vq() | {"quantize.used": torch.tensor([7, 2, 5])}
    config = VQ | {"remap": "used.npy", "unknown_index": "extra"}
    assert from_taming(state, config).codebook.shape == (10, 3)
    remapping = remapping_from_taming(state, config)
    assert remapping.narrow(torch.tensor([2, 7, 5, 0])).tolist() == [1, 0, 2, 3]
    assert remapping.widen(torch.tensor([0, 1, 2, 3])).tolist() == [7, 2, 5, 7]
    assert remapping_from_taming(state, config | {"unknown_index": 1}).narrow(torch.tensor([0, 5])).tolist() == [1, 2]
    with pytest.raises(ValueError, match="it has no quantize.used"):
        remapping_from_taming(official_vq(), config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attn_type": "linear"}, "attn_type 'linear' is not supported; 'vanilla' and 'none' are"),
        ({"tanh_out": True}, "{'tanh_out': True} not supported"),
        ({"novelty": 1}, "novelty"),
        ({"out_ch": 1}, "out_ch 1"),
        ({"double_z": True}, "double_z must be False"),
    ],
)
def test_refuses_networks_that_it_does_not_have(change, message):
    with pytest.raises(ValueError, match=message):
        from_taming(official_vq(), VQ | {"ddconfig": DDCONFIG | change})


def test_refuses_scaled_vq_latents():
    with pytest.raises(ValueError, match="scale_factor must be 1 for VQ"):
        from_compvis(official_vq() | {"scale_factor": torch.tensor(0.5)}, VQ)
    with pytest.raises(ValueError, match="double_z must be True"):
        from_compvis(official_kl(), KL | {"ddconfig": DDCONFIG})


def test_discriminator_of_a_whole_file():
    torch.manual_seed(0)
    adversary = PatchGAN(channels=4, layers=2)
    state = {f"loss.discriminator.{key}": value for key, value in adversary.state_dict().items()}
    again = discriminator_from_taming(state | official_vq(), {"disc_ndf": 4, "disc_num_layers": 2})
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(again.eval()(images), adversary.eval()(images))
    with pytest.raises(ValueError, match="does not hold a PatchGAN"):
        discriminator_from_taming(state, {"disc_ndf": 4, "disc_num_layers": 3})
    with pytest.raises(ValueError, match="use_actnorm"):
        discriminator_from_taming(state, {"use_actnorm": True})


@pytest.mark.parity
def test_kl_autoencoder_equals_that_of_latent_diffusion(golden):
    case = golden("ldm_autoencoder_kl")
    io, autoencoder = case.io, from_compvis(case.weights(), case.constructor).eval()
    with torch.no_grad():
        latents = autoencoder.encode(io["x"], sample=False)
        torch.testing.assert_close(latents.mean, io["mean"], atol=3e-5, rtol=0)
        torch.testing.assert_close(latents.log_variance, io["logvar"], atol=3e-5, rtol=0)
        torch.testing.assert_close(autoencoder.decode(io["mean"]), io["decode_of_mean"], atol=3e-5, rtol=0)
        torch.testing.assert_close(autoencoder.decode(io["z"]), io["decode_of_z"], atol=3e-5, rtol=0)


@pytest.mark.parity
def test_vq_autoencoder_equals_that_of_latent_diffusion(golden):
    """Checks: LDM VQ regularisation"""
    case = golden("ldm_vq_interface")
    io, autoencoder = case.io, from_compvis(case.weights(), case.constructor).eval()
    with torch.no_grad():
        tokens = autoencoder.encode(io["x"])
        torch.testing.assert_close(tokens.latents, io["h"], atol=3e-5, rtol=0)
        assert torch.equal(tokens.indices, io["indices"])
        torch.testing.assert_close(tokens.vectors, io["quant"], atol=3e-5, rtol=0)
        torch.testing.assert_close(autoencoder.decode(tokens.indices), io["decode_quantized"], atol=3e-5, rtol=0)
        unquantised = autoencoder.decode_vectors(io["h"])
        torch.testing.assert_close(unquantised, io["decode_force_not_quantize"], atol=3e-5, rtol=0)


@pytest.mark.parity
def test_vqgan_equals_that_of_taming(golden):
    """Checks: VQGAN quantisation"""
    case = golden("taming_vqgan")
    io, autoencoder = case.io, from_taming(case.weights(), case.constructor["vqmodel"]).eval()
    with torch.no_grad():
        tokens = autoencoder.encode(io["x"])
        torch.testing.assert_close(tokens.latents, io["h"], atol=3e-5, rtol=0)
        assert torch.equal(tokens.indices, io["indices"])
        torch.testing.assert_close(tokens.vectors, io["codebook_entry"], atol=0, rtol=0)
        torch.testing.assert_close(autoencoder.decode(tokens.indices), io["decode"], atol=3e-5, rtol=0)


@pytest.mark.parity
def test_gumbel_vqgan_equals_that_of_taming(golden):
    """With the recorded Gumbel noise, and without any.

    Checks: Gumbel-softmax straight-through estimator
    """
    case = golden("taming_vqgan")
    io, config = case.io, case.constructor["gumbelvq"]
    autoencoder = from_taming(case.weights("weights_gumbel"), config).eval()
    with torch.no_grad():
        tokens = autoencoder.encode(io["gumbel_x"])
        torch.testing.assert_close(tokens.latents, io["gumbel_h"], atol=3e-5, rtol=0)
        assert torch.equal(tokens.indices, io["gumbel_argmax_indices"])
        assert torch.equal(tokens.vectors, io["gumbel_argmax_codebook_entry"])
        decoded = autoencoder.decode(tokens.indices)
        torch.testing.assert_close(decoded, io["gumbel_argmax_decode"], atol=5e-5, rtol=0)
        logits = autoencoder.quantizer.proj(tokens.latents)
        torch.testing.assert_close(logits, io["gumbel_logits"], atol=5e-5, rtol=0)
        chosen = autoencoder.quantizer.choose(io["gumbel_logits"], io["gumbel_noise"])
        assert torch.equal(chosen.indices, io["gumbel_indices"])
        torch.testing.assert_close(chosen.vectors, io["gumbel_zq"], atol=1e-6, rtol=0)
        torch.testing.assert_close(chosen.terms["prior"].mean(), io["gumbel_kl_diff"], rtol=2e-5, atol=1e-13)
        decoded = autoencoder.decode_vectors(chosen.vectors)
        torch.testing.assert_close(decoded, io["gumbel_decode"], atol=5e-5, rtol=0)


@pytest.mark.parity
def test_remapped_codes_equal_those_of_taming(golden):
    case = golden("taming_vqgan")
    io, k = case.io, case.constructor["vqmodel"]["n_embed"]
    codebook = case.weights()["quantize.embedding.weight"]
    remapping = Remapping.from_used(io["remap_used"], k)
    assert torch.equal(remapping.narrow(io["indices"]), io["remap_indices"])
    assert torch.equal(remapping.widen(io["remap_indices"]), io["indices"])
    entries = codebook[remapping.widen(io["remap_indices"])].permute(0, 3, 1, 2)
    assert torch.equal(entries, io["remap_codebook_entry"])
    extra = Remapping.from_used(io["remap_used_missing_one"], k, extra=True)
    assert torch.equal(extra.narrow(io["indices"]), io["remap_extra_indices"])
    entries = codebook[extra.widen(io["remap_extra_indices"])].permute(0, 3, 1, 2)
    assert torch.equal(entries, io["remap_extra_codebook_entry"])
    to_zero = Remapping.from_used(io["remap_used_missing_one"], k, unknown=0)
    assert torch.equal(to_zero.narrow(io["indices"]), io["remap_unknown0_indices"])


@pytest.mark.parity
def test_first_stage_of_a_whole_latent_diffusion(golden):
    case = golden("ldm_full_checkpoint")
    io, autoencoder = case.io, from_compvis(case.weights(), case.constructor).eval()
    with torch.no_grad():
        torch.testing.assert_close(autoencoder.encode(io["image"]).latents, io["z"], atol=3e-5, rtol=0)
        decoded = autoencoder.decode(autoencoder.quantise(io["z"]).indices)
        torch.testing.assert_close(decoded, io["decoded_z"], atol=3e-5, rtol=0)


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["vq", "kl"])
def test_discriminator_equals_that_of_taming(golden, kind):
    case = golden("mask_and_vqgan_losses")
    options = case.constructor[kind] | {"disc_ndf": 8 if kind == "vq" else 64}
    adversary = discriminator_from_taming(case.weights(f"weights_{kind}"), options).eval()
    with torch.no_grad():
        logits = adversary(case.io["vq.inputs"])
    torch.testing.assert_close(logits, case.io[f"{kind}.disc_logits_of_inputs_eval"], rtol=2e-5, atol=1e-6)
