import json
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

from vq_autoencoder import (
    PRESETS,
    FSQAutoencoder,
    KLAutoencoder,
    VQAutoencoder,
    from_diffusers,
    read_diffusers,
    to_diffusers,
    write_diffusers,
)

WITH_ATTENTION = {
    "channels": 32,
    "multipliers": (1, 2, 2),
    "residual_blocks": 1,
    "resolution": 32,
    "attention_resolutions": (16, 8),
}


def kl(**arguments) -> KLAutoencoder:
    torch.manual_seed(0)
    return KLAutoencoder(**({"latent_channels": 4} | WITH_ATTENTION | arguments)).eval()


def vq(**arguments) -> VQAutoencoder:
    torch.manual_seed(0)
    return VQAutoencoder(
        **({"codes": 40, "code_width": 3, "bottleneck_channels": 5} | WITH_ATTENTION | arguments)
    ).eval()


def images() -> torch.Tensor:
    return torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture
def diffusers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("diffusers", reason="diffusers is not installed")


@pytest.mark.parametrize("make", [kl, vq])
def test_a_folder_written_is_read_back_unchanged(make, tmp_path):
    autoencoder = make()
    if isinstance(autoencoder, KLAutoencoder):
        autoencoder.fit_scale([images()])
    write_diffusers(autoencoder, tmp_path)
    again = read_diffusers(tmp_path)
    assert again.layout == autoencoder.layout
    for name, value in autoencoder.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=1e-6, atol=0)


@pytest.mark.parity
@pytest.mark.parametrize("fitted", [False, True])
def test_diffusers_computes_the_same_kl_model(diffusers, tmp_path, fitted):
    """Both ways: our folder in diffusers, and what diffusers writes of it read here; 1e-5."""
    autoencoder = kl()
    autoencoder.fit_scale([images()]) if fitted else autoencoder.fit_scalar_scale(images())
    write_diffusers(autoencoder, tmp_path / "ours")
    peer, info = diffusers.AutoencoderKL.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    peer.save_pretrained(tmp_path / "theirs")
    again = read_diffusers(tmp_path / "theirs")
    with torch.inference_mode():
        ours, theirs = autoencoder.encode(images(), sample=False), peer.encode(images()).latent_dist
        torch.testing.assert_close(ours.mean, theirs.mean, atol=1e-5, rtol=0)
        torch.testing.assert_close(ours.log_variance, theirs.logvar, atol=1e-5, rtol=0)
        torch.testing.assert_close(autoencoder.decode(ours.values), peer.decode(ours.mean).sample, atol=1e-5, rtol=0)
        read = again.encode(images(), sample=False)
        torch.testing.assert_close(read.values, ours.values, atol=1e-5, rtol=0)
        torch.testing.assert_close(again.decode(read.values), autoencoder.decode(ours.values), atol=1e-5, rtol=0)


@pytest.mark.parity
def test_diffusers_computes_the_same_vq_model(diffusers, tmp_path):
    autoencoder = vq()
    autoencoder.initialise_codebook(autoencoder.latents(images()).detach())
    write_diffusers(autoencoder, tmp_path / "ours")
    peer, info = diffusers.VQModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    peer.save_pretrained(tmp_path / "theirs")
    again = read_diffusers(tmp_path / "theirs")
    with torch.inference_mode():
        tokens, latents = autoencoder.encode(images()), peer.encode(images()).latents
        torch.testing.assert_close(tokens.latents, latents, atol=1e-5, rtol=0)
        assert torch.equal(peer.quantize(latents)[2][2].view_as(tokens.indices), tokens.indices)
        torch.testing.assert_close(autoencoder.decode(tokens.indices), peer.decode(latents).sample, atol=1e-5, rtol=0)
        assert torch.equal(again.encode(images()).indices, tokens.indices)


@pytest.mark.parity
@pytest.mark.parametrize("name", ["vq-f4", "vq-f4-noattn", "vq-f8", "vq-f16", "kl-f4", "kl-f8", "kl-f16", "kl-f32"])
def test_published_presets_have_the_names_and_shapes_of_diffusers(diffusers, name):
    with torch.device("meta"):
        autoencoder = PRESETS[name].build()
    if isinstance(autoencoder, KLAutoencoder):
        autoencoder.latent_scale, autoencoder.latent_shift = torch.ones(1), torch.zeros(1)
    weights, config = to_diffusers(autoencoder)
    with torch.device("meta"):
        arguments = {key: value for key, value in config.items() if not key.startswith("_")}
        peer = getattr(diffusers, config["_class_name"])(**arguments)
    expected = {key: value.shape for key, value in peer.state_dict().items()}
    assert {key: value.shape for key, value in weights.items()} == expected


