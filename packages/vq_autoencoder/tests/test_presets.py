"""Parameter counts: by a formula over the table of the papers, and the published ones."""

import pytest
import torch

from vq_autoencoder import PRESETS, KLAutoencoder

# name: multipliers, levels that attend, attention in the middle, z, codes (0: Gaussian)
TABLE = {
    "vq-f4": ((1, 2, 4), (), True, 3, 8192),
    "vq-f4-noattn": ((1, 2, 4), (), False, 3, 8192),
    "vq-f8": ((1, 2, 2, 4), (3,), True, 4, 16384),
    "vq-f8-n256": ((1, 2, 2, 4), (3,), True, 4, 256),
    "vq-f16": ((1, 1, 2, 2, 4), (4,), True, 8, 16384),
    "kl-f4": ((1, 2, 4), (), True, 3, 0),
    "kl-f8": ((1, 2, 4, 4), (), True, 4, 0),
    "kl-f16": ((1, 1, 2, 2, 4), (4,), True, 16, 0),
    "kl-f32": ((1, 1, 2, 2, 4, 4), (4, 5), True, 64, 0),
    "taming-f16-1024": ((1, 1, 2, 2, 4), (4,), True, 256, 1024),
    "taming-f16-16384": ((1, 1, 2, 2, 4), (4,), True, 256, 16384),
    "gumbel-f8-8192": ((1, 1, 2, 4), (3,), True, 256, 8192),
}
FACTORS = {name: 2 ** (len(row[0]) - 1) for name, row in TABLE.items()}


def conv(a: int, b: int, side: int = 3) -> int:
    return a * b * side**2 + b


def block(a: int, b: int) -> int:
    return 2 * a + conv(a, b) + 2 * b + conv(b, b) + (conv(a, b, 1) if a != b else 0)


def attention(a: int) -> int:
    return 2 * a + 4 * conv(a, a, 1)


def side(widths: list[int], attends: tuple[int, ...], blocks: int, *, up: bool) -> int:
    order = list(reversed(range(len(widths)))) if up else list(range(len(widths)))
    total, width = 0, widths[-1] if up else 128
    for position, level in enumerate(order):
        for _ in range(blocks):
            total += block(width, widths[level]) + (attention(widths[level]) if level in attends else 0)
            width = widths[level]
        if position + 1 < len(order):
            total += conv(width, width)
    return total


def count(multipliers, attends, middle, z, codes) -> int:
    """Parameters of the released networks with 128 channels and two residual blocks."""
    widths, deep, moments = [128 * m for m in multipliers], 128 * multipliers[-1], z if codes else 2 * z
    mid = 2 * block(deep, deep) + (attention(deep) if middle else 0)
    encoder = conv(3, 128) + side(widths, attends, 2, up=False) + mid + 2 * deep + conv(deep, moments)
    decoder = conv(z, deep) + mid + side(widths, attends, 3, up=True) + 2 * widths[0] + conv(widths[0], 3)
    return encoder + decoder + conv(moments, moments, 1) + conv(z, z, 1) + codes * z


@pytest.mark.parametrize("name", TABLE)
def test_published_networks_have_exactly_their_parameters(name):
    """Checks: LDM first stages"""
    with torch.device("meta"):
        autoencoder = PRESETS[name].build()
    projection = conv(256, 8192, 1) if name.startswith("gumbel") else 0
    assert sum(p.numel() for p in autoencoder.parameters()) == count(*TABLE[name]) + projection
    assert autoencoder.factor == FACTORS[name]


def test_published_counts():
    """The numbers that the released code prints."""
    assert count(*TABLE["kl-f8"]) == 83_653_863
    assert round(count(*TABLE["vq-f4"]) / 1e6, 2) == 55.32


@pytest.mark.parametrize("name", sorted(PRESETS.keys() - TABLE.keys()))
def test_small_presets_rebuild_images_of_their_side(name):
    torch.manual_seed(0)
    preset = PRESETS[name]
    autoencoder = preset.build().eval()
    images = torch.rand(1, 3, preset.resolution, preset.resolution) * 2 - 1
    with torch.inference_mode():
        rebuilt = autoencoder(images)
    assert rebuilt.images.shape == images.shape
    factor = int(name.split("-f")[1].split("-")[0])
    assert autoencoder.factor == factor
    assert rebuilt.latents.shape[2:] == (preset.resolution // factor,) * 2
    if not isinstance(autoencoder, KLAutoencoder) and preset.resolution == 32:
        assert autoencoder.quantizer.size == 256


def test_adversaries_have_their_layers():
    sizes = {name: sum(isinstance(m, torch.nn.Conv2d) for m in PRESETS[name].adversary().modules()) for name in TABLE}
    assert {name for name, size in sizes.items() if size == 4} == {"vq-f8", "vq-f16"}
    assert set(sizes.values()) == {4, 5}
