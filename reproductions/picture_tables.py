"""One command for each table of models trained on pictures: check, plan, run, report."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from reproductions.artefacts import Stage, upstream
from reproductions.choices import chosen
from reproductions.commands.command import describe
from reproductions.conditioning import Conditioning, Kind, Reading, check_readable, class_names
from reproductions.costs import Machine
from reproductions.data import DataSettings, fingerprint
from reproductions.drawn.shapes import SETS
from reproductions.experiment import Row, Table
from reproductions.feature_spaces import check, space_of
from reproductions.modelling import Ground, title_of
from reproductions.pipeline import judge_of
from reproductions.report import Report
from reproductions.reproduce import measure, parse_seeds
from reproductions.stages import conditions, scoring
from reproductions.table_options import TableOptions
from reproductions.table_profiles import SIZES, Sizes, sizes_on, sizes_on_this_machine


@dataclass(frozen=True)
class Run:
    """One row under one seed: its trainings, its pictures (None: not shown), and what wrote its `scores.json`."""

    trainings: tuple[Stage, ...]
    images: Stage | None
    scores: Stage


@dataclass(frozen=True)
class Planned:
    """All stages of a table.

    rows: all of its rows, as they are reported; runs: of those that are measured, by approach and seed; ceiling: scores
    of what is no model; extras: other stages that the report reads.
    """

    grounds: Mapping[str, Ground]
    rows: Sequence[Row]
    runs: Mapping[str, Mapping[int, Run]]
    ceiling: Mapping[str, Stage]
    extras: Mapping[str, Stage] = field(default_factory=dict)

    @property
    def goals(self) -> list[Stage]:
        """The stages that nothing reads."""
        scores = [each.scores for runs in self.runs.values() for each in runs.values()]
        return [*self.ceiling.values(), *scores, *self.extras.values()]


class Planner(Protocol):
    """Plans the rows of a table on its data sets, for each seed."""

    def __call__(self, rows: Sequence[Row], grounds: Mapping[str, Ground], seeds: Sequence[int]) -> Planned: ...


class Reporter(Protocol):
    """Says what a finished table found."""

    def __call__(
        self,
        table: Table,
        sizes: Sizes,
        planned: Planned,
        receipts: Mapping[str, Any],
        out: Path,
        command: Sequence[str],
    ) -> Report: ...


def reproduce(
    table: Table,
    options: TableOptions,
    plan: Planner,
    report: Reporter,
    *,
    repeats: int,
) -> int:
    """Measure a table's rows and write its report; returns the exit code.

    repeats: how many seeds there are at the sizes that have more than one, unless the options name them.
    """
    try:
        sizes = sizes_named(options.profile)
        rows = table.select(options.rows)
        seeds = tuple(range(repeats if sizes.repeated else 1)) if options.seeds is None else parse_seeds(options.seeds)
        machine = Machine(options.devices, options.achieved)
        machine.check()
        grounds = grounds_of(sizes, options)
        planned = plan(rows, grounds, seeds)
        slug = "-".join(name.strip("./").replace("/", "-") for name in names_of(options.data))
        out = options.out or Path("outputs") / f"{table.name}-{sizes.name}-{slug}"
        if options.dry_run:
            print(describe(upstream(planned.goals), out, machine))
            return 0
        for ground in grounds.values():
            check(ground.space)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    def write(receipts: Mapping[str, Any]) -> Report:
        return report(table, sizes, planned, receipts, out, sys.argv[1:])

    said = f"profile {sizes.name}, data {options.data}"
    workers = options.workers if options.workers is not None else sizes.profile.workers
    return measure(table, said, planned.goals, out, workers, write)


def sizes_named(name: str) -> Sizes:
    """The sizes of the profile called `name`.

    Raises:
        ValueError: naming the profiles that there are.
    """
    return chosen("--profile", "profile", name, SIZES)


def names_of(data: str) -> list[str]:
    """The data sets of "A,B".

    Raises:
        ValueError: for none, or where two would be called the same.
    """
    names = [name.strip() for name in data.split(",") if name.strip()]
    titles = [title_of(name) for name in names]
    if not names or len(set(titles)) < len(titles):
        raise ValueError(f"--data: {data!r} is not a list of data sets with different names, such as shapes,digits")
    return names


def grounds_of(sizes: Sizes, options: TableOptions) -> dict[str, Ground]:
    """What the models of each data set stand on, by its title.

    Raises:
        ValueError or OSError: where a data set cannot be read, or there is no such feature space.
    """
    names = names_of(options.data)
    found = {}
    for name in names:
        data = DataSettings(
            name=name,
            resolution=sizes.profile.resolution,
            train_size=sizes.profile.train_size,
            held_out_size=sizes.profile.held_out_size,
            image_column=options.image_column,
            max_bad=options.max_bad,
            revision=options.revision,
        )
        title = title_of(name)
        own = sizes_on_this_machine(sizes_on(sizes, title))
        found[title] = _ground(own, data, options, f"{title} " if len(names) > 1 else "")
    return found


def _ground(sizes: Sizes, data: DataSettings, options: TableOptions, called: str) -> Ground:
    kind = Kind(options.condition)
    check_readable(data, kind)
    classes = class_names(data, options.label_column) if kind is Kind.CLASS else ()
    judged = data.name in SETS and options.features is None
    space = space_of(options.features, sizes.name)
    return Ground(
        data,
        sizes,
        Conditioning(kind, classes),
        Stage(f"{called}pictures", conditions.read, Reading(data, fingerprint(data), kind, options.label_column)),
        judge_of(sizes.profile, data) if judged else None,
        scoring.Space(drawings=data.name) if judged else space or scoring.Space(),
        called,
    )
