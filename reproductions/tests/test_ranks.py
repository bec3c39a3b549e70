"""Two ranks train what one trains, and draw what one draws: the same batches, losses, weights, samples, scores.

So do parts of a batch, one after the other, and ranks that part networks between them.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

TWO = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]


IN_FLOAT32 = """
import sys
from pathlib import Path
from reproductions import profiles, table_profiles, training
from reproductions.loop import steps
shard = steps.shard
def parting(module, device):
    Path(sys.argv[-1], "parted").touch()
    shard(module, device)
steps.shard = parting
training.SAVE_EVERY_SECONDS = 0.5
profiles.has_bf16 = table_profiles.has_bf16 = lambda: False
from reproductions.__main__ import main
main()
"""


def run(folder: Path, *arguments: str, ranks: bool = False, parts: int = 1, fsdp: bool = False) -> None:
    """Run a command, in float32, in a process of its own or in two.

    parts: of every batch, one after the other; fsdp: as `accelerate launch --use_fsdp --fsdp_version 2` asks for it.
    """
    program = folder.parent / "in_float32.py"
    program.write_text(IN_FLOAT32)
    command = [sys.executable, *(TWO if ranks else []), str(program), *arguments, "--out", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(folder.parent / "cache")}
    environment["ACCELERATE_GRADIENT_ACCUMULATION_STEPS"] = str(parts)
    environment |= {"ACCELERATE_USE_FSDP": str(fsdp), "FSDP_VERSION": "2"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
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
    arguments = ("train", "autoencoder", "--data", str(pictures), "--preset", preset, *size, *more)
    run(tmp_path / "one", *arguments)
    run(tmp_path / "two", *arguments, ranks=True)
    curves, weights = zip(*(trained(tmp_path / name) for name in ("one", "two")), strict=True)
    for one, two in zip(*curves, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=tolerance)
    if not more:
        for name, values in weights[0].items():
            torch.testing.assert_close(weights[1][name], values, rtol=1e-3, atol=1e-4, msg=name)


WAYS: dict[str, dict[str, Any]] = {
    "ranks": {"ranks": True},
    "parts": {"parts": 2},
    "fsdp": {"ranks": True, "fsdp": True},
}
TABLES = {
    "table1": ("table1", "--rows", "ConPreDiff_dis,ConPreDiff_con"),
    "table3": ("table3", "--rows", "DDPM,ImageBART,ConPreDiff"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_tables_are_the_same_on_two_ranks(name: str, tmp_path: Path) -> None:
    """Denoisers of two ranks, whole or parted, or of two parts a batch, have losses, weights, samples, scores of one.

    Then the same is drawn once more from the same weights by two ranks: every byte is the same.
    """
    arguments = (*TABLES[name], "--profile", "smoke", "--workers", "0")
    run(tmp_path / "one", *arguments)
    rows = measured(tmp_path / "one", name)
    for way, options in WAYS.items():
        copy_but(tmp_path / "one", tmp_path / way, ("train", "model", "sample", "decode", "scores"))
        run(tmp_path / way, *arguments, **options)
        assert (tmp_path / way / "parted").exists() == (way == "fsdp")
        assert_close(tmp_path / "one", tmp_path / way)
        for approach, scores in measured(tmp_path / way, name).items():
            for metric, value in scores.items():
                assert value["mean"] == pytest.approx(rows[approach][metric]["mean"], rel=1e-4), (way, metric)
    copy_but(tmp_path / "one", tmp_path / "drawn", ("sample", "decode", "scores"))
    run(tmp_path / "drawn", *arguments, ranks=True)
    for file in sorted((tmp_path / "one").glob("stages/*sample-*/samples-*.safetensors")):
        assert (tmp_path / "drawn" / file.relative_to(tmp_path / "one")).read_bytes() == file.read_bytes(), file.name
    assert measured(tmp_path / "drawn", name) == rows


def copy_but(one: Path, other: Path, left_out: tuple[str, ...]) -> None:
    """Copy a run's stages, but those whose names end so: they are run again."""
    for stage in (one / "stages").iterdir():
        if not stage.name.rsplit("-", 1)[0].endswith(left_out):
            shutil.copytree(stage, other / "stages" / stage.name)


def assert_close(one: Path, other: Path) -> None:
    """Losses are equal to 1e-5, and so are weights and almost all numbers of samples."""
    trained = sorted(one.glob("stages/*train-*/curves.json"))
    assert trained
    for file in trained:
        theirs = json.loads((other / file.relative_to(one)).read_text())
        for ours, each in zip(json.loads(file.read_text()), theirs, strict=True):
            assert each["loss"] == pytest.approx(ours["loss"], rel=1e-5), (file.parent.name, ours["step"])
    kept = [*one.glob("stages/*train-*/*.safetensors"), *one.glob("stages/*train-*/*/*.safetensors")]
    assert len(kept) >= len(trained)
    for file in kept:
        theirs = load_file(other / file.relative_to(one))
        for name, value in load_file(file).items():
            torch.testing.assert_close(theirs[name], value, rtol=1e-4, atol=1e-5, msg=f"{file.parent.name} {name}")
    drawn = sorted(one.glob("stages/*sample-*/samples-*.safetensors"))
    assert drawn
    for file in drawn:
        ours, theirs = (load_file(each)["samples"].float() for each in (file, other / file.relative_to(one)))
        assert ((ours - theirs).abs() < 1e-4).float().mean() > 0.99, file.parent.name


def measured(folder: Path, name: str) -> dict[str, dict[str, dict[str, float]]]:
    """The measured rows of a table."""
    rows = json.loads((folder / f"{name}.json").read_text())["rows"]
    return {row["approach"]: row["measured"] for row in rows if row["measured"]}


@pytest.mark.slow
def test_a_figure_is_made_by_two_ranks_alone(tmp_path: Path) -> None:
    """From the judge to the report; its steps are timed on both."""
    run(tmp_path / "two", "figure4", "--profile", "smoke", ranks=True)
    found = json.loads((tmp_path / "two" / "figure4.json").read_text())
    assert sum(row["measured"] is not None for row in found["rows"]) == 9
