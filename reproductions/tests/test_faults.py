"""What may befall a run on a real machine, and that none of it changes a table."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from reproductions import training
from reproductions.loop.room import NoRoom
from reproductions.tests.runs import finish, receipts, start, table
from reproductions.tests.test_training import start as begin_training

KILLS = 10
TABLES = ("table1", "table2", "table3", "figure4", "figure5")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> "Undisturbed":
    """Runs that nothing befell, each made once."""
    return Undisturbed(tmp_path_factory.mktemp("undisturbed"))


class Undisturbed:
    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self, name: str) -> Path:
        out = self.root / name
        if not out.exists():
            finish(start(name, out))
        return out


@pytest.mark.slow
def test_two_runs_give_the_same_table(undisturbed: Undisturbed, tmp_path: Path) -> None:
    finish(start("table1", tmp_path))
    assert table(tmp_path, "table1") == table(undisturbed("table1"), "table1")


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_kills_at_random_moments_change_nothing(name: str, undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Ten for each table, of every process or of the first alone; a run that ends between two of them is compared."""
    expected, chance = table(undisturbed(name), name), random.Random(name)
    dealt = 0
    while dealt < KILLS:
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        while dealt < KILLS and killed(name, out, chance):
            dealt += 1
        finish(start(name, out))
        assert table(out, name) == expected


