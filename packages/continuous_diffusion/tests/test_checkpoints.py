"""Reading official files: every key is placed, or named."""

from typing import Any

import pytest
import torch

from continuous_diffusion import ForwardProcess, Guided, Schedule, from_compvis, sample, strided

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
    """Checks: LDM U-Net
    Checks: DDIM Eq. 12
    Checks: Classifier-free Guidance Eq. 6
    """
    case = golden("ldm_full_checkpoint")
    config, io = case.config["constructor"], case.io
    raw = from_compvis(case.weights, config["unet_config"])
    with torch.no_grad():
        value = raw(io["z"], io["timesteps"] + 1, io["cond"]).value
    torch.testing.assert_close(value, io["eps"], atol=5e-5, rtol=1e-4)
    averaged = {
        key: case.weights["model_ema." + key.removeprefix("model.").replace(".", "")]
        for key in case.weights
        if key.startswith("model.diffusion_model.")
    }
    unet = from_compvis(averaged, config["unet_config"])
    process = ForwardProcess(Schedule.sqrt_linear(config["timesteps"], config["linear_start"], config["linear_end"]))
    guided = Guided(unet, 3.0, null=io["uncond"])
    x = sample(guided, io["x_T"].shape, io["cond"], process=process, steps=5, spacing=strided, until=1, start=io["x_T"])
    torch.testing.assert_close(x, io["ddim_x"][-1], atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 10}, r"\['num_classes'\] supported only as"),
        ({"surprise": 1}, r"\['surprise'\] are not known"),
    ],
)
def test_unsupported_arguments_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_compvis({}, CONFIG | changes)
