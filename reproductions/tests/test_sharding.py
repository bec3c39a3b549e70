"""Two ranks that part a network train what one does; what they leave is whole, and either goes on from it."""

import json
import multiprocessing as mp
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import load_file
from torch import nn
from torch.torch_version import TorchVersion

from reproductions import training
from reproductions.loop import sharding
from reproductions.loop.averages import Average, hollow, made_of
from reproductions.stages.autoencoding import KLAutoencoder
from reproductions.stages.continuous import DiT, UNet
from reproductions.stages.discrete import TokenTransformer
from reproductions.tests.parted_ranks import CASES, Regression, keep, rank, run, scaled

averages_on_processors = pytest.mark.skipif(
    TorchVersion(torch.__version__) < sharding.AVERAGING, reason=f"FSDP on processors needs torch {sharding.AVERAGING}"
)


@pytest.fixture(scope="module")
def parted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks left, and one process before them."""
    root = tmp_path_factory.mktemp("parted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "SAVE_EVERY_SECONDS", 0.0)
        for name, (settings, parts) in CASES.items():
            keep(root / f"{name}-one", run(root / name / "one", settings, parts, parted=False))
            run(root / name / "killed-one", settings, parts, parted=False, kill=True)
        KLAutoencoder(channels=8, multipliers=(1, 2), groups=4, resolution=8).save_pretrained(root / "autoencoder")
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        context = mp.get_context("spawn")
        ranks = [context.Process(target=rank, args=(number, port, root)) for number in range(2)]
        for each in ranks:
            each.start()
        for each in ranks:
            each.join(300)
            each.kill()
        assert [each.exitcode for each in ranks] == [0, 0]
    AcceleratorState._reset_state()
    GradientState._reset_state()
    return root


def assert_close(one: Path, other: Path) -> None:
    one_has, other_has = load_file(one), load_file(other)
    assert one_has.keys() == other_has.keys()
    for name, value in one_has.items():
        torch.testing.assert_close(other_has[name], value, rtol=1e-5, atol=1e-6, msg=name)


@averages_on_processors
@pytest.mark.parametrize("name", CASES)
def test_parted_networks_train_what_whole_ones_do(name: str, parted: Path) -> None:
    """Oracle: one process; its losses, gradient norms and weights. Each rank holds about half of the weights."""
    one, two = (json.loads((parted / name / way / "curves.json").read_text()) for way in ("one", "parted"))
    for ours, theirs in zip(one, two, strict=True):
        assert theirs == pytest.approx(ours, rel=1e-5)
    for number in range(2):
        assert_close(parted / f"{name}-one", parted / name / f"rank-{number}")
    held = [json.loads((parted / name / f"rank-{number}.json").read_text())["held"] for number in range(2)]
    total = sum(each.numel() for each in Regression().parameters())
    assert sum(held) == total
    assert min(held) > 0.4 * total


@averages_on_processors
@pytest.mark.parametrize("name", CASES)
def test_parted_networks_go_on_where_they_were_killed(name: str, parted: Path) -> None:
    """Bit for bit. From a checkpoint of one process they go on, too."""
    whole = load_file(parted / name / "rank-0")
    for number in range(2):
        resumed = load_file(parted / name / f"resumed-{number}")
        assert all(torch.equal(resumed[key], value) for key, value in whole.items())
        assert_close(parted / f"{name}-one", parted / name / f"from-one-{number}")


@averages_on_processors
@pytest.mark.parametrize("name", CASES)
def test_one_process_goes_on_where_two_were_killed(
    name: str, parted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "SAVE_EVERY_SECONDS", 0.0)
    assert list((parted / name / "left").glob("checkpoint-*"))
    keep(tmp_path / "kept", run(parted / name / "left", *CASES[name], parted=False))
    assert_close(parted / f"{name}-one", tmp_path / "kept")


@averages_on_processors
def test_saved_buffers_are_those_of_the_first_rank(parted: Path) -> None:
    assert [(parted / f"buffer-{number}").read_text() for number in range(2)] == ["1.0", "1.0"]


@averages_on_processors
def test_latents_have_the_scale_of_all_pictures(parted: Path) -> None:
    """Oracle: one process. Each rank reads a part of the pictures; one that waited for the other would never end."""
    alone = scaled(parted)
    assert alone.latent_scale.ne(1).all()
    for number in range(2):
        together = KLAutoencoder.from_pretrained(parted / f"scaled-{number}")
        for name in ("latent_shift", "latent_scale"):
            torch.testing.assert_close(getattr(together, name), getattr(alone, name), rtol=1e-5, atol=1e-6)


def test_a_torch_that_adds_gradients_up_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.8.0+cpu")
    with pytest.raises(ValueError, match="torch 2.9 or later.*2.8.0"):
        sharding.shard(Regression(), torch.device("cpu"))


def kinds(module: nn.Module) -> list[str]:
    return [type(unit).__name__ for unit in sharding.units(module)]


def test_units_are_elements_of_lists_or_what_in_them_only_runs() -> None:
    """Blocks of VQ-Diffusion are asked for what they are told before they run, so that their parts are units."""
    assert kinds(Regression()) == ["Layer", "Layer", "Layer"]
    unet = UNet(in_channels=3, out_channels=3, channels=8, multipliers=(1, 2), groups=4, heads=2, residual_blocks=1)
    assert set(kinds(unet)) == {"Cell"}
    dit = DiT(in_channels=3, out_channels=3, grid=(4, 4), patch=2, width=8, depth=2, heads=2)
    assert kinds(dit) == ["Block", "Block"]
    tokens = TokenTransformer(codes=4, grid=(2, 2), steps=3, width=8, depth=1, heads=2)
    assert kinds(tokens) == ["LearnedTime", "SelfAttention", "FeedForward"]


def test_averages_are_those_of_torch() -> None:
    """Bit for bit, so that they are also those of the rows that were measured with torch's."""

    def update(averaged: Any, current: Any, count: Any) -> None:
        torch._foreach_lerp_(averaged, current, 1 - min(0.9, (1 + int(count)) / (10 + int(count))))

    module = Regression()
    ours, theirs = Average(module, 0.9), torch.optim.swa_utils.AveragedModel(module, multi_avg_fn=update)
    for _ in range(5):
        for parameter in module.parameters():
            nn.init.normal_(parameter)
        ours.update()
        theirs.update_parameters(module)
    for value, parameter in zip(ours.values.values(), theirs.module.parameters(), strict=True):
        assert torch.equal(value, parameter)


def test_what_is_made_of_weights_shares_them_and_the_buffers() -> None:
    module = Regression()
    values = [torch.full_like(each, 2.0) for each in module.parameters()]
    made = made_of(values, hollow(module))
    assert isinstance(made, Regression)
    assert [each.data_ptr() for each in made.parameters()] == [value.data_ptr() for value in values]
    assert made.steps is module.steps
    assert all((each != 2).any() for each in module.parameters())
