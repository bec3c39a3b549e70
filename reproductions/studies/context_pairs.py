"""What the study of the context loss compares: pairs of models, and the stages that train, sample and score them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from reproductions import sampled_rows
from reproductions.artefacts import Stage
from reproductions.collect import read
from reproductions.experiment import (
    AblatedContext,
    AnyContext,
    Beyond,
    Context,
    Fading,
    Family,
    Matching,
    Model,
    Reading,
)
from reproductions.modelling import Ground
from reproductions.picture_tables import Run
from reproductions.stages import timing
from reproductions.studies.context_study_sizes import Case

DEFAULT = Context()
WITHOUT, STEPS, SECONDS = "without", "default, equal steps", "default, equal seconds"
ABLATIONS: Mapping[str, AnyContext] = {
    "stride 1, not 3": Context(stride=1),
    "q 8, not 4": Context(samples=8),
    "λ 0.01, not 0.1": Context(weight=0.01),
    "λ 1, not 0.1": Context(weight=1.0),
    "λ_t linear, not the signal": AblatedContext(fading=Fading.LINEAR),
    "λ_t constant, not the signal": AblatedContext(fading=Fading.CONSTANT),
    "energy distance, not Wasserstein": AblatedContext(distance=Matching.ENERGY),
    "head reads estimate, not features": AblatedContext(reads=Reading.ESTIMATE),
    "border: opposite edge, not nothing": AblatedContext(beyond=Beyond.OPPOSITE),
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
            found[family] = Stage(f"{self.ground.called}{family} timing", timing.measure, settings, inputs, shared=True)
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
