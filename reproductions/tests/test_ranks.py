"""Two ranks train what one trains: the same batches, losses, weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

TWO = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]


def run(folder: Path, *arguments: str, ranks: bool) -> None:
    """Train in a process of its own, or in two."""
    program = ["-m", "reproductions", "train", "autoencoder", *arguments, "--out", str(folder)]
    command = [sys.executable, *(TWO if ranks else []), *program]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(folder.parent / "cache")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def trained(folder: Path) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    """Curves and weights of the only autoencoder under `folder`."""
    (stage,) = folder.glob("stages/*-train-*")
    return json.loads((stage / "curves.json").read_text()), load_file(stage / "autoencoder" / "model.safetensors")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for index in range(40):
        small = Image.fromarray(noise.integers(0, 256, (3, 3, 3), dtype=np.uint8))
        small.resize((16, 16), Image.Resampling.BICUBIC).save(folder / f"{index:02}.png")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "more", "tolerance"),
    [("vq-f4-32", (), 1e-5), ("vq-gradient-f4-32", (), 1e-5), ("vq-gradient-f4-32", ("--adversarial",), 3e-3)],
)
def test_two_ranks_train_what_one_does(
    preset: str, more: tuple[str, ...], tolerance: float, pictures: Path, tmp_path: Path
) -> None:
    """Losses are equal, and weights; an adversary's only nearly, for it normalises half a batch on each rank."""
    size = ("--samples", "80", "--batch", "8", "--train-size", "32", "--held-out", "8", "--workers", "0")
    arguments = ("--data", str(pictures), "--preset", preset, *size, *more)
    run(tmp_path / "one", *arguments, ranks=False)
    run(tmp_path / "two", *arguments, ranks=True)
    curves, weights = zip(*(trained(tmp_path / name) for name in ("one", "two")), strict=True)
    for one, two in zip(*curves, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=tolerance)
    if not more:
        for name, values in weights[0].items():
            torch.testing.assert_close(weights[1][name], values, rtol=1e-3, atol=1e-4, msg=name)
