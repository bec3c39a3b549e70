import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from discrete_diffusion import Schedule, TokenTransformer, from_vq_diffusion, read_diffusers, write_diffusers

K, T = 20, 10


@pytest.fixture
def denoiser() -> TokenTransformer:
    torch.manual_seed(0)
    model = TokenTransformer(
        codes=K, grid=(4, 4), steps=T, width=16, depth=2, heads=2, condition_width=12, null_length=5
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture
def folder(denoiser: TokenTransformer, tmp_path: Path) -> Path:
    write_diffusers(denoiser, Schedule.released(T, K), tmp_path)
    return tmp_path


def _arguments() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(K + 1, (3, 16), generator=generator)
    return tokens, torch.full((3,), 7), torch.randn(3, 5, 12, generator=generator)


def _alter(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_folder_comes_back_bit_for_bit(denoiser: TokenTransformer, folder: Path) -> None:
    """Invariance: weights, null states and schedule."""
    again = read_diffusers(folder)
    ours, theirs = denoiser.state_dict(), again.denoiser.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    schedule = again.process.schedule
    assert torch.equal(schedule.keep, Schedule.released(T, K).keep) and schedule.codes == K
    assert torch.equal(schedule.mask, Schedule.released(T, K).mask)


def test_a_model_without_null_states_has_none_there_either(denoiser: TokenTransformer, tmp_path: Path) -> None:
    plain = TokenTransformer(
        codes=K, grid=(4, 4), steps=T, width=16, depth=2, heads=2, condition_width=12, null_length=0
    )
    write_diffusers(plain, Schedule.released(T, K, keep=(0.99, 0.01), mask=(0.01, 0.98)), tmp_path)
    again = read_diffusers(tmp_path)
    assert again.denoiser.null is not None and len(again.denoiser.null) == 0
    assert again.process.schedule.mask[-1].item() == pytest.approx(0.98)


@pytest.mark.parity
def test_diffusers_reads_the_folder_and_predicts_the_same(denoiser: TokenTransformer, folder: Path) -> None:
    """Oracle: diffusers' `Transformer2DModel` and `VQDiffusionScheduler`.

    Checks: VQ-Diffusion denoising transformer, noise schedule
    """
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    peer = diffusers.Transformer2DModel.from_pretrained(folder / "transformer").eval()
    tokens, t, condition = _arguments()
    with torch.no_grad():
        theirs = peer(tokens, encoder_hidden_states=condition, timestep=torch.tensor(6), return_dict=False)[0]
        ours = denoiser(tokens, t, condition).value.log_softmax(-1)
    torch.testing.assert_close(ours.transpose(1, 2), theirs.float(), atol=1e-5, rtol=1e-5)
    scheduler = diffusers.VQDiffusionScheduler.from_pretrained(folder / "scheduler")
    mask = Schedule.released(T, K).mask[1:].log().float()
    torch.testing.assert_close(scheduler.log_cumprod_ct[:-1], mask, atol=1e-5, rtol=1e-5)


@pytest.mark.parity
def test_weights_that_diffusers_wrote_are_read(tmp_path: Path, folder: Path) -> None:
    """Oracle: diffusers' own random model, saved by itself, reads the same tokens the same way."""
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    torch.manual_seed(2)
    config = json.loads((folder / "transformer" / "config.json").read_text())
    peer = diffusers.Transformer2DModel.from_config(config).eval()
    peer.save_pretrained(folder / "transformer")
    tokens, t, condition = _arguments()
    with torch.no_grad():
        theirs = peer(tokens, encoder_hidden_states=condition, timestep=torch.tensor(6), return_dict=False)[0]
        ours = read_diffusers(folder).denoiser(tokens, t, condition).value.log_softmax(-1)
    torch.testing.assert_close(ours.transpose(1, 2), theirs.float(), atol=1e-5, rtol=1e-5)


@pytest.mark.parity
def test_an_official_checkpoint_goes_to_a_folder_and_back(golden, tmp_path: Path) -> None:
    """Invariance: with the learnt null states of the file."""
    case = golden("vqdiffusion_process")
    model = from_vq_diffusion(case.weights("weights_sampling"), case.config["constructor"]["sampling_model"])
    write_diffusers(model, Schedule.released(10, 20), tmp_path)
    ours, theirs = model.state_dict(), read_diffusers(tmp_path).denoiser.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_codes_steps_and_grids_that_disagree_are_named(folder: Path) -> None:
    _alter(folder / "scheduler" / "scheduler_config.json", num_vec_classes=22)
    with pytest.raises(ValueError, match="num_vec_classes = 22, but the transformer has 21 codes and the mask"):
        read_diffusers(folder)
    _alter(folder / "transformer" / "config.json", num_vector_embeds=30)
    with pytest.raises(ValueError, match="30 codes, the mask included, but the checkpoint has 21"):
        read_diffusers(folder)
    _alter(folder / "transformer" / "config.json", num_vector_embeds=21, sample_size=8)
    with pytest.raises(ValueError, match="8 rows, but the checkpoint has 4"):
        read_diffusers(folder)


def test_other_folders_are_named(folder: Path) -> None:
    config, weights = (
        folder / "transformer" / "config.json",
        folder / "transformer" / "diffusion_pytorch_model.safetensors",
    )
    _alter(config, activation_fn="geglu")
    with pytest.raises(ValueError, match="activation_fn must be 'geglu-approximate', got 'geglu'"):
        read_diffusers(folder)
    _alter(config, activation_fn="geglu-approximate", num_vector_embeds=None)
    with pytest.raises(ValueError, match="no num_vector_embeds; this is no transformer over"):
        read_diffusers(folder)
    _alter(config, num_vector_embeds=21)
    save_file({**load_file(weights), "surprise": torch.zeros(1)}, weights)
    with pytest.raises(ValueError, match=r"no place for \['surprise'\]"):
        read_diffusers(folder)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=".bin file is a pickle, which is not read"):
        read_diffusers(folder)
    with pytest.raises(FileNotFoundError, match="give the folder of a diffusers VQ-Diffusion pipeline"):
        read_diffusers(folder / "scheduler")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"condition_width": None}, "a network without cross-attention"),
        ({"grid": (2, 8)}, "a grid that is no square"),
        ({"convolution": True, "sinusoidal_time": True}, "sinusoidal times; depthwise convolutions"),
        ({"feedforward": 2}, "such feed-forward nets"),
    ],
)
def test_what_diffusers_lacks_is_named(options: dict[str, object], message: str, tmp_path: Path) -> None:
    sizes: dict[str, object] = {"codes": K, "grid": (4, 4), "steps": T, "width": 16, "depth": 1, "heads": 2}
    model = TokenTransformer(**{**sizes, "condition_width": 12, **options})
    with pytest.raises(ValueError, match=message):
        write_diffusers(model, Schedule.released(T, K), tmp_path)


def test_a_schedule_that_diffusers_lacks_is_named(denoiser: TokenTransformer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a schedule that is not linear"):
        write_diffusers(
            denoiser, Schedule(*(r**2 for r in (Schedule.paper(T, K).keep, Schedule.paper(T, K).mask)), K), tmp_path
        )
    with pytest.raises(ValueError, match="9 codes in the schedule and 20 in the denoiser"):
        write_diffusers(denoiser, Schedule.released(T, 9), tmp_path)
