"""One command per table: check, plan, run, report."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from reproductions import feature_spaces, ranks
from reproductions.artefacts import Stage, upstream
from reproductions.choices import chosen
from reproductions.collect import collect
from reproductions.commands.command import carry_out, describe, processes
from reproductions.costs import Machine
from reproductions.data import DataSettings, check
from reproductions.experiment import Backbone, Method, Row, Table
from reproductions.feature_spaces import space_of
from reproductions.frozen_texts import EXAMPLE, whole_clip
from reproductions.pipeline import Foreign, plan
from reproductions.profiles import PROFILES, Profile, on_this_machine
from reproductions.report import Report, write_report
from reproductions.reporting.energy import metered, total
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
    features: str | None
    clip: str | None
    devices: int
    achieved: float


def reproduce(table: Table, options: Options) -> int:
    """Measure a table's rows and write its report; returns the exit code."""
    try:
        profile = on_this_machine(profile_named(options.profile))
        rows = rows_of(table, profile, options.rows)
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
        space = space_of(options.features, profile.name)
        clip = None if options.clip is None else whole_clip(options.clip)
        planned = plan(rows, profile, data, seeds, Foreign(options.text_encoder, space, clip))
        out = options.out or Path("outputs") / f"{table.name}-{profile.name}-{data.name.strip('./').replace('/', '-')}"
        if options.dry_run:
            print(describe(upstream(planned.goals), out, machine))
            return 0
        if space is not None:
            feature_spaces.check(space)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    def report(receipts: Mapping[str, Any]) -> Report:
        return collect(table, profile, data, planned, receipts, out, sys.argv[1:])

    said = f"profile {profile.name}, data {data.name}"
    workers = options.workers if options.workers is not None else profile.workers
    return measure(table, said, planned.goals, out, workers, report)


def measure(
    table: Table,
    said: str,
    goals: Sequence[Stage],
    out: Path,
    workers: int | None,
    report: Callable[[Mapping[str, Any]], Report],
) -> int:
    """Run the stages of a table and write its report; `said` of it is printed first; returns the exit code."""
    workers, threads = processes(workers)

    def carried() -> None:
        print(f"{table.title}: {said}, {workers or 1} at a time, into {out}", flush=True)
        notes = out / "energy.json"
        with metered(notes) if ranks.leads() else nullcontext():
            receipts = run(goals, out, workers=workers, threads=threads)
        if ranks.leads():
            write_report(out, replace(report(receipts), energy=total(notes)))
            print((out / f"{table.name}.md").read_text())
            print(f"Report: {out / table.name}.html")

    return carry_out(carried, out)


def rows_of(table: Table, profile: Profile, names: str | None) -> tuple[Row, ...]:
    """The rows called `names` (None: all) that can be measured at the size of `profile`.

    Raises:
        ValueError: for one that cannot.
    """
    rows = table.select(names)
    cascades = [row for row in rows if isinstance(row.method, Method) and row.method.backbone is Backbone.CASCADE]
    if profile.cascade is not None or not cascades:
        return rows
    if names is not None:
        there = ", ".join(each.name for each in PROFILES.values() if each.cascade is not None)
        raise ValueError(f"--rows: the profile {profile.name} has no cascade; these have: {there}")
    return tuple(row for row in rows if row not in cascades)


def profile_named(name: str) -> Profile:
    """The profile called `name`.

    Raises:
        ValueError: naming the profiles that there are.
    """
    return chosen("--profile", "profile", name, PROFILES)


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
