import pytest
import torch

from discrete_diffusion.imagebart import PRESETS, EncoderDecoder, ImageBART, Preset, ScaleObjective, sample

PUBLISHED = {
    # codes, width, encoder layers, width and layers of the last scale, prefix, tokens embedded
    "ffhq-4": (548, 752, 18, 800, 26, 0, 548),
    "ffhq-2": (548, 1152, 32, 1216, 36, 0, 548),
    "churches-3": (1022, 1152, 32, 1216, 36, 0, 1022),
    "bedrooms-3": (1017, 1152, 32, 1216, 36, 0, 1017),
    "cats-3": (1014, 1152, 32, 1216, 36, 0, 1014),
    "imagenet-4": (973, 1152, 32, 1216, 36, 1, 1000),
    "imagenet-5": (973, 1152, 32, 1216, 36, 1, 1000),
}
SMALL = ["small-1", "small-2", "small-3"]


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_chains_have_the_published_sizes(name: str) -> None:
    """Oracle: parameters counted by formula from the published widths and depths.

    Checks: ImageBART scales and training
    """
    k, d, depth, wide, layers, prefix, vocabulary = PUBLISHED[name]
    preset = PRESETS[name]
    with torch.device("meta"):
        model = preset.build()
    residual = name in ("ffhq-4", "imagenet-4")
    attention, feedforward, norm, inner, n = 4 * d * 1024 + d, 8 * d * d + 5 * d, 2 * d, 16 * 64, 256
    assert attention == 3 * d * inner + inner * d + d
    encoder = (vocabulary + 1 + prefix + n) * d + depth * (attention + feedforward + 2 * norm) + norm
    decoder = (k + n) * d + 6 * (2 * attention + feedforward + 3 * norm) + norm + d * k + k
    gpt = (vocabulary + prefix + n) * wide + layers * (12 * wide**2 + 13 * wide) + 2 * wide + wide * k
    expected = [encoder + decoder + residual * preset.scales] * (preset.scales - 1) + [gpt]
    assert [parameters(network) for network in model.networks] == expected
    assert preset.scales == int(name[-1])
    assert len(preset.sampled) == preset.scales


def test_imagenet_has_about_the_published_number_of_parameters() -> None:
    """Oracle: 3.5e9 parameters are published for its five scales; the five copies of the first stage count there too.

    Checks: ImageBART scales and training
    """
    with torch.device("meta"):
        count = parameters(PRESETS["imagenet-5"].build())
    assert 3.0e9 < count < 3.5e9


def test_small_chains_have_equally_many_parameters() -> None:
    """Oracle: counting; within 1 % of their mean, so that they compare."""
    counts = [parameters(PRESETS[name].build()) for name in SMALL]
    mean = sum(counts) / len(counts)
    assert all(abs(count - mean) < 0.01 * mean for count in counts), counts


@pytest.mark.parametrize("name", SMALL)
def test_small_chains_train_and_draw(name: str) -> None:
    """Oracle: shapes, ranges, and finite gradients at every scale."""
    preset = PRESETS[name]
    model, labels = preset.build(), torch.tensor([0, 9])
    clean = torch.randint(256, (2, 64))
    for t, denoiser in enumerate(model.denoisers, 1):
        objective = ScaleObjective(denoiser, model.process, scale=t, sampled=preset.sampled[t - 1])
        objective(clean, labels).loss.mean().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    drawn = sample(model.denoisers, (2, 64), labels, process=model.process)
    assert drawn.shape == (2, 64)
    assert 0 <= int(drawn.min()) <= int(drawn.max()) < 256


def test_a_chain_is_saved_and_read_as_one(tmp_path) -> None:
    """Oracle: equality of all tensors and of the schedule."""
    model = PRESETS["small-3"].build()
    model.save_pretrained(tmp_path)
    back = ImageBART.from_pretrained(tmp_path)
    assert back.process.schedule.keep.tolist() == model.process.schedule.keep.tolist()
    for name, value in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], value), name


def test_one_network_may_serve_all_scales() -> None:
    """Oracle: identity of the networks, with and without a last scale of its own."""
    size = {"codes": 7, "grid": (2, 3), "width": 16, "heads": 2}
    finer = {**size, "encoder_depth": 1, "decoder_depth": 1, "head_width": 8}
    keep = (1.0, 0.5, 0.2, 0.0)
    joint = ImageBART(keep=keep, encoder_decoders=[finer], decoder_only={**size, "depth": 1})
    assert joint.denoisers[0] is joint.denoisers[1]
    assert not isinstance(joint.denoisers[2], EncoderDecoder)
    alone = ImageBART(keep=keep, encoder_decoders=[finer], decoder_only=None)
    assert len({id(network) for network in alone.denoisers}) == 1
    assert sample(alone.denoisers, (1, 6), process=alone.process).shape == (1, 6)


def test_chains_that_do_not_fit_are_refused() -> None:
    size = {"codes": 7, "grid": (2, 3), "width": 16, "heads": 2}
    finer, last = {**size, "encoder_depth": 1, "decoder_depth": 1}, {**size, "depth": 1}
    with pytest.raises(ValueError, match="encoder_decoders: 2 for 3 scales"):
        ImageBART(keep=(1.0, 0.7, 0.4, 0.2, 0.0), encoder_decoders=[finer, finer], decoder_only=last)
    with pytest.raises(ValueError, match="encoder_decoders: 1 for 0 scales"):
        ImageBART(keep=(1.0, 0.0), encoder_decoders=[finer], decoder_only=last)
    with pytest.raises(ValueError, match=r"codes: the scales' networks must agree, got \[7, 8\]"):
        ImageBART(keep=(1.0, 0.5, 0.0), encoder_decoders=[finer], decoder_only={**last, "codes": 8})
    with pytest.raises(ValueError, match="must fall at every scale"):
        ImageBART(keep=(1.0, 0.5, 0.5), encoder_decoders=[finer], decoder_only=last)
    assert isinstance(PRESETS["small-1"], Preset)
