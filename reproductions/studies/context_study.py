"""`conprediff study context`: does context prediction help? Pairs of trainings that differ in the context loss alone.

Each pair has the same network, first weights, order of data, noise, steps and sampler. That counts the budget in steps;
a further training without the loss has as many more steps as the loss costs in time, so that it is counted in seconds.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from reproductions import ranks
from reproductions.artefacts import upstream
from reproductions.commands.command import carry_out, describe, processes
from reproductions.data import DIGITS
from reproductions.drawn.shapes import SETS
from reproductions.picture_tables import grounds_of, names_of
from reproductions.reproduce import parse_seeds
from reproductions.runner import run
from reproductions.studies import context_study_report
from reproductions.studies.context_pairs import Studied, goals_of
from reproductions.studies.context_study_options import ContextStudyOptions
from reproductions.studies.context_study_sizes import case_of
from reproductions.table_options import TableOptions


def study(options: ContextStudyOptions) -> int:
    """Train, sample and score all pairs, one data set after the other, and write the report; returns the exit code."""
    try:
        everything = [studied(name, options) for name in names_of(options.data)]
        out = options.out or Path("outputs") / f"study-context-{options.profile}"
        if options.dry_run:
            for each in everything:
                goals = [*each.timings.values(), *each.ceiling.values(), *goals_of(each.runs(each.pairs({})))]
                print(f"{describe(upstream(goals), out)}\nand the trainings of equal seconds, once steps are timed\n")
            return 0
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    workers, threads = processes(options.workers)

    def carried() -> None:
        print(f"Does context prediction help? Size {options.profile}, data {options.data}, into {out}", flush=True)
        receipts: dict[str, Any] = {}
        sections = []
        for each in everything:
            needed = [stage for timed in each.timings.values() for stage in timed.inputs.values()]
            receipts |= run(needed, out, workers=workers, threads=threads)
            receipts |= run(list(each.timings.values()), out, workers=min(1, workers), threads=threads)
            pairs = each.pairs({family: each.ratio(family, out / "stages") for family in each.case.families})
            runs = each.runs(pairs)
            receipts |= run([*each.ceiling.values(), *goals_of(runs)], out, workers=workers, threads=threads)
            if ranks.leads():
                sections.append(context_study_report.section(each, pairs, runs, receipts, out / "stages"))
                print(context_study_report.write(out, options.profile, sections, sys.argv[1:]))

    return carry_out(carried, out)


def studied(name: str, options: ContextStudyOptions) -> Studied:
    """What is studied on a data set.

    Raises:
        ValueError or OSError: where the data, the seeds, the size or the feature space cannot be had.
    """
    case = case_of(options.profile, name)
    seeds = tuple(range(case.repeats)) if options.seeds is None else parse_seeds(options.seeds)
    asked = TableOptions(
        data=name,
        features=None if name in (DIGITS, *SETS) else options.features,
        image_column=options.image_column,
        revision=options.revision,
        max_bad=options.max_bad,
    )
    (ground,) = grounds_of(case.sizes, asked).values()
    called = f"{ground.title} "
    data = replace(ground.data, name=called + ground.data.name)
    return Studied(replace(ground, data=data, called=called), replace(case, sizes=ground.sizes), seeds)
