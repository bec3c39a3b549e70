"""Table 1 at smoke size: every code path, honest files, and no way to lose work."""

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from reproductions import profiles
from reproductions.artefacts import upstream
from reproductions.commands.command import describe
from reproductions.data import DataSettings, Split
from reproductions.experiment import Context
from reproductions.pipeline import plan
from reproductions.profiles import PROFILES
from reproductions.recipes.tasks import SuperResolution
from reproductions.reproduce import parse_seeds, profile_named, reproduce, rows_of
from reproductions.table1 import TABLE
from reproductions.tests.runs import finish, start
from reproductions.text_to_image import held_out_captions

CASCADE = "ConPreDiff_con cascade"
MEASURED = {"LDM", "ConPreDiff_con", "VQ-Diffusion", "Improved VQ-Diffusion", "ConPreDiff_dis", CASCADE}


def options(**changed: object) -> SimpleNamespace:
    given = {
        "profile": "smoke", "data": "shapes", "rows": None, "seeds": "0", "out": None, "dry_run": False,
        "image_column": "image", "caption_column": None, "revision": None, "max_bad": 0, "workers": 0,
        "text_encoder": None, "features": None, "clip": None, "devices": 1, "achieved": 1e14,
    }  # fmt: skip
    return SimpleNamespace(**(given | changed))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed smoke run."""
    out = tmp_path_factory.mktemp("whole")
    finish(start("table1", out))
    return out


def test_the_paper_s_table_1_is_cited_whole() -> None:
    """Oracle: the paper's numbers, counted and picked.

    Checks: ConPreDiff Table 1
    """
    paper = {row.approach: row.paper for row in TABLE.rows}
    assert len(paper) == 22
    assert paper["ConPreDiff_con"] == {"zero-shot FID-30K": 6.21}
    assert paper["LAFITE"] == {"FID-30K": 8.12}
    assert {row.approach for row in TABLE.measured} == MEASURED


@pytest.mark.slow
def test_it_writes_the_table_as_promised(whole: Path) -> None:
    """All rows, ours where they were run."""
    table = json.loads((whole / "table1.json").read_text())
    assert set(table) >= {"table", "profile", "comparable", "data", "rows", "environment", "manifest"}
    assert (table["table"], table["profile"], table["comparable"], table["data"]) == (
        "table1",
        "smoke",
        False,
        "shapes",
    )
    assert {row["approach"]: row["paper"] for row in table["rows"]} == {row.approach: row.paper for row in TABLE.rows}
    measured = {row["approach"]: row["measured"] for row in table["rows"] if row["measured"]}
    assert set(measured) == MEASURED
    for scores in measured.values():
        assert {"FID[shapes]", "caption accuracy"} <= set(scores)
        assert not any(name.startswith("FID") and "[" not in name for name in scores)
        assert scores["FID[shapes]"]["n_fake"] == 16
    for name in ("table1.md", "table1.html", "manifest.json", "samples/comparison.png"):
        assert (whole / name).stat().st_size > 0
    assert re.search("not comparable with the paper", (whole / "table1.html").read_text(), re.IGNORECASE)


@pytest.mark.slow
def test_the_context_head_is_in_no_file_that_samples(whole: Path) -> None:
    base, equipped = (load_file(denoiser(whole, name)) for name in ("VQ-Diffusion", "ConPreDiff_dis"))
    assert {k: v.shape for k, v in base.items()} == {k: v.shape for k, v in equipped.items()}
    assert (denoiser(whole, "ConPreDiff_dis").parents[1] / "context.safetensors").exists()
    assert not (denoiser(whole, "VQ-Diffusion").parents[1] / "context.safetensors").exists()


def denoiser(out: Path, approach: str) -> Path:
    (folder,) = (out / "stages").glob(f"{approach}-seed-0-train-*")
    return folder / "denoiser" / "model.safetensors"


@pytest.fixture
def heard_interrupts() -> Iterator[None]:
    """Where the tests run in the background, a shell has them and their children ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard_interrupts")
