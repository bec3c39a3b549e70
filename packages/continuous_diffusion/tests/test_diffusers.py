"""Folders of diffusers, either way: the same weights, the same answers, the same pictures."""

import json
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from continuous_diffusion import (
    Clean,
    Condition,
    Displacement,
    Epsilon,
    ForwardProcess,
    Schedule,
    Target,
    UNet,
    Velocity,
    from_compvis,
    from_diffusers,
    read_diffusers,
    read_diffusers_pipeline,
    sample,
    to_diffusers,
    write_diffusers,
    write_diffusers_pipeline,
)


@pytest.fixture(scope="module")
def diffusers() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("diffusers", reason="diffusers is not installed")


def loaded(kind: Any, folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind.from_pretrained(folder)


def small(**changes: Any) -> UNet:
    arguments: dict[str, Any] = {
        "in_channels": 3,
        "out_channels": 3,
        "channels": 8,
        "multipliers": (1, 2),
        "residual_blocks": 1,
        "attention_at": (2,),
        "head_channels": 4,
        "groups": 4,
        "null_states": 0,
    }
    unet = UNet(**(arguments | changes))
    for parameter in unet.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return unet.eval()


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "attention everywhere": {"attention_at": (1, 2, 4), "multipliers": (1, 2, 2)},
    "attention in the middle alone": {"attention_at": (), "residual_blocks": 2},
    "heads of one width": {"head_channels": None, "heads": 2, "multipliers": (1, 1), "attention_at": (1, 2)},
    "resampled by blocks": {"resample_by_blocks": True, "scale_shift": True, "multipliers": (1, 2, 3)},
    "classes": {"classes": 5},
    "a learned variance": {"learned_variance": True},
    "states": {"condition_width": 6},
    "states, deep, some levels": {"condition_width": 6, "transformer_depth": 2, "multipliers": (1, 2, 2)},
    "states, heads": {"condition_width": 6, "head_channels": None, "heads": 2, "scale_shift": True, "classes": 3},
}


@pytest.mark.parity
@pytest.mark.parametrize("kind", KINDS)
def test_diffusers_computes_the_same(kind: str, diffusers: ModuleType, tmp_path: Path) -> None:
    """Checks: LDM U-Net, cross-attention
    Checks: ADM U-Net
    """
    unet = small(**KINDS[kind])
    write_diffusers(unet, tmp_path)
    peer = loaded(getattr(diffusers, json.loads((tmp_path / "config.json").read_text())["_class_name"]), tmp_path)
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([1, 700])
    states = None if unet.condition_width is None else torch.randn(2, 5, 6)
    classes = None if unet.classes is None else torch.tensor([0, 2])
    named = {} if states is None else {"encoder_hidden_states": states}
    with torch.no_grad():
        theirs = peer(x, t - 1, class_labels=classes, **named).sample
        ours = unet(x, t, Condition(context=states, classes=classes))
    value = torch.cat([ours.value, ours.variance], 1) if unet.learned_variance else ours.value
    torch.testing.assert_close(value, theirs, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back_is_the_same(kind: str, tmp_path: Path) -> None:
    unet = small(**KINDS[kind])
    write_diffusers(unet, tmp_path)
    again = read_diffusers(tmp_path)
    doubled = unet.learned_variance
    assert again.arguments["out_channels"] == (6 if doubled else 3)
    assert again.state_dict().keys() == unet.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in unet.state_dict().items())


