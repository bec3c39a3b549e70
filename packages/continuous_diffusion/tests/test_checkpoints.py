"""Reading official files: every key is placed, or named."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from continuous_diffusion import (
    ClassStates,
    Condition,
    ForwardProcess,
    Guided,
    Schedule,
    UNet,
    from_compvis,
    from_guided_diffusion,
    latent_diffusion_from_compvis,
    read_weights,
    sample,
    strided,
)
from continuous_diffusion.checkpoints.latent_diffusion import map_rescaler_from_compvis
from continuous_diffusion.checkpoints.unets import _sources, unet_arguments

CONFIG: dict[str, Any] = {
    "image_size": 4,
    "in_channels": 2,
    "out_channels": 2,
    "model_channels": 32,
    "attention_resolutions": [1],
    "num_res_blocks": 1,
    "channel_mult": [1],
    "num_heads": 2,
}


@pytest.mark.parity
def test_keys_missing_and_left_over_are_named(golden: Any) -> None:
    case = golden("ldm_unet_uncond")
    short = dict(case.weights)
    del short["model.diffusion_model.out.2.bias"]
    with pytest.raises(KeyError, match=r"lacks 1 parameters .* out\.2\.bias"):
        from_compvis(short, case.config["constructor"])
    extra = case.weights | {"model.diffusion_model.label_emb.weight": torch.zeros(1)}
    with pytest.raises(KeyError, match=r"1 parameters with no place: label_emb\.weight"):
        from_compvis(extra, case.config["constructor"])
    with pytest.raises(ValueError, match="config asks for"):
        from_compvis(case.weights, case.config["constructor"] | {"in_channels": 5})


@pytest.mark.parity
def test_the_prefix_may_be_absent(golden: Any) -> None:
    case = golden("ldm_unet_concat")
    bare = {key.removeprefix("model.diffusion_model."): value for key, value in case.weights.items()}
    ours = [from_compvis(one, case.config["constructor"]).state_dict() for one in (bare, case.weights)]
    assert all(torch.equal(ours[0][name], ours[1][name]) for name in ours[1])


@pytest.mark.parity
def test_rows_of_qkv_in_the_new_order_are_left_alone(golden: Any) -> None:
    """Permuting the rows and saying so gives the same network."""
    case = golden("ldm_unet_uncond")
    permuted = dict(case.weights)
    for key, value in case.weights.items():
        if ".qkv." in key:
            heads = len(value) // 3 // case.config["constructor"]["num_head_channels"]
            rows = value.reshape(heads, 3, -1, *value.shape[1:])
            permuted[key] = torch.cat([rows[:, part].flatten(0, 1) for part in range(3)])
    old = from_compvis(case.weights, case.config["constructor"])
    new = from_compvis(permuted, case.config["constructor"] | {"use_new_attention_order": True})
    assert all(torch.equal(value, new.state_dict()[name]) for name, value in old.state_dict().items())


@pytest.mark.parity
def test_a_whole_checkpoint_samples_as_the_official_code_does(golden: Any) -> None:
    """Checks: LDM U-Net, conditioning mechanisms, latent rescaling
    Checks: DDIM Eq. 12
    Checks: Classifier-free Guidance Eq. 6
    """
    case = golden("ldm_full_checkpoint")
    io = case.io
    parts = latent_diffusion_from_compvis(case.weights, case.config["constructor"])
    assert isinstance(parts.conditioner, ClassStates)
    assert parts.averaged is not None
    states, null = parts.conditioner(io["cond_input"]), parts.conditioner(io["uncond_input"])
    torch.testing.assert_close(states, io["cond"])
    with torch.no_grad():
        for unet, name in ((parts.unet, "eps"), (parts.averaged, "eps_ema")):
            torch.testing.assert_close(unet(io["z"], io["timesteps"] + 1, states).value, io[name], atol=1e-5, rtol=1e-5)
    process, guided = ForwardProcess(parts.schedule), Guided(parts.averaged, 3.0, null=null.detach())
    x = sample(guided, io["x_T"].shape, states, process=process, steps=5, spacing=strided, until=1, start=io["x_T"])
    torch.testing.assert_close(x, io["ddim_x"][-1], atol=1e-5, rtol=1e-5)


@pytest.mark.parity
def test_every_key_of_a_whole_checkpoint_has_a_place(golden: Any) -> None:
    case = golden("ldm_full_checkpoint")
    weights, config = case.weights, case.config["constructor"]
    parts = latent_diffusion_from_compvis(weights, config)
    count = sum(map(len, (parts.unet.state_dict(), parts.averaged.state_dict())))
    joined = 2 * sum(
        3 * name.endswith("qkv.weight")
        + 2 * name.endswith("key_value.weight")
        - (name.endswith(("qkv.weight", "key_value.weight")))
        for name in parts.unet.state_dict()
    )
    buffers = [key for key in weights if "." not in key] + ["model_ema.decay", "model_ema.num_updates"]
    placed = count + joined + len(parts.first_stage) + len(parts.conditioner.state_dict()) + len(buffers)
    assert placed == len(weights)
    assert parts.condition_stage == {}
    assert parts.latent_scale == 1
    for name, value in parts.first_stage.items():
        assert value is weights[f"first_stage_model.{name}"]
    unread = latent_diffusion_from_compvis(weights, config | {"cond_stage_config": {"target": "somewhere.Else"}})
    assert unread.conditioner is None
    assert list(unread.condition_stage) == ["embedding.weight"]
    scaled = latent_diffusion_from_compvis(weights | {"scale_factor": torch.tensor(0.25)}, config)
    assert scaled.latent_scale == 0.25


STATES = CONFIG | {"use_spatial_transformer": True, "context_dim": 6}
WHOLE: dict[str, Any] = {
    "unet_config": {"target": "ldm.UNetModel", "params": STATES},
    "cond_stage_config": {"target": "ldm.ClassEmbedder", "params": {"n_classes": 4, "embed_dim": 6}},
    "timesteps": 10,
    "linear_start": 0.0015,
    "linear_end": 0.0195,
    "scale_factor": 0.5,
}


def whole_checkpoint(unet: UNet) -> dict[str, torch.Tensor]:
    """Ours as LDM's trainer saves it, its moving average twice as large, under names without dots."""
    official = {
        key: part
        for name, value in unet.state_dict().items()
        for key, part in zip(_sources(name, unet), value.chunk(len(_sources(name, unet))), strict=True)
    }
    return {
        **{f"model.diffusion_model.{key}": value for key, value in official.items()},
        **{f"model_ema.diffusion_model{key.replace('.', '')}": 2 * value for key, value in official.items()},
        "model_ema.decay": torch.tensor(0.9999),
        "model_ema.num_updates": torch.tensor(1),
        "first_stage_model.decoder.weight": torch.ones(2),
        "cond_stage_model.embedding.weight": torch.arange(24.0).reshape(4, 6),
        "alphas_cumprod": Schedule.sqrt_linear(10).signal[1:].float(),
    }