def test_control_c_says_how_to_go_on(tmp_path: Path) -> None:
    process = start("table1", tmp_path)
    assert process.stdout is not None
    for line in process.stdout:
        if "done  data" in line:
            break
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 130
    assert "give the same command again" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"profile": "cpuu"}, "no profile 'cpuu'.*did you mean 'cpu'"),
        ({"data": "shapez"}, "shapes"),
        ({"rows": "LDM,VQ-Difusion"}, "'VQ-Difusion'.*VQ-Diffusion"),
        ({"rows": "Imagen"}, "'Imagen' .cited, cannot be run"),
        ({"seeds": "0,0"}, "different whole numbers"),
        ({"seeds": "a"}, "different whole numbers"),
        ({"out": Path("/proc/nowhere")}, "nothing can be written to /proc/nowhere"),
    ],
)
def test_mistakes_are_named(changed: dict[str, object], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce(TABLE, options(**changed)) == 2
    assert re.search(said, capsys.readouterr().err, re.DOTALL)


def test_an_empty_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce(TABLE, options(data=str(tmp_path))) == 2
    assert str(tmp_path) in capsys.readouterr().err


@pytest.mark.parametrize("name", list(PROFILES))
def test_every_profile_can_be_planned(name: str) -> None:
    profile = profile_named(name)
    rows = rows_of(TABLE, profile, None)
    planned = plan(rows, profile, DataSettings(resolution=profile.resolution, train_size=8, held_out_size=8), (0, 1))
    said = describe(upstream(planned.goals), Path("nowhere"))
    assert "ConPreDiff_con seed 1 train" in said
    captions = 3 if name == "paper" else 1
    cascade = 1 + 2 * 7 if profile.cascade else 0
    assert said.count("to do") == 8 + captions + 8 * 4 + 2 * 3 + cascade


def test_the_frozen_encoder_of_the_paper_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce(TABLE, options(profile="paper")) == 2
    assert "--text-encoder: the profile paper reads captions by a frozen encoder" in capsys.readouterr().err


def test_a_dry_run_says_what_the_table_costs(capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce(TABLE, options(dry_run=True, devices=4)) == 0
    said = capsys.readouterr().out
    assert "memory a device" in said
    assert "on 4 (--devices)" in said
    assert reproduce(TABLE, options(dry_run=True, devices=0)) == 2
    assert "--devices must be at least 1" in capsys.readouterr().err


def test_without_bf16_everything_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "has_bf16", lambda: False)
    plain = profiles.on_this_machine(PROFILES["cpu"])
    assert {plain.vq.training.precision, plain.discrete.training.precision, plain.continuous.training.precision} == {
        "no"
    }
    monkeypatch.setattr(profiles, "has_bf16", lambda: True)
    assert profiles.on_this_machine(PROFILES["cpu"]) == PROFILES["cpu"]


def test_rows_share_autoencoders() -> None:
    planned = plan(TABLE.measured, PROFILES["smoke"], DataSettings(train_size=8, held_out_size=8), (0, 1))
    trained = {
        run.trainings[0].inputs["clean"].inputs["autoencoder"].digest
        for name, runs in planned.runs.items()
        for run in runs.values()
        if name != CASCADE
    }
    assert trained == {stage.digest for stage in planned.autoencoders.values()}
    assert len(trained) == 2


def test_improved_vq_diffusion_is_vq_diffusion_s_training_drawn_otherwise() -> None:
    planned = plan(TABLE.measured, PROFILES["smoke"], DataSettings(train_size=8, held_out_size=8), (0,))
    plain, improved = (planned.runs[name][0] for name in ("VQ-Diffusion", "Improved VQ-Diffusion"))
    assert plain.trainings[0].digest == improved.trainings[0].digest
    assert plain.trainings[0].name == improved.trainings[0].name == "VQ-Diffusion seed 0 train"
    assert plain.images.inputs["samples"].digest != improved.images.inputs["samples"].digest


def test_the_cascade_is_a_row_where_the_size_has_one() -> None:
    assert {row.approach for row in rows_of(TABLE, PROFILES["paper"], None)} == MEASURED
    assert {row.approach for row in rows_of(TABLE, PROFILES["cpu"], None)} == MEASURED - {CASCADE}
    with pytest.raises(ValueError, match="--rows: the profile cpu has no cascade; these have: smoke, paper"):
        rows_of(TABLE, PROFILES["cpu"], CASCADE)


def test_the_cascade_draws_small_and_enlarges() -> None:
    """Its pictures follow from both trainings; the context loss is in that of small pictures.

    Checks: Imagen cascade
    """
    (run,) = (
        plan(
            rows_of(TABLE, PROFILES["smoke"], CASCADE),
            PROFILES["smoke"],
            DataSettings(train_size=8, held_out_size=8),
            (3,),
        )
        .runs[CASCADE]
        .values()
    )
    small, enlarging = run.trainings
    assert small.settings.context == Context()
    assert enlarging.settings.task == SuperResolution(2, 300)
    assert {small.digest, enlarging.digest} <= {stage.digest for stage in upstream([run.images])}
    assert small.inputs["data"].settings.data.resolution == 16
    assert enlarging.inputs["data"].settings.data.resolution == 32
    assert small.settings.training.denoiser.training.seed == enlarging.settings.denoiser.training.seed == 3


def test_captions_go_round_when_images_are_few() -> None:
    held_out = Split(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), (("a", "b"), ("c",)), None)
    assert held_out_captions(held_out, 1) == ["a"]
    assert held_out_captions(held_out, 7) == ["a", "c", "b", "c", "a", "c", "b"]


def test_seeds_are_read() -> None:
    assert parse_seeds("0,2,1") == (0, 2, 1)