def killed(name: str, out: Path, chance: random.Random) -> bool:
    """Kill a run some time after one of its first messages; whether it was still alive."""
    process = start(name, out)
    assert process.stdout is not None
    wanted = chance.randrange(1, 5)
    for line in process.stdout:
        wanted -= "  done  " in line or " at a time, into " in line
        if not wanted:
            break
    time.sleep(3 * chance.random())
    if process.poll() is None:
        if chance.random() < 0.5:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_a_folder_that_is_moved_and_a_clock_that_is_set_back_do_no_harm(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """Oracle: no stage is made twice, and the table is that of a run left alone."""
    before, after, early = tmp_path / "before", tmp_path / "after", tmp_path / "early"
    process = start("table1", before)
    assert process.stdout is not None
    for line in process.stdout:
        if "encoding" in line:
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before.rename(after)
    for path in after.rglob("*"):
        os.utime(path, (4e9, 4e9))
    kept = receipts(after)
    early.mkdir()
    clock = "import time\n_now = time.time\ntime.time = lambda: _now() - 1e9\n"
    (early / "sitecustomize.py").write_text(clock)
    finish(start("table1", after, PYTHONPATH=str(early)))
    assert len(kept) >= 3
    assert kept.items() <= receipts(after).items()
    assert table(after, "table1") == table(undisturbed("table1"), "table1")


@pytest.mark.slow
def test_a_corrupt_artefact_is_found_by_its_hash_and_made_again(undisturbed: Undisturbed, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(undisturbed("table1"), out)
    (weights,) = out.glob("stages/ConPreDiff_dis-seed-0-train-*/denoiser/model.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    before = receipts(out)
    said = finish(start("table1", out))
    assert "denoiser/model.safetensors is damaged; the stage is run again" in said
    after = receipts(out)
    assert {name for name in before if before[name] != after[name]} == {weights.parents[1].name}
    assert weights.read_bytes()[-1] == content[-1] ^ 1
    assert table(out, "table1") == table(undisturbed("table1"), "table1")


def test_a_second_run_in_the_same_folder_says_so(tmp_path: Path) -> None:
    with FileLock(tmp_path / ".lock"):
        second = start("table1", tmp_path)
        said = second.communicate()[0]
    assert second.returncode == 2
    assert "another run is writing" in said


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file can grow beyond so many bytes: writing fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 400, 1200])
def test_a_checkpoint_for_which_there_is_no_room_leaves_the_one_before(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of its files does not fit. Oracle: a training with room enough, from the same weights."""
    monkeypatch.setattr(training, "SAVE_EVERY_SECONDS", 0.0)
    (tmp_path / "whole").mkdir()
    whole, steps = begin_training(tmp_path / "whole")
    list(steps)
    folder = tmp_path / "full"
    folder.mkdir()
    _, steps = begin_training(folder)
    for index, _ in steps:
        if index == 4:
            break
    (kept,) = folder.glob("checkpoint-*")
    said = r"of step 5 takes [\d.]+ (B|KiB).* free.*step 4 is whole.*give the same command again"
    with files_of_at_most(size), pytest.raises(NoRoom, match=said):
        list(steps)
    assert [path.name for path in folder.glob("checkpoint*")] == [kept.name]
    resumed, steps = begin_training(folder)
    assert [index for index, _ in steps] == list(range(4, 20))
    for name, value in whole.result.state_dict().items():
        assert torch.equal(value, resumed.result.state_dict()[name]), name


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.bin", "position.json"])
def test_a_damaged_checkpoint_is_named(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "SAVE_EVERY_SECONDS", 0.0)
    _, steps = begin_training(tmp_path)
    for index, _ in steps:
        if index == 4:
            break
    (kept,) = tmp_path.glob("checkpoint-*")
    os.truncate(kept / file, 20)
    _, steps = begin_training(tmp_path)
    with pytest.raises(ValueError, match=f"{kept} cannot be read .*remove that folder"):
        next(iter(steps))


SMALL_DISK = """
mount -t tmpfs -o size=$2k tmpfs "$1" || exit 77
"$3" -m reproductions table1 --profile smoke --out "$1/run" && exit 78
mount -o remount,size=200m "$1"
"$3" -m reproductions table1 --profile smoke --out "$1/run" && cp "$1/run/table1.json" "$4"
"""


@pytest.mark.slow
@pytest.mark.parametrize("kib", [600, 2000, 6000])
def test_a_full_disk_is_named_and_once_there_is_room_the_run_goes_on(
    kib: int, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """A disk of its own, too small at first."""
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    kept.mkdir()
    line = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", SMALL_DISK, "sh"]
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare (util-linux), which makes a small disk")
    done = subprocess.run(
        [*line, str(disk), str(kib), sys.executable, str(kept)], capture_output=True, text=True, check=False
    )
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(f"this machine lets nobody mount a small disk: {done.stderr.strip()}")
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "no room" in said
    assert "Traceback" not in said
    assert table(kept, "table1") == table(undisturbed("table1"), "table1")


RANK = """
from reproductions import training

training.SAVE_EVERY_SECONDS = 0.3
if __name__ == "__main__":
    from reproductions.__main__ import main

    main()
"""


@pytest.mark.slow
def test_a_rank_that_is_killed_is_started_again_and_the_run_ends_equal(tmp_path: Path) -> None:
    """Either of two, once there is a checkpoint. Oracle: two ranks that nobody killed."""
    (tmp_path / "rank.py").write_text(RANK)
    weights = {}
    for victim in (None, 1, 0):
        out = tmp_path / f"killed-{victim}"
        agent = two_ranks(tmp_path / "rank.py", out)
        if victim is not None:
            wait_for_checkpoint(agent, out)
            os.kill(rank(agent, victim), signal.SIGKILL)
        finish(agent)
        (trained,) = out.glob("stages/*-train-*/autoencoder/model.safetensors")
        weights[victim] = load_file(trained)
    for victim in (1, 0):
        for name, value in weights[None].items():
            assert torch.equal(weights[victim][name], value), (victim, name)


def two_ranks(script: Path, out: Path) -> subprocess.Popen[str]:
    agent = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=2"]
    agent += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
    size = ["--samples", "800", "--batch", "8", "--train-size", "32", "--held-out", "8", "--workers", "0"]
    what = ["train", "autoencoder", "--data", "shapes", "--preset", "vq-f4-32", *size, "--out", str(out)]
    return subprocess.Popen(
        [*agent, str(script), *what],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def wait_for_checkpoint(agent: subprocess.Popen[str], out: Path) -> None:
    while agent.poll() is None and not list(out.glob("stages/*.partial/checkpoint-*")):
        time.sleep(0.05)


def rank(agent: subprocess.Popen[str], number: int) -> int:
    """The process of a rank."""
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children")
    if not children.exists():
        pytest.skip("needs /proc to find the ranks")
    for pid in children.read_text().split():
        if f"RANK={number}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            return int(pid)
    raise AssertionError(f"no rank {number} among the children of torchrun")
