"""Energy: counters that turn over, powers that are added up, notes that survive."""

import json
import time
from pathlib import Path

import pytest

from reproductions.reporting import energy
from reproductions.reporting.energy import Devices, Packages, metered, total


class Steady:
    """Takes two joules whenever it is asked."""

    name = "lamp"

    def joules(self) -> float:
        return 2.0


class Broken(Steady):
    def joules(self) -> float:
        raise OSError("unplugged")


def zone(root: Path, name: str, now: int, most: int = 1_000_000) -> Path:
    folder = root / name
    folder.mkdir(exist_ok=True)
    (folder / "energy_uj").write_text(f"{now}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")
    return folder / "energy_uj"


def test_processors_are_added_up_and_counters_turn_over(tmp_path: Path) -> None:
    """Oracle: by hand; the part of a package (`:0:0`) is counted with it, not again."""
    first, second = zone(tmp_path, "intel-rapl:0", 999_000), zone(tmp_path, "intel-rapl:1", 100)
    zone(tmp_path, "intel-rapl:0:0", 5)
    packages = Packages(tmp_path)
    first.write_text("1999")
    second.write_text("500100")
    assert packages.joules() == pytest.approx((3000 + 500_000) / 1e6)
    assert packages.joules() == 0


def test_a_machine_without_counters_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="no counters"):
        Packages(tmp_path)
    with pytest.raises(OSError, match="no no-such-program"):
        Devices("no-such-program")
    monkeypatch.setattr(energy, "counters", list)
    with metered(tmp_path / "energy.json"):
        pass
    assert total(tmp_path / "energy.json") is None


def test_devices_take_their_power_times_the_time(tmp_path: Path) -> None:
    """Oracle: 40 W by the clock."""
    program = tmp_path / "smi"
    program.write_text("#!/bin/sh\necho 30.0\necho 10.0\n")
    program.chmod(0o755)
    before = time.monotonic()
    devices = Devices(str(program))
    asked = devices.asked
    time.sleep(0.05)
    assert 40 * 0.05 <= devices.joules() <= 40 * (time.monotonic() - before)
    assert devices.asked > asked


def test_runs_of_a_command_add_up(tmp_path: Path) -> None:
    notes = tmp_path / "energy.json"
    for _ in range(2):
        with metered(notes, [Steady()], every=60):
            pass
    found = total(notes)
    assert found is not None
    assert (found.joules, found.runs) == ({"lamp": 4.0}, 2)


def test_a_killed_run_has_noted_what_it_took(tmp_path: Path) -> None:
    notes = tmp_path / "energy.json"
    with metered(notes, [Steady()], every=0.01):
        deadline = time.monotonic() + 30
        while not notes.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert json.loads(notes.read_text())[0]["joules"]["lamp"] >= 2


def test_a_counter_that_fails_stops_no_run(tmp_path: Path) -> None:
    with metered(tmp_path / "energy.json", [Broken()], every=60):
        pass
    assert total(tmp_path / "energy.json") is None
