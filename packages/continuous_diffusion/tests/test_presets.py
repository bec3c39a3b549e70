"""The published denoisers have the published number of parameters."""

import pytest
import torch

from continuous_diffusion import PRESETS, UNet

EXACT = {
    "celebahq": 274_056_163,
    "ffhq": 274_056_163,
    "bedrooms": 274_056_163,
    "churches": 294_966_916,
    "inpainting": 387_245_827,
    "text": 872_300_484,
    "dit-xl-2": 675_129_632 - 256 * 1152,  # the published count holds the positions, which are not learned
}
IN_MILLIONS = {
    "imagenet-f8": (394.98, 0.01),
    "imagenet": (400.92, 0.01),
    "text-f4": (403.62, 0.01),
    "layout": (246.28, 0.01),
    "super-resolution": (113.62, 0.01),
    "semantic": (215.23, 0.01),
    "adm-64": (296, 1),
    "adm-256": (554, 1),
    "adm-256-unconditional": (552.8, 0.1),
    "dit-s-2": (33, 1),
    "dit-b-2": (130, 1),
    "dit-l-2": (458, 1),
}


def size(name: str) -> int:
    with torch.device("meta"):
        denoiser = PRESETS[name].build()
    return sum(parameter.numel() for parameter in denoiser.parameters())


@pytest.mark.parametrize("name", EXACT)
def test_parameter_counts_exactly(name: str) -> None:
    """Checks: LDM U-Net
    Checks: DiT model sizes
    """
    assert size(name) == EXACT[name]


@pytest.mark.parametrize("name", IN_MILLIONS)
def test_parameter_counts_as_they_were_published(name: str) -> None:
    """Checks: LDM U-Net, cross-attention
    Checks: ADM U-Net
    Checks: DiT model sizes
    """
    published, digit = IN_MILLIONS[name]
    assert abs(size(name) / 1e6 - published) <= digit / 2


@pytest.mark.parametrize("name", PRESETS)
def test_presets_fit_the_states_that_they_were_made_for(name: str) -> None:
    preset = PRESETS[name]
    channels, *side = preset.shape
    assert preset.name == name
    assert preset.arguments["out_channels"] == channels
    if preset.kind is UNet:
        assert all(length % 2 ** (len(preset.arguments["multipliers"]) - 1) == 0 for length in side)
    else:
        assert list(preset.arguments["grid"]) == side
    assert 0 < preset.betas[0] < preset.betas[1] < 1