def test_the_parts_of_a_whole_checkpoint_are_those_that_went_in() -> None:
    """Checks: LDM conditioning mechanisms, latent rescaling"""
    ours = UNet(**unet_arguments(STATES))
    weights = whole_checkpoint(ours)
    parts = latent_diffusion_from_compvis(weights, WHOLE)
    assert parts.averaged is not None and parts.conditioner is not None
    for name, value in ours.state_dict().items():
        assert torch.equal(parts.unet.state_dict()[name], value)
        assert torch.equal(parts.averaged.state_dict()[name], 2 * value)
    assert torch.equal(parts.schedule.signal, Schedule.sqrt_linear(10).signal)
    assert (parts.latent_scale, list(parts.first_stage), parts.condition_stage) == (0.5, ["decoder.weight"], {})
    assert parts.conditioner(torch.tensor([2])).flatten().tolist() == [12.0, 13.0, 14.0, 15.0, 16.0, 17.0]
    plain = {key: value for key, value in weights.items() if not key.startswith(("model_ema.", "alphas"))}
    unread = latent_diffusion_from_compvis(plain, WHOLE | {"cond_stage_config": "__is_unconditional__"})
    assert unread.averaged is unread.conditioner is None
    assert list(unread.condition_stage) == ["embedding.weight"]