@pytest.mark.parity
@pytest.mark.parametrize("case", ["ldm_unet_uncond", "ldm_unet_crossattn", "ldm_unet_concat"])
def test_official_files_go_through(case: str, diffusers: ModuleType, golden: Any, tmp_path: Path) -> None:
    """Checks: LDM U-Net, cross-attention"""
    given = golden(case)
    write_diffusers(from_compvis(given.weights, given.config["constructor"]), tmp_path)
    peer = loaded(diffusers.UNet2DConditionModel if "context" in given.io else diffusers.UNet2DModel, tmp_path)
    x = torch.cat([given.io["x"], *([given.io["c_concat"]] if "c_concat" in given.io else [])], 1)
    named = {"encoder_hidden_states": given.io["context"]} if "context" in given.io else {}
    with torch.no_grad():
        theirs = peer(x, given.io["timesteps"], **named).sample
        ours = read_diffusers(tmp_path)(x, given.io["timesteps"] + 1, given.io.get("context")).value
    torch.testing.assert_close(theirs, given.io["eps"], atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(ours, given.io["eps"], atol=2e-5, rtol=1e-4)


def drawn(pipeline: Any, seed: int, steps: int, batch: int = 2) -> torch.Tensor:
    """Pictures (b, 3, H, W) in 0..1."""
    pipeline.set_progress_bar_config(disable=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = pipeline(
            batch_size=batch,
            generator=torch.Generator().manual_seed(seed),
            num_inference_steps=steps,
            output_type="np",
        )
    return torch.from_numpy(found.images).movedim(-1, 1)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("schedule", "target"),
    [
        (Schedule.sqrt_linear(), Epsilon()),
        (Schedule.linear(), Epsilon()),
        (Schedule.cosine(100), Velocity()),
        (Schedule.cosine(100), Clean()),
    ],
)
def test_a_pipeline_over_pixels_draws_the_same_pictures(
    schedule: Schedule, target: Target, diffusers: ModuleType, tmp_path: Path
) -> None:
    """Checks: DDIM Eq. 12"""
    unet = small()
    write_diffusers_pipeline(unet, tmp_path, schedule=schedule, target=target, grid=(8, 8))
    pictures = drawn(loaded(diffusers.DiffusionPipeline, tmp_path), 3, steps=10)
    start = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    x = sample(unet, start.shape, process=ForwardProcess(schedule), target=target, steps=10, start=start)
    torch.testing.assert_close(pictures, (x / 2 + 0.5).clamp(0, 1), atol=1e-4, rtol=1e-3)
    again = read_diffusers_pipeline(tmp_path)
    assert again.target == target
    torch.testing.assert_close(again.schedule.signal, schedule.signal, atol=0, rtol=1e-9)


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["VQModel", "AutoencoderKL"])
def test_a_pipeline_over_latents_draws_the_same_pictures(kind: str, diffusers: ModuleType, tmp_path: Path) -> None:
    """Checks: DDIM Eq. 12
    Checks: LDM latent rescaling
    """
    first = getattr(diffusers, kind)(
        block_out_channels=(8, 8),
        norm_num_groups=4,
        latent_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        **({"num_vq_embeddings": 16} if kind == "VQModel" else {"scaling_factor": 0.7}),
    ).eval()
    if kind == "VQModel":
        torch.nn.init.normal_(first.quantize.embedding.weight, std=5.0)
    first.save_pretrained(tmp_path / "first")
    unet, schedule = small(), Schedule.sqrt_linear()
    write_diffusers_pipeline(unet, tmp_path / "whole", schedule=schedule, grid=(8, 8), autoencoder=tmp_path / "first")
    pictures = drawn(loaded(diffusers.DiffusionPipeline, tmp_path / "whole"), 3, steps=5)
    start = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    x = sample(unet, start.shape, process=ForwardProcess(schedule), steps=5, start=start)
    with torch.no_grad():
        decoded = first.decode(x / first.config.scaling_factor).sample
    torch.testing.assert_close(pictures, (decoded / 2 + 0.5).clamp(0, 1), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"condition_width": 6, "null_states": 1}, "null states"),
        ({"attention_positions": True, "grid": (8, 8)}, "attention positions"),
        ({"augmented": True}, "a level beside the time"),
        ({"condition_width": 6, "feed_forward": 2}, "feed_forward=2"),
        ({"multipliers": (2, 2)}, r"multipliers \(2, 2\) that do not begin with 1"),
        ({"condition_width": 6, "resample_by_blocks": True}, "cross-attention beside changes of resolution"),
        ({"head_channels": None, "heads": 2, "attention_at": (1,)}, r"2 heads of several widths \[4, 8\]"),
    ],
)
def test_networks_that_diffusers_has_not(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_diffusers(small(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "DiTTransformer2DModel"}, "UNet2DModel and UNet2DConditionModel are read"),
        ({"freq_shift": 1}, "freq_shift must be 0, got 1"),
        ({"block_out_channels": [8, 12]}, "no multiples of the first"),
        ({"down_block_types": ["DownBlock2D", "SkipDownBlock2D"]}, r"\['SkipDownBlock2D'\] are not supported"),
        ({"up_block_types": ["UpBlock2D", "UpBlock2D"]}, "do not mirror"),
        ({"attn_norm_num_groups": 2}, "attn_norm_num_groups must be 4, got 2"),
    ],
)
def test_configurations_that_are_not_read(changes: dict[str, Any], message: str) -> None:
    weights, config = to_diffusers(small())
    with pytest.raises(ValueError, match=message):
        from_diffusers(weights, config | changes)


