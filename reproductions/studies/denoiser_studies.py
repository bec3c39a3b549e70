"""`conprediff study discrete` and `conprediff study continuous`: one trained denoiser, sampled in many ways."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reproductions.artefacts import Stage
from reproductions.commands.denoiser_options import DenoiserOptions
from reproductions.commands.denoiser_report import results
from reproductions.commands.denoisers import Plan, Scored, command, default_out, plan_continuous, plan_discrete
from reproductions.stages.latent_denoising import Solver
from reproductions.stages.token_denoising import Way
from reproductions.studies.study_report import Line, write_study

STRIDES = (100, 50, 25, 10)
SCALES = (1.0, 2.0, 3.0, 5.0)
SOLVED = {
    Solver.DDIM: (50, 25, 10, 5),
    Solver.DDPM: (50, 25, 10, 5),
    Solver.PLMS: (25, 10, 5),
    Solver.HEUN: (25, 13, 5, 3),
    Solver.DPM: (25, 10, 5),
}


@dataclass(frozen=True)
class Cell:
    """One way to sample: which line of the plot it is on, the walk, and its scored samples."""

    line: str
    walk: Any
    scored: Scored


def study_discrete(options: DenoiserOptions) -> int:
    """Steps against quality, exact against released stride, with and without purity prior, scales of guidance."""
    return _study("discrete", plan_discrete, token_walks, options)


def study_continuous(options: DenoiserOptions) -> int:
    """Solvers and steps against quality, and scales of guidance."""
    return _study("continuous", plan_continuous, latent_walks, options)


def _study(
    kind: str,
    plan: Callable[[DenoiserOptions], Plan],
    walks: Callable[[Plan], Iterable[tuple[str, Any]]],
    options: DenoiserOptions,
) -> int:
    found: list[Cell] = []

    def goals(planned: Plan) -> Sequence[Stage]:
        found.extend(Cell(line, walk, planned.sampled(walk)) for line, walk in walks(planned))
        return [*planned.goals, planned.filled, *(cell.scored.scores for cell in found)]

    def report(planned: Plan, options: DenoiserOptions, out: Path, receipts: Mapping[str, Any]) -> str:
        lines = [Line(cell.line, cell.walk, cell.scored) for cell in found]
        return write_study(out, planned, lines, results(out, planned, receipts, sys.argv[1:]))

    return command(plan, options, default_out(kind, options), report, goals)


def token_walks(planned: Plan) -> Iterable[tuple[str, Any]]:
    """Every way in every number of steps that it can take, then scales of guidance at the fewest but two."""
    settings = planned.model.settings
    levels, tokens = settings.denoiser.levels, planned.length
    for way in Way:
        most = tokens if way in (Way.FEWER, Way.PURITY) else levels
        for steps in strides(levels):
            if steps <= most and not (way is Way.RELEASED and (steps == levels or levels % steps)):
                yield str(way), replace(planned.walk, steps=steps, way=way)
    yield from _scales(planned, strides(levels)[1])


def latent_walks(planned: Plan) -> Iterable[tuple[str, Any]]:
    """Every solver in every number of steps, then scales of guidance."""
    for solver, numbers in SOLVED.items():
        for steps in numbers:
            yield str(solver), replace(planned.walk, steps=steps, solver=solver)
    yield from _scales(planned, planned.walk.steps)


def strides(levels: int) -> tuple[int, ...]:
    """Numbers of steps: all levels, a half, a quarter and a tenth of them."""
    return tuple(dict.fromkeys(max(1, levels * share // 100) for share in STRIDES))


def _scales(planned: Plan, steps: int) -> Iterable[tuple[str, Any]]:
    if planned.model.settings.told.kind != "none":
        for scale in SCALES:
            yield f"guidance, {steps} steps", replace(planned.walk, steps=steps, guidance=scale)
