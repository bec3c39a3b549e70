"""The energy that a machine takes while a command runs, where its counters can be read.

Processors count it under /sys/class/powercap (RAPL, which as a rule only root may read); of NVIDIA's devices
`nvidia-smi` tells the power, which is added up. Both count everything that runs on the machine.
"""

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from reproductions.artefacts import write_json

POWERCAP = Path("/sys/class/powercap")
SECONDS = 5.0


@dataclass(frozen=True)
class Energy:
    """Joules by what took them, over so many seconds of so many runs of a command."""

    joules: Mapping[str, float]
    seconds: float
    runs: int


class Counter(Protocol):
    """Something that takes energy."""

    @property
    def name(self) -> str:
        """What it is."""

    def joules(self) -> float:
        """What it took since it was last asked, or was made."""


class Packages:
    """The processors: counters in microjoules that begin again at a maximum."""

    name = "processors"

    def __init__(self, root: Path = POWERCAP) -> None:
        self.zones = [zone for zone in sorted(root.glob("intel-rapl:*")) if zone.name.count(":") == 1]
        if not self.zones:
            raise OSError(f"no counters under {root}")
        self.most = [int((zone / "max_energy_range_uj").read_text()) for zone in self.zones]
        self.last = self._read()

    def joules(self) -> float:
        now = self._read()
        took = [(after - before) % (most + 1) for after, before, most in zip(now, self.last, self.most, strict=True)]
        self.last = now
        return sum(took) / 1e6

    def _read(self) -> list[int]:
        return [int((zone / "energy_uj").read_text()) for zone in self.zones]


class Devices:
    """NVIDIA's devices: power in watts, taken to hold since it was last asked."""

    name = "GPUs"

    def __init__(self, program: str = "nvidia-smi") -> None:
        found = shutil.which(program)
        if found is None:
            raise OSError(f"there is no {program}")
        self.command = [found, "--query-gpu=power.draw", "--format=csv,noheader,nounits"]
        self._watts()
        self.asked = time.monotonic()

    def joules(self) -> float:
        watts, now = self._watts(), time.monotonic()
        before, self.asked = self.asked, now
        return watts * (now - before)

    def _watts(self) -> float:
        said = subprocess.run(self.command, capture_output=True, text=True, timeout=10, check=True).stdout
        return sum(float(line) for line in said.split())


def counters() -> list[Counter]:
    """Those of this machine that can be read."""
    found: list[Counter] = []
    for kind in (Packages, Devices):
        try:
            found.append(kind())
        except (OSError, ValueError, subprocess.SubprocessError):
            continue
    return found


@contextmanager
def metered(notes: Path, read: Sequence[Counter] | None = None, every: float = SECONDS) -> Iterator[None]:
    """Add up in `notes`, a JSON file, what the counters count meanwhile; without counters nothing is written.

    A run that is killed has noted all but its last seconds.
    """
    counted = counters() if read is None else read
    if not counted:
        yield
        return
    earlier, started, ended = _noted(notes), time.monotonic(), threading.Event()
    taken = {counter.name: 0.0 for counter in counted}

    def note() -> None:
        try:
            for counter in counted:
                taken[counter.name] += counter.joules()
            write_json(notes, [*earlier, {"seconds": time.monotonic() - started, "joules": taken}])
        except (OSError, ValueError, subprocess.SubprocessError):
            ended.set()

    def watch() -> None:
        while not ended.wait(every):
            note()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        failed = ended.is_set()
        ended.set()
        watcher.join()
        if not failed:
            note()


def total(notes: Path) -> Energy | None:
    """What all runs of a command took together (None: no counter could be read)."""
    runs = _noted(notes)
    names = dict.fromkeys(name for run in runs for name in run["joules"])
    joules = {name: sum(run["joules"].get(name, 0.0) for run in runs) for name in names}
    return Energy(joules, sum(run["seconds"] for run in runs), len(runs)) if runs else None


def _noted(notes: Path) -> list[dict[str, Any]]:
    try:
        return list(json.loads(notes.read_text()))
    except (OSError, ValueError):
        return []
