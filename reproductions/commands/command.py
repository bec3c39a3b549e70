"""What every long command does around its work: keep its folder to itself, say what went wrong and how to go on."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from reproductions import costs, ranks
from reproductions.artefacts import Stage
from reproductions.costs import Machine
from reproductions.loop.checkpoints import resumed
from reproductions.loop.sharding import check_averaging
from reproductions.runner import StageFailed

SIZES = (("parameters", 12), ("steps", 8))


def carry_out(work: Callable[[], None], out: Path) -> int:
    """Do `work`, which alone may write to `out`, on all ranks; returns the exit code.

    0: done; 1: a stage failed; 2: a mistake in what was asked for, or another run is writing to `out`; 130: Ctrl-C.
    """
    again = f"to go on, give the same command again (what is finished stays in {out})"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        ranks.check_ways()
        if ranks.parted():
            check_averaging(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        require_writable(out)
        with FileLock(out / ".lock", timeout=0) if ranks.leads() else nullcontext():
            work()
    except Timeout:
        print(f"error: another run is writing to {out}; wait for it, or choose another --out", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\ninterrupted; {again}", file=sys.stderr)
        return 130
    except StageFailed as error:
        print(f"error: {error}\n{again}", file=sys.stderr)
        return 1
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def require_writable(out: Path) -> None:
    """Make `out`.

    Raises:
        OSError: when nothing can be written there.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.write_bytes(b"")
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(f"--out: nothing can be written to {out} ({error.strerror}); choose another folder") from error


def processes(asked: int | None) -> tuple[int, int]:
    """Processes at a time, and threads of each."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = asked if asked is not None else 1 if torch.cuda.is_available() else cores
    return workers, max(1, cores // max(1, workers))


def describe(stages: Sequence[Stage], out: Path, machine: Machine | None = None) -> str:
    """The plan as text: each stage, its size, what is already there, and what it costs on a machine."""
    width = max(len(stage.name) for stage in stages)
    lines = [f"{'stage':{width}}  {'parameters':>12}  {'steps':>8}  state", "-" * (width + 34)]
    for stage in stages:
        size = stage.size() if stage.size is not None else {}
        numbers = "  ".join(f"{size[key]:{n},}" if key in size else " " * n for key, n in SIZES)
        lines.append(f"{stage.name:{width}}  {numbers}  {state(stage, out / 'stages')}")
    lines.append(f"{len(stages)} stages, into {out}")
    counted = {} if machine is None else {stage.name: stage.cost() for stage in stages if stage.cost is not None}
    if machine is not None and counted:
        lines += ["", *costs.lines(counted, machine)]
    return "\n".join(lines)


def state(stage: Stage, root: Path) -> str:
    """Whether a stage is finished, begun or still to do."""
    folder = stage.folder(root)
    if folder.exists():
        return "done"
    partial = folder.with_name(folder.name + ".partial")
    if partial.exists():
        steps = resumed(partial)
        return f"begun, {steps:,} steps kept" if steps else "begun"
    return "to do"