@pytest.mark.parametrize(
    ("more", "changes", "message"),
    [
        ({"surprise": torch.zeros(1)}, {}, "1 parameters with no place: surprise"),
        ({"model_ema.diffusion_modelsurprise": torch.zeros(1)}, {}, "no place: diffusion_modelsurprise"),
        ({}, {"timesteps": 9}, r"alphas_cumprod: shape \(10,\), config asks for \(9,\)"),
        ({}, {"linear_end": 0.012}, "not those of config's beta_schedule"),
        ({}, {"beta_schedule": "cosine"}, "not those of config's beta_schedule"),
        ({}, {"beta_schedule": "none"}, "beta_schedule 'none' is not one of"),
    ],
)
def test_whole_checkpoints_that_do_not_fit_are_refused(
    more: dict[str, torch.Tensor], changes: dict[str, Any], message: str
) -> None:
    weights = whole_checkpoint(UNet(**unet_arguments(STATES)))
    with pytest.raises((KeyError, ValueError), match=message):
        latent_diffusion_from_compvis(weights | more, WHOLE | changes)


@pytest.mark.parity
def test_whole_checkpoints_of_another_configuration_are_refused(golden: Any) -> None:
    case = golden("ldm_full_checkpoint")
    weights, config = case.weights, case.config["constructor"]
    with pytest.raises(KeyError, match="1 parameters with no place: surprise"):
        latent_diffusion_from_compvis(weights | {"surprise": torch.zeros(1)}, config)
    with pytest.raises(KeyError, match="no place: diffusion_modelsurprise"):
        latent_diffusion_from_compvis(weights | {"model_ema.diffusion_modelsurprise": torch.zeros(1)}, config)
    with pytest.raises(ValueError, match=r": shape \(200,\), config asks for \(100,\)"):
        latent_diffusion_from_compvis(weights, config | {"timesteps": 100})
    with pytest.raises(ValueError, match="alphas_cumprod: not those of config's beta_schedule"):
        latent_diffusion_from_compvis(weights, config | {"linear_end": 0.012})
    with pytest.raises(ValueError, match="beta_schedule 'none' is not one of"):
        latent_diffusion_from_compvis(weights, config | {"beta_schedule": "none"})
    with pytest.raises(ValueError, match=r"embedding.weight: shape \(11, 16\), config asks for \(12, 16\)"):
        latent_diffusion_from_compvis(
            weights,
            config | {"cond_stage_config": {"target": "x.ClassEmbedder", "params": {"embed_dim": 16, "n_classes": 12}}},
        )
    short = {key: value for key, value in weights.items() if key != "model_ema.diffusion_modelout2bias"}
    with pytest.raises(KeyError, match="lacks 1 parameters .* diffusion_modelout2bias"):
        latent_diffusion_from_compvis(short, config)


def test_a_map_rescaler_is_read() -> None:
    """Checks: LDM conditioning mechanisms"""
    weight = torch.randn(3, 5, 1, 1)
    given = {"cond_stage_model.channel_mapper.weight": weight}
    rescaler = map_rescaler_from_compvis(given, {"in_channels": 5, "out_channels": 3, "n_stages": 2})
    assert rescaler.stages == 2
    assert torch.equal(rescaler.mix.weight, weight)
    with pytest.raises(ValueError, match="'method': 'nearest'"):
        map_rescaler_from_compvis(given, {"in_channels": 5, "out_channels": 3, "method": "nearest"})
    with pytest.raises(ValueError, match="out_channels of SpatialRescaler is missing"):
        map_rescaler_from_compvis(given, {"in_channels": 5})


ADM = {
    "image_size": 8,
    "num_channels": 32,
    "num_res_blocks": 1,
    "channel_mult": "1,2",
    "attention_resolutions": "8,4",
    "num_head_channels": 16,
    "class_cond": True,
    "learn_sigma": True,
    "resblock_updown": True,
}
ADM_CONSTRUCTOR = {
    "image_size": 8,
    "in_channels": 3,
    "model_channels": 32,
    "out_channels": 6,
    "num_res_blocks": 1,
    "attention_resolutions": (1, 2),
    "channel_mult": (1, 2),
    "num_classes": 1000,
    "num_head_channels": 16,
    "use_scale_shift_norm": True,
    "resblock_updown": True,
}