def test_another_configuration_is_named() -> None:
    weights, config = to_diffusers(small())
    with pytest.raises(ValueError, match=r"conv_in.weight: shape \(8, 3, 3, 3\), config asks for \(8, 4, 3, 3\)"):
        from_diffusers(weights, config | {"in_channels": 4})
    with pytest.raises(KeyError, match="lacks .* down_blocks.0.resnets.1"):
        from_diffusers(weights, config | {"layers_per_block": 2})
    conditional, theirs = to_diffusers(small(condition_width=6))
    with pytest.raises(ValueError, match="neither one number of heads nor one width"):
        from_diffusers(conditional, theirs | {"attention_head_dim": [2, 3]})
    with pytest.raises(ValueError, match="transformer_layers_per_block"):
        from_diffusers(conditional, theirs | {"transformer_layers_per_block": [1, 2]})


def test_pipelines_that_are_not_written(tmp_path: Path) -> None:
    schedule = Schedule.sqrt_linear(10)
    with pytest.raises(ValueError, match=r"built with \['condition_width'\]"):
        write_diffusers_pipeline(small(condition_width=6), tmp_path, schedule=schedule, grid=(8, 8))
    with pytest.raises(ValueError, match="3 channels in and 6 out"):
        write_diffusers_pipeline(small(learned_variance=True), tmp_path, schedule=schedule, grid=(8, 8))
    with pytest.raises(ValueError, match="grid is missing"):
        write_diffusers_pipeline(small(), tmp_path, schedule=schedule)
    with pytest.raises(ValueError, match="has no name in diffusers"):
        write_diffusers_pipeline(small(), tmp_path, schedule=schedule, target=Displacement(), grid=(8, 8))
    with pytest.raises(ValueError, match="scales the state or ends without signal"):
        write_diffusers_pipeline(small(), tmp_path, schedule=Schedule.rectified_flow(10), grid=(8, 8))
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        write_diffusers_pipeline(small(), tmp_path, schedule=schedule, grid=(8, 8), autoencoder=tmp_path)


@pytest.mark.parametrize("schedule", [Schedule.sqrt_linear(12), Schedule.linear(12), Schedule.cosine(12)])
def test_a_schedule_goes_there_and_back(schedule: Schedule, tmp_path: Path) -> None:
    """By its name in diffusers, or, as cosine with its cap, by all of its betas."""
    write_diffusers_pipeline(small(), tmp_path, schedule=schedule, grid=(8, 8))
    again = read_diffusers_pipeline(tmp_path).schedule
    torch.testing.assert_close(again.signal, schedule.signal, atol=0, rtol=1e-9)


def test_folders_that_are_not_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no diffusion_pytorch_model.safetensors"):
        read_diffusers(tmp_path)
    write_diffusers_pipeline(small(), tmp_path, schedule=Schedule.sqrt_linear(10), grid=(8, 8))
    scheduler = tmp_path / "scheduler" / "scheduler_config.json"
    config = json.loads(scheduler.read_text())
    for changes, message in (
        ({"prediction_type": "flow_prediction"}, "prediction_type 'flow_prediction' is not one of"),
        ({"beta_schedule": "sigmoid"}, "beta_schedule 'sigmoid' is not one of"),
    ):
        scheduler.write_text(json.dumps(config | changes))
        with pytest.raises(ValueError, match=message):
            read_diffusers_pipeline(tmp_path)
    scheduler.write_text(json.dumps(config | {"rescale_betas_zero_snr": True}))
    assert read_diffusers_pipeline(tmp_path).schedule.signal[-1] == 0
