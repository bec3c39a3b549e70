"""Interleaved timing and the report of it: every candidate sees the same machine, so the ratio is the result.

from timing import interleave, report

times = interleave({"ours": ours, "peer": peer}, repeats=15)
report("posterior", "Posterior of mask and replace", times, baseline="peer", notes="float32, 1024 tokens")
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Row:
    """One candidate: milliseconds, and `ratio`, its median over the baseline's (below 1 is faster)."""

    name: str
    median_ms: float
    quartiles_ms: tuple[float, float]
    ratio: float


def interleave(
    candidates: Mapping[str, Callable[[], object]],
    *,
    repeats: int = 15,
    warmup: int = 2,
    synchronise: Callable[[], object] | None = None,
) -> dict[str, list[float]]:
    """Times the candidates in turn, A B A B ..., and returns the seconds of every call.

    A drift of the machine (heat, neighbours) then meets all candidates alike. The order is reversed in every second
    round, so that none profits from always running after another. `synchronise` is called before each reading of the
    clock; it defaults to `torch.cuda.synchronize` once CUDA is in use.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    wait = synchronise or _wait_for_cuda
    for _ in range(warmup):
        for candidate in candidates.values():
            candidate()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for round_ in range(repeats):
        for name in list(candidates)[:: -1 if round_ % 2 else 1]:
            wait()
            start = time.perf_counter()
            candidates[name]()
            wait()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def report(name: str, title: str, times: Mapping[str, Sequence[float]], *, baseline: str, notes: str = "") -> list[Row]:
    """Prints the Markdown table of `times` (seconds) and writes `benchmarks/results/<name>.json`."""
    rows = summarise(times, baseline=baseline)
    print(f"### {title}\n")
    if notes:
        print(f"{notes}\n")
    print("| candidate | median ms | quartiles ms | ratio |\n|---|---:|---:|---:|")
    for row in rows:
        low, high = row.quartiles_ms
        print(f"| {row.name} | {row.median_ms:.3f} | {low:.3f} to {high:.3f} | {row.ratio:.3f} |")
    print(f"\nRatio: median over the median of {baseline}.\n", flush=True)
    entry = {
        "title": title,
        "notes": notes,
        "command": command(),
        "machine": machine(),
        "baseline": baseline,
        "rows": [asdict(row) for row in rows],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(entry, indent=2) + "\n", encoding="utf-8")
    return rows


def summarise(times: Mapping[str, Sequence[float]], *, baseline: str) -> list[Row]:
    """Medians, quartiles and ratios of `times` (seconds), in the order given."""
    if baseline not in times:
        raise ValueError(f"baseline {baseline!r} was not timed; timed: {', '.join(times)}")
    reference = statistics.median(times[baseline])
    rows = []
    for name, seconds in times.items():
        low, middle, high = _quartiles(seconds)
        rows.append(Row(name, middle * 1e3, (low * 1e3, high * 1e3), middle / reference))
    return rows


def command() -> str:
    """The command line of this run, as somebody else would type it."""
    script = Path(sys.argv[0]).name
    return shlex.join(["python", f"benchmarks/{script}", *sys.argv[1:]])


def machine() -> dict[str, object]:
    """What the times were measured on."""
    described: dict[str, object] = {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if torch.cuda.is_available():
        described["gpu"] = torch.cuda.get_device_name()
    return described


def _quartiles(seconds: Sequence[float]) -> tuple[float, float, float]:
    if len(seconds) == 1:
        return seconds[0], seconds[0], seconds[0]
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return low, middle, high


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _wait_for_cuda() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