def adm_weights(unet: UNet) -> dict[str, torch.Tensor]:
    """Ours under the official names, the rows of attention in the old order."""
    names = {name: _sources(name, unet) for name in unet.state_dict()}
    weights = {}
    for name, value in unet.state_dict().items():
        if ".qkv." in name:
            value = value.reshape(3, len(value) // 48, 16, *value.shape[1:]).transpose(0, 1).flatten(0, 2)
        weights[names[name][0]] = value[..., None] if ".qkv.weight" in name else value
    return weights


@pytest.mark.parametrize("config", [ADM, ADM_CONSTRUCTOR])
def test_guided_diffusion_is_read(config: dict[str, Any]) -> None:
    """Checks: ADM U-Net"""
    ours = UNet(
        in_channels=3,
        out_channels=3,
        channels=32,
        multipliers=(1, 2),
        residual_blocks=1,
        attention_at=(1, 2),
        head_channels=16,
        classes=1000,
        null_class=False,
        learned_variance=True,
        scale_shift=True,
        resample_by_blocks=True,
    )
    weights = adm_weights(ours)
    assert weights["label_emb.weight"].shape == (1000, 128)
    assert weights["out.2.bias"].shape == (6,)
    again = from_guided_diffusion(weights, config)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in ours.state_dict().items())
    prediction = again(torch.zeros(1, 3, 8, 8), torch.tensor([1]), Condition(classes=torch.tensor([999])))
    assert prediction.value.shape == prediction.variance.shape == (1, 3, 8, 8)


def test_guided_diffusions_super_resolution_reads_the_smaller_image_beside() -> None:
    """Checks: ADM U-Net"""
    flags = ADM | {"class_cond": False}
    ours = UNet(**(unet_arguments(ADM_CONSTRUCTOR | {"num_classes": None, "in_channels": 6})))
    again = from_guided_diffusion(adm_weights(ours), flags)
    assert again.in_channels == 6
    beside = Condition(concat=torch.zeros(1, 3, 8, 8))
    assert again(torch.zeros(1, 3, 8, 8), torch.tensor([1]), beside).value.shape == (1, 3, 8, 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"surprise": 1}, r"\['surprise'\] are not flags"),
        ({"channel_mult": ""}, "none is known for image_size 8"),
        ({"channel_mult": "2,2"}, "only with 1 at first"),
    ],
)
def test_flags_of_guided_diffusion_that_are_not_supported(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_guided_diffusion({}, ADM | changes)


def test_files_are_read_without_unpickling(tmp_path: Path) -> None:
    weights = {"a": torch.randn(2), "b": torch.randn(3)}
    save_file(weights, tmp_path / "w.safetensors")
    torch.save({"state_dict": weights, "global_step": 3}, tmp_path / "w.ckpt")
    torch.save({"ema": weights, "model": {}}, tmp_path / "w.pt")
    for name, part in (("w.safetensors", None), ("w.ckpt", None), ("w.pt", "ema")):
        found = read_weights(tmp_path / name, part=part)
        assert found.keys() == weights.keys()
        assert all(torch.equal(found[key], weights[key]) for key in weights)
    torch.save({"state_dict": weights, "callbacks": Path("x")}, tmp_path / "more.ckpt")
    (tmp_path / "short.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:-4])
    with pytest.raises(ValueError, match="nothing is unpickled here"):
        read_weights(tmp_path / "more.ckpt")
    with pytest.raises(ValueError, match="damaged or cut short"):
        read_weights(tmp_path / "short.safetensors")
    with pytest.raises(FileNotFoundError, match="no file"):
        read_weights(tmp_path / "none.pt")
    with pytest.raises(KeyError, match="no part 'opt'; it has ema, model"):
        read_weights(tmp_path / "w.pt", part="opt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_embed": 10}, r"\['n_embed'\] supported only as"),
        ({"surprise": 1}, r"\['surprise'\] are not known"),
    ],
)
def test_unsupported_arguments_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_compvis({}, CONFIG | changes)
