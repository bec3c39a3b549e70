"""`conprediff study context`: does context prediction help? Pairs of trainings that differ in the context loss alone.

Each pair has the same network, first weights, order of data, noise, steps and sampler. That counts the budget in steps;
a further training without the loss has as many more steps as the loss costs in time, so that it is counted in seconds.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from reproductions import context_study_report, sampled_rows
from reproductions.artefacts import Stage, upstream
from reproductions.collect import read
from reproductions.command import carry_out, describe, processes
from reproductions.context_study_options import ContextStudyOptions
from reproductions.context_study_sizes import Case, case_of
from reproductions.data import DIGITS
from reproductions.experiment import (
    AblatedContext,
    AnyContext,
    Beyond,
    Context,
    DirectContext,
    Fading,
    Family,
    Matching,
    Model,
    Reading,
)
from reproductions.modelling import Ground
from reproductions.picture_tables import Run, grounds_of, names_of
from reproductions.reproduce import parse_seeds
from reproductions.runner import run
from reproductions.shapes import SETS
from reproductions.stages import timing
from reproductions.table_options import TableOptions

DEFAULT = Context()
WITHOUT, STEPS, SECONDS = "without", "equal steps", "equal seconds"
ABLATIONS: Mapping[str, AnyContext] = {
    "stride 1, not 3": Context(stride=1),
    "q 1, not 4": Context(samples=1),
    "q 8, not 4": Context(samples=8),
    "lambda 0.01, not 0.1": Context(weight=0.01),
    "lambda 1, not 0.1": Context(weight=1.0),
    "lambda_t linear, not the signal": AblatedContext(fading=Fading.LINEAR),
    "lambda_t constant, not the signal": AblatedContext(fading=Fading.CONSTANT),
    "distance: energy": AblatedContext(distance=Matching.ENERGY),
    "distance: chamfer": AblatedContext(distance=Matching.CHAMFER),
    "neighbours predicted one by one": DirectContext(),
    "head reads the estimate": AblatedContext(reads=Reading.ESTIMATE),
    "border: the opposite edge": AblatedContext(beyond=Beyond.OPPOSITE),
}


@dataclass(frozen=True)
class Pair:
    """Two models of one family, of which the second has no context loss, and what the first is called."""

    name: str
    ours: Model
    theirs: Model


@dataclass(frozen=True)
class Studied:
    """One data set of the study: what its models stand on, how much of everything, and under which seeds."""

    ground: Ground
    case: Case
    seeds: tuple[int, ...]

    @property
    def contexts(self) -> Mapping[str, AnyContext]:
        """The context losses that are compared with none."""
        return {STEPS: DEFAULT, **(ABLATIONS if self.case.ablated else {})}

    @cached_property
    def timings(self) -> Mapping[Family, Stage]:
        """What a step of each training costs, all in turn."""
        found = {}
        for family in self.case.families:
            base = self.ground.trained(Model(family), self.seeds[0])
            settings = timing.Timing(base.training, {WITHOUT: None, **self.contexts}, self.case.sizes.timed)
            inputs = {name: stage for name, stage in base.inputs.items() if name != "model"}
            found[family] = Stage(f"{self.ground.called}{family} timing", timing.measure, settings, inputs)
        return found

    def took(self, family: Family, root: Path) -> Mapping[str, Mapping[str, float]]:
        """What was timed of the trainings of a family."""
        found: Mapping[str, Mapping[str, float]] = read(self.timings[family], root, "timing.json")
        return found

    def ratio(self, family: Family, root: Path) -> float:
        """Time of a step with the context loss over that of a step without it, medians of steps taken in turn."""
        took = self.took(family, root)
        return took[STEPS]["milliseconds"] / took[WITHOUT]["milliseconds"]

    def longer(self, family: Family, ratio: float) -> Model:
        """The model without the context loss, trained for as many more whole steps as that loss costs in time."""
        recipe = self.ground.trained(Model(family), self.seeds[0]).training.denoiser.training
        steps = round(recipe.steps * ratio)
        return Model(family, samples=steps * recipe.batch if steps > recipe.steps else None)

    def pairs(self, ratios: Mapping[Family, float]) -> Mapping[Family, list[Pair]]:
        """What is compared, of each family; at equal seconds only where the ratio of times is known."""
        found: dict[Family, list[Pair]] = {}
        for family in self.case.families:
            equipped = {name: Model(family, context) for name, context in self.contexts.items()}
            found[family] = [Pair(name, model, Model(family)) for name, model in equipped.items()]
            if family in ratios:
                found[family].insert(1, Pair(SECONDS, equipped[STEPS], self.longer(family, ratios[family])))
        return found

    def runs(self, pairs: Mapping[Family, Sequence[Pair]]) -> Mapping[Model, Mapping[int, Run]]:
        """Every model of the pairs, trained, sampled and scored under every seed."""
        models = dict.fromkeys(model for each in pairs.values() for pair in each for model in (pair.theirs, pair.ours))
        return {model: {seed: sampled_rows.run_of(self.ground, model, seed) for seed in self.seeds} for model in models}

    @property
    def ceiling(self) -> Mapping[str, Stage]:
        """Scores of what is no model."""
        return sampled_rows.ceiling_of(self.ground, set(self.case.families))


def goals_of(runs: Mapping[Model, Mapping[int, Run]]) -> list[Stage]:
    """The scores, seed by seed, so that what is interrupted has whole pairs."""
    seeds = next(iter(runs.values()))
    return [by_seed[seed].scores for seed in seeds for by_seed in runs.values()]


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
            receipts |= run(list(each.timings.values()), out, workers=min(1, workers), threads=threads)
            pairs = each.pairs({family: each.ratio(family, out / "stages") for family in each.case.families})
            runs = each.runs(pairs)
            receipts |= run([*each.ceiling.values(), *goals_of(runs)], out, workers=workers, threads=threads)
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
