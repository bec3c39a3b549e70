"""The U-Net: sizes as published, equal to the official outputs, and honest about what it was given."""

from pathlib import Path
from typing import Any

import pytest
import torch

from continuous_diffusion import UNet, from_compvis

PUBLISHED = {
    "CelebA-HQ": (
        274_056_163,
        {
            "in_channels": 3,
            "out_channels": 3,
            "channels": 224,
            "multipliers": (1, 2, 3, 4),
            "attention_at": (8, 4, 2),
            "head_channels": 32,
        },
    ),
    "churches": (
        294_966_916,
        {
            "in_channels": 4,
            "out_channels": 4,
            "channels": 192,
            "multipliers": (1, 2, 2, 4, 4),
            "attention_at": (1, 2, 4, 8),
            "heads": 8,
            "scale_shift": True,
            "resample_by_blocks": True,
        },
    ),
    "inpainting": (
        387_245_827,
        {
            "in_channels": 7,
            "out_channels": 3,
            "channels": 256,
            "multipliers": (1, 2, 3, 4),
            "attention_at": (8, 4, 2),
            "heads": 8,
            "resample_by_blocks": True,
        },
    ),
    "text to image": (
        872_300_484,
        {
            "in_channels": 4,
            "out_channels": 4,
            "channels": 320,
            "multipliers": (1, 2, 4, 4),
            "attention_at": (4, 2, 1),
            "heads": 8,
            "condition_width": 1280,
            "null_states": 0,
        },
    ),
}


def small(**changes: Any) -> UNet:
    arguments: dict[str, Any] = {
        "in_channels": 2,
        "out_channels": 2,
        "channels": 8,
        "multipliers": (1, 2),
        "residual_blocks": 1,
        "attention_at": (1, 2),
        "heads": 2,
        "groups": 4,
    }
    return UNet(**(arguments | changes))


def awake(unet: UNet) -> UNet:
    """With the layers that start at zero drawn at random, so that every path matters."""
    for parameter in unet.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return unet


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_have_the_published_number_of_parameters(name: str) -> None:
    """Checks: LDM U-Net"""
    count, arguments = PUBLISHED[name]
    with torch.device("meta"):
        unet = UNet(residual_blocks=2, **arguments)
    assert sum(parameter.numel() for parameter in unet.parameters()) == count


@pytest.mark.parity
@pytest.mark.parametrize("case", ["ldm_unet_uncond", "ldm_unet_crossattn", "ldm_unet_concat"])
def test_official_outputs(case: str, golden: Any) -> None:
    """Checks: LDM U-Net, cross-attention"""
    given = golden(case)
    unet = from_compvis(given.weights, given.config["constructor"])
    x = torch.cat([given.io["x"], *([given.io["c_concat"]] if "c_concat" in given.io else [])], 1)
    with torch.no_grad():
        prediction = unet(x, given.io["timesteps"] + 1, given.io.get("context"))
    torch.testing.assert_close(prediction.value, given.io["eps"], atol=1e-5, rtol=1e-5)


def test_a_new_network_says_zero_and_its_blocks_are_the_identity() -> None:
    unet = small(condition_width=6)
    x, t, condition = torch.randn(2, 2, 4, 4), torch.tensor([1, 9]), torch.randn(2, 3, 6)
    assert unet(x, t, condition).value.abs().max() == 0
    features = torch.randn(2, 8, 4, 4)
    for block in (unet.down[0].attention, unet.down[0].residual):
        beside = condition if block is unet.down[0].attention else unet.time(t)
        torch.testing.assert_close(block(features, beside), features)


def test_features_are_what_the_last_layer_reads() -> None:
    unet = awake(small())
    prediction = unet(torch.randn(2, 2, 4, 4), torch.tensor([1, 9]))
    assert prediction.features.shape == (2, 8, 4, 4)
    value = unet.head(torch.nn.functional.silu(unet.norm(prediction.features)))
    torch.testing.assert_close(prediction.value, value)


