"""One command per table: check, plan, run, report."""

import difflib
import sys
from pathlib import Path
from typing import Protocol

from reproductions.artefacts import upstream
from reproductions.collect import collect
from reproductions.command import carry_out, describe, processes
from reproductions.costs import Machine
from reproductions.data import DataSettings, check
from reproductions.experiment import Table
from reproductions.frozen_texts import EXAMPLE
from reproductions.pipeline import Plan, plan
from reproductions.profiles import PROFILES, Profile, on_this_machine
from reproductions.report import write_report
from reproductions.runner import run
from reproductions.settings import TextEncoder


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
    text_encoder: str | None
    devices: int
    achieved: float


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
        machine = Machine(options.devices, options.achieved)
        machine.check()
        frozen = TextEncoder.FROZEN in (profile.discrete.captions.encoder, profile.continuous.captions.encoder)
        if frozen and options.text_encoder is None and not options.dry_run:
            raise ValueError(
                f"--text-encoder: the profile {profile.name} reads captions by a frozen encoder; give the folder or "
                f"the hub id of CLIP's, such as {EXAMPLE}"
            )
        planned = plan(rows, profile, data, seeds, options.text_encoder)
        out = options.out or Path("outputs") / f"{table.name}-{profile.name}-{data.name.strip('./').replace('/', '-')}"
        if options.dry_run:
            print(describe(upstream(planned.goals), out, machine))
            return 0
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return _run(table, profile, data, planned, out, options)


def _run(table: Table, profile: Profile, data: DataSettings, planned: Plan, out: Path, options: Options) -> int:
    workers, threads = processes(options.workers if options.workers is not None else profile.workers)

    def measure() -> None:
        print(
            f"{table.title}: profile {profile.name}, data {data.name}, {workers or 1} at a time, into {out}",
            flush=True,
        )
        receipts = run(planned.goals, out, workers=workers, threads=threads)
        write_report(out, collect(table, profile, data, planned, receipts, out, sys.argv[1:]))
        print((out / f"{table.name}.md").read_text())
        print(f"Report: {out / table.name}.html")

    return carry_out(measure, out)


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
