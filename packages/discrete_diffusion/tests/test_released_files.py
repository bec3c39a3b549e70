import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from discrete_diffusion import (
    ForwardProcess,
    Schedule,
    from_vq_diffusion,
    read_vq_diffusion,
    sample,
    split_vq_diffusion,
)


def _whole(case) -> dict[str, dict[str, Tensor]]:
    """A file as the released code writes it: `ema` lacks the outer prefix and the codec, and differs from `model`."""
    model = case.weights("weights")
    ema = {key.removeprefix("transformer."): value + 1 for key, value in model.items() if value.is_floating_point()}
    model = {f"module.{key}": value for key, value in model.items()}
    model["module.content_codec.dec.weight"] = torch.ones(2)
    model["module.transformer.condition_emb.ln_final.weight"] = torch.ones(3)
    model["module.condition_codec.nothing"] = torch.ones(1)
    return {"model": model, "ema": ema, "last_epoch": 3, "optimizer_and_scheduler": {"lr": [0.1]}}


@pytest.mark.parity
@pytest.mark.parametrize("averaged", [True, False])
def test_the_parts_of_a_file_are_told_apart(golden, tmp_path: Path, averaged: bool) -> None:
    """Oracle: the tensors that were put in."""
    case = golden("vqdiffusion_process")
    torch.save(_whole(case), tmp_path / "released.pth")
    parts = read_vq_diffusion(tmp_path / "released.pth", averaged=averaged)
    assert set(parts.codec) == {"dec.weight"} and set(parts.condition) == {"ln_final.weight"}
    ours = from_vq_diffusion(parts.denoiser, case.config["constructor"]["loss_model"])
    plain = from_vq_diffusion(case.weights("weights"), case.config["constructor"]["loss_model"])
    torch.testing.assert_close(ours.logits.weight, plain.logits.weight + averaged)
    assert parts.times is not None
    history = case.weights("weights")["transformer.Lt_history"]
    assert torch.equal(parts.times.history, history + averaged)


@pytest.mark.parity
def test_safetensors_and_plain_state_dicts_are_read_as_well(golden, tmp_path: Path) -> None:
    case = golden("vqdiffusion_process")
    save_file(case.weights("weights"), tmp_path / "released.safetensors")
    read = read_vq_diffusion(tmp_path / "released.safetensors").denoiser
    split = split_vq_diffusion(case.weights("weights")).denoiser
    assert read.keys() == split.keys() and all(torch.equal(read[key], split[key]) for key in read)


@pytest.mark.parity
def test_codes_and_grids_that_disagree_are_named_on_both_sides(golden) -> None:
    case = golden("vqdiffusion_process")
    weights, config = case.weights("weights"), case.config["constructor"]["loss_model"]

    def altered(part: str, **changes: object) -> dict[str, object]:
        return {**config, part: {"params": {**config[part]["params"], **changes}}}

    for wrong, message in (
        (altered("content_emb_config", num_embed=20), "21 codes, the mask included, but the checkpoint has 17"),
        (altered("content_emb_config", spatial_size=[4, 4]), "4 rows, but the checkpoint has 3"),
        (
            altered("transformer_config", content_spatial_size=[4, 4]),
            "content_spatial_size (4, 4) has not the content_seq_len of 12 tokens",
        ),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            from_vq_diffusion(weights, wrong)
    model = from_vq_diffusion(weights, config)
    with pytest.raises(ValueError, match="it predicts 16 codes, the process has 20"):
        sample(model, (1, 12), torch.zeros(1, 5, 12), process=ForwardProcess(Schedule.released(100, 20)), steps=1)


@pytest.mark.parity
def test_a_file_without_learnt_null_states_gives_a_model_without(golden) -> None:
    case = golden("vqdiffusion_process")
    model = from_vq_diffusion(case.weights("weights"), case.config["constructor"]["loss_model"])
    assert model.null is not None and len(model.null) == 0
    with pytest.raises(ValueError, match="the model has no null states"):
        model.null_condition(1, 5)


def test_other_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_vq_diffusion(tmp_path / "nothing.pth")
    torch.save({"model": {"weight": torch.ones(1)}}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="no VQ-Diffusion model"):
        read_vq_diffusion(tmp_path / "other.pth")
    torch.save({"model": {}, "args": Path()}, tmp_path / "pickled.pth")
    with pytest.raises(ValueError, match="nothing is unpickled here"):
        read_vq_diffusion(tmp_path / "pickled.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"12345")
    with pytest.raises(ValueError, match="damaged or cut short"):
        read_vq_diffusion(tmp_path / "cut.safetensors")
