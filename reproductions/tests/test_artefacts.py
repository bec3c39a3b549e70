"""Artefacts: named by what they read, finished or not, damaged or whole."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from reproductions.artefacts import Desk, Stage, receipt, upstream
from reproductions.runner import StageFailed, run


@dataclass(frozen=True)
class Number:
    value: int


def write(desk: Desk) -> None:
    (desk.folder / "value.txt").write_text(str(desk.settings.value))


def add(desk: Desk) -> None:
    values = [int((folder / "value.txt").read_text()) for folder in desk.inputs.values()]
    for _ in desk.track(range(2)):
        pass
    (desk.folder / "value.txt").write_text(str(sum(values)))


def fail(desk: Desk) -> None:
    raise ValueError("the column 'text' is missing")


def stumble(desk: Desk) -> None:
    kept = desk.folder / "checkpoint-000000004"
    trained = kept.exists()
    kept.mkdir(exist_ok=True)
    if not trained:
        raise ValueError("killed while what was trained is written")
    write(desk)


TWO, THREE = Stage("two", write, Number(2)), Stage("three", write, Number(3))
SUM = Stage("sum", add, None, {"a": TWO, "b": THREE})


@pytest.mark.parametrize("workers", [0, 2])
def test_a_graph_runs_once_and_is_reused(tmp_path: Path, workers: int) -> None:
    first = run([SUM], tmp_path, workers=workers, threads=1)
    assert (SUM.folder(tmp_path / "stages") / "value.txt").read_text() == "5"
    assert [first[stage.digest]["reused"] for stage in (TWO, THREE, SUM)] == [False] * 3
    second = run([SUM], tmp_path, workers=workers, threads=1)
    assert all(noted["reused"] for noted in second.values())
    assert second[SUM.digest]["cost"] == first[SUM.digest]["cost"]


def test_the_digest_follows_settings_inputs_and_version() -> None:
    digests = {
        SUM.digest,
        replace(SUM, inputs={"a": TWO}).digest,
        replace(SUM, version=2).digest,
        replace(SUM, settings=Number(1)).digest,
        replace(SUM, inputs={"a": THREE, "b": TWO}).digest,
    }
    assert len(digests) == 5
    assert replace(SUM, name="total").digest == SUM.digest


def test_a_damaged_artefact_is_found_and_remade(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run([SUM], tmp_path, workers=0, threads=1)
    (TWO.folder(tmp_path / "stages") / "value.txt").write_text("4")
    run([SUM], tmp_path, workers=0, threads=1)
    assert "value.txt is damaged" in capsys.readouterr().out
    assert (TWO.folder(tmp_path / "stages") / "value.txt").read_text() == "2"


def test_a_half_written_artefact_is_not_a_finished_one(tmp_path: Path) -> None:
    partial = TWO.folder(tmp_path / "stages").with_name(TWO.folder(tmp_path / "stages").name + ".partial")
    partial.mkdir(parents=True)
    (partial / "value.txt").write_text("half")
    assert receipt(TWO, tmp_path / "stages") is None
    run([TWO], tmp_path, workers=0, threads=1)
    assert (TWO.folder(tmp_path / "stages") / "value.txt").read_text() == "2"


def test_a_failing_stage_says_which_and_why(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="broken: the column 'text' is missing"):
        run([Stage("broken", fail, None)], tmp_path, workers=1, threads=1)
    assert not Stage("broken", fail, None).folder(tmp_path / "stages").exists()


def test_upstream_names_inputs_first_and_once() -> None:
    assert [stage.name for stage in upstream([SUM, TWO])] == ["two", "three", "sum"]


def test_checkpoints_stay_until_what_was_trained_is_written(tmp_path: Path) -> None:
    trained = Stage("trained", stumble, Number(1))
    with pytest.raises(StageFailed, match="killed while"):
        run([trained], tmp_path, workers=0, threads=1)
    run([trained], tmp_path, workers=0, threads=1)
    files = {path.name for path in trained.folder(tmp_path / "stages").iterdir()}
    assert files == {"value.txt", "stage.json"}