def test_old_names_and_missing_convolutions_are_understood():
    weights, config = to_diffusers(kl())
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = dict(weights)
    for new, former in old.items():
        renamed = {key.replace(f".{new}.", f".{former}."): value for key, value in renamed.items()}
    assert renamed.keys() != weights.keys()
    again = from_diffusers(renamed, config)
    assert torch.equal(again.decoder.mid.attn_1.q.weight, kl().decoder.mid.attn_1.q.weight)
    without = {key: value for key, value in weights.items() if "quant_conv" not in key}
    bare = from_diffusers(without, config | {"use_quant_conv": False, "use_post_quant_conv": False})
    moments = torch.randn(1, 8, 2, 2)
    assert torch.equal(bare.quant_conv(moments), moments)


def test_scales_and_shifts_of_the_configuration_are_applied():
    weights, config = to_diffusers(kl())
    scaled = from_diffusers(weights, config | {"scaling_factor": 0.3611, "shift_factor": 0.1159})
    assert torch.allclose(scaled.latent_scale, torch.tensor(0.3611))
    assert torch.allclose(scaled.latent_shift, torch.tensor(0.1159))
    channels = {"latents_mean": [1.0, 2.0, 3.0, 4.0], "latents_std": [2.0, 4.0, 5.0, 8.0], "scaling_factor": 1.0}
    scaled = from_diffusers(weights, config | channels)
    torch.testing.assert_close(scaled.latent_scale, torch.tensor([0.5, 0.25, 0.2, 0.125]))
    assert scaled.latent_shift.tolist() == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kl(patch=2, attention_resolutions=(8,)), "patch > 1"),
        (lambda: kl(subpixel=True), "subpixel"),
        (lambda: kl(mid_blocks=1, decoder_blocks=1), "decoder_blocks = 1; mid_blocks = 1"),
        (lambda: kl(channels=40), r"widths \[40, 80, 80\] that 32 groups do not divide"),
        (lambda: kl(bottleneck_channels=6), "bottleneck_channels"),
        (lambda: vq(cosine=True), "cosine codes"),
        (lambda: FSQAutoencoder(levels=(4, 4)), "the bottleneck of FSQAutoencoder"),
    ],
)
def test_what_diffusers_lacks_is_named(make, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_diffusers(make(), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"act_fn": "gelu"}, "act_fn must be 'silu', got 'gelu'"),
        ({"lookup_from_codebook": True}, "lookup_from_codebook must be False"),
        ({"down_block_types": ["DownEncoderBlock2D", "Odd", "DownEncoderBlock2D"]}, "Odd"),
        ({"block_out_channels": [32, 48, 64]}, "no multiples of the first"),
        ({"out_channels": 1}, "differs from out_channels"),
        ({"layers_per_block": 2}, "does not hold a KLAutoencoder.*missing decoder.up.0.block.2.conv1.bias"),
    ],
)
def test_other_networks_are_refused_by_name(change, message):
    weights, config = to_diffusers(kl())
    with pytest.raises(ValueError, match=message):
        from_diffusers(weights, config | change)


def test_unknown_missing_and_misshapen_keys_are_named():
    weights, config = to_diffusers(kl())
    weights["encoder.novelty"] = torch.zeros(2)
    del weights["encoder.conv_in.bias"]
    weights["decoder.conv_out.bias"] = torch.zeros(5)
    with pytest.raises(ValueError, match="does not hold a KLAutoencoder") as error:
        from_diffusers(weights, config)
    for part in (
        "missing encoder.conv_in.bias",
        "unknown encoder.novelty (2,)",
        "decoder.conv_out.bias has shape (5,)",
    ):
        assert part in str(error.value)


def test_damaged_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no config.json"):
        read_diffusers(tmp_path)
    write_diffusers(kl(), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["scaling_factor"] == 1.0
    with pytest.raises(ValueError, match="has sha256 [0-9a-f]{64}, expected abc"):
        read_diffusers(tmp_path, sha256="abc")
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="damaged or cut short"):
        read_diffusers(tmp_path)
    save_file({"other": torch.zeros(1)}, file)
    assert load_file(file)
    with pytest.raises(ValueError, match="does not hold"):
        read_diffusers(tmp_path)
    file.unlink()
    with pytest.raises(FileNotFoundError, match="holds no diffusion_pytorch_model.safetensors"):
        read_diffusers(tmp_path)