def test_examples_do_not_see_each_other() -> None:
    unet = awake(small(condition_width=6, scale_shift=True, resample_by_blocks=True))
    x, t, condition = torch.randn(3, 2, 4, 4), torch.tensor([1, 9, 30]), torch.randn(3, 5, 6)
    together = unet(x, t, condition).value
    for i in range(3):
        alone = unet(x[i : i + 1], t[i : i + 1], condition[i : i + 1]).value
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-4)


def test_condition_is_a_set_and_it_matters() -> None:
    """Checks: LDM cross-attention"""
    unet = awake(small(condition_width=6))
    x, t, condition = torch.randn(1, 2, 4, 4), torch.tensor([3]), torch.randn(1, 5, 6)
    value = unet(x, t, condition).value
    torch.testing.assert_close(unet(x, t, condition.flip(1)).value, value, atol=1e-5, rtol=1e-4)
    assert (unet(x, t, 2 * condition).value - value).abs().max() > 1e-3


def test_attention_positions_break_the_symmetry_of_self_attention() -> None:
    block = small().middle[0].attention
    placed = small(grid=(4, 4), attention_positions=True).middle[0].attention
    x = torch.randn(1, 16, 2, 2)
    for attention, symmetric in ((block, True), (placed, False)):
        torch.nn.init.normal_(attention.attention.out.weight)
        same = torch.allclose(attention(x.flip(3)), attention(x).flip(3), atol=1e-4)
        assert same == symmetric


def test_null_states() -> None:
    one, three = small(condition_width=6), small(condition_width=6, null_states=3)
    assert one.null_condition(2, 5).shape == (2, 5, 6)
    assert (one.null_condition(2, 5) == one.null).all()
    assert torch.equal(three.null_condition(2, 3)[1], three.null)
    with pytest.raises(ValueError, match="5 null states asked for, 3 were learned"):
        three.null_condition(2, 5)
    with pytest.raises(ValueError, match="no null states"):
        small().null_condition(2, 5)


def test_written_out_attention_is_the_fused_one() -> None:
    """Checks: LDM cross-attention"""
    unet = awake(small(condition_width=6, grid=(4, 4), attention_positions=True))
    x, t, condition = torch.randn(2, 2, 4, 4), torch.tensor([1, 9]), torch.randn(2, 3, 6)
    exact = unet(x, t, condition).value
    with torch.autocast("cpu", torch.bfloat16):
        rough = unet(x, t, condition).value
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, atol=0.05 * exact.std().item(), rtol=0.05)


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    unet = awake(small(condition_width=6, grid=(4, 4), attention_positions=True))
    unet.save_pretrained(tmp_path)
    again = UNet.from_pretrained(tmp_path)
    x, t, condition = torch.randn(2, 2, 4, 4), torch.tensor([1, 9]), torch.randn(2, 3, 6)
    assert torch.equal(again(x, t, condition).value, unet(x, t, condition).value)


X, STEP, STATES = torch.zeros(2, 2, 4, 4), torch.tensor([1, 1]), torch.zeros(2, 3, 6)


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({}, (torch.zeros(2, 2, 5, 4), STEP), "5 x 4, both sides must be multiples of 2"),
        ({}, (torch.zeros(2, 3, 4, 4), STEP), "3 channels, this U-Net reads in_channels=2"),
        ({}, (X, STEP, STATES), "condition was given to a network that does not read it"),
        ({"condition_width": 6}, (X, STEP), "condition is missing"),
        ({"condition_width": 5}, (X, STEP, STATES), r"expected \(2, l, 5\)"),
        ({"grid": (8, 8), "attention_positions": True}, (X, STEP), r"built for grid=\(8, 8\)"),
    ],
)
def test_wrong_inputs_are_named(changes: dict[str, Any], arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**changes)(*arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": None}, "give one of them"),
        ({"heads": 3}, "dividing the width 8"),
        ({"groups": 3}, "not multiples of groups=3"),
        ({"attention_positions": True}, "needs grid"),
    ],
)
def test_impossible_networks_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**changes)
