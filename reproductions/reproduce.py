"""One command per table: check, plan, run, report."""

import difflib
import os
import signal
import sys
from pathlib import Path
from typing import Protocol

import torch
from filelock import FileLock, Timeout

from reproductions.artefacts import Stage, upstream
from reproductions.collect import collect
from reproductions.data import DataSettings, check
from reproductions.experiment import Table
from reproductions.pipeline import Plan, plan
from reproductions.profiles import PROFILES, Profile, on_this_machine
from reproductions.report import write_report
from reproductions.runner import StageFailed, run
from reproductions.training import resumed


class Options(Protocol):
    """What the command line gives."""

    profile: str
    data: str
    rows: str | None
    seeds: str
    out: Path | None
    dry_run: bool
    image_column: str
    caption_column: str | None
    revision: str | None
    max_bad: int
    workers: int | None


def reproduce(table: Table, options: Options) -> int:
    """Measure a table's rows and write its report; returns the exit code."""
    try:
        profile = on_this_machine(profile_named(options.profile))
        rows = table.select(options.rows)
        seeds = parse_seeds(options.seeds)
        data = DataSettings(
            name=options.data,
            resolution=profile.resolution,
            train_size=profile.train_size,
            held_out_size=profile.held_out_size,
            image_column=options.image_column,
            caption_column=options.caption_column,
            max_bad=options.max_bad,
            revision=options.revision,
        )
        check(data)
        planned = plan(rows, profile, data, seeds)
        out = options.out or Path("outputs") / f"{table.name}-{profile.name}-{data.name.strip('./').replace('/', '-')}"
        if options.dry_run:
            print(describe(planned, out))
            return 0
        require_writable(out)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return _run(table, profile, data, planned, out, options)


def _run(table: Table, profile: Profile, data: DataSettings, planned: Plan, out: Path, options: Options) -> int:
    again = f"to go on, give the same command again (what is finished stays in {out})"
    workers, threads = processes(options.workers if options.workers is not None else profile.workers)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with FileLock(out / ".lock", timeout=0):
            print(
                f"{table.title}: profile {profile.name}, data {data.name}, {workers or 1} at a time, into {out}",
                flush=True,
            )
            receipts = run(planned.goals, out, workers=workers, threads=threads)
            report = collect(table, profile, data, planned, receipts, out, sys.argv[1:])
            write_report(out, report)
    except Timeout:
        print(f"error: another run is writing to {out}; wait for it, or choose another --out", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\ninterrupted; {again}", file=sys.stderr)
        return 130
    except StageFailed as error:
        print(f"error: {error}\n{again}", file=sys.stderr)
        return 1
    print((out / f"{table.name}.md").read_text())
    print(f"Report: {out / table.name}.html")
    return 0


def profile_named(name: str) -> Profile:
    """The profile called `name`.

    Raises:
        ValueError: naming the profiles that there are.
    """
    if name not in PROFILES:
        near = difflib.get_close_matches(name, PROFILES, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"--profile: there is no profile {name!r}; choose from {', '.join(PROFILES)}{hint}")
    return PROFILES[name]


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds from "0,1,2".

    Raises:
        ValueError: for what is not a list of different whole numbers from 0 on.
    """
    try:
        seeds = tuple(int(word) for word in text.split(","))
    except ValueError:
        seeds = ()
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ValueError(f"--seeds: {text!r} is not a list of different whole numbers from 0 on, such as 0,1,2")
    return seeds


def require_writable(out: Path) -> None:
    """Make `out`.

    Raises:
        OSError: when nothing can be written there.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise OSError(f"--out: nothing can be written to {out} ({error.strerror}); choose another folder") from error


def processes(asked: int | None) -> tuple[int, int]:
    """Processes at a time, and threads of each."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = asked if asked is not None else 1 if torch.cuda.is_available() else cores
    return workers, max(1, cores // max(1, workers))


def describe(planned: Plan, out: Path) -> str:
    """The plan as text: each stage, its size, and what is already there."""
    stages = upstream(planned.goals)
    width = max(len(stage.name) for stage in stages)
    lines = [f"{'stage':{width}}  {'parameters':>12}  {'steps':>8}  state", "-" * (width + 34)]
    for stage in stages:
        size = stage.size() if stage.size is not None else {}
        numbers = "  ".join(f"{size[key]:{n},}" if key in size else " " * n for key, n in SIZES)
        lines.append(f"{stage.name:{width}}  {numbers}  {state(stage, out / 'stages')}")
    return "\n".join([*lines, f"{len(stages)} stages, into {out}"])


SIZES = (("parameters", 12), ("steps", 8))


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
