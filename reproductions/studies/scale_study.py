"""`conprediff study imagebart`: one, two and three scales side by side, at equal parameters and equal budget."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reproductions.artefacts import Stage
from reproductions.commands.denoiser_options import ScaleOptions
from reproductions.commands.denoisers import command, default_out
from reproductions.commands.scale_denoisers import ScalePlan, plan_imagebart
from reproductions.commands.scale_report import write
from reproductions.recipes.scale_recipes import SMALL, SMOKE, preset_of

NUMBERS = (1, 2, 3)


def study_imagebart(options: ScaleOptions) -> int:
    """Bits per token, scores, sampling time and masked edits of every number of scales; returns the exit code."""
    return command(plan_study, options, default_out("imagebart", options), _report, goals_of)


def plan_study(options: ScaleOptions) -> list[ScalePlan]:
    """The stages of every number of scales; what they have in common is the same stage.

    Raises:
        ValueError: where another recipe is asked for than those that differ in the number of scales alone.
    """
    if options.preset not in (None, SMALL, SMOKE):
        raise ValueError(f"--preset: the study compares the recipes {SMALL}-1, -2 and -3; give {SMALL} or {SMOKE}")
    return [plan_imagebart(options, preset_of(options.preset, scales)) for scales in NUMBERS]


def goals_of(plans: Sequence[ScalePlan]) -> Sequence[Stage]:
    """The stages that nothing reads."""
    return [stage for plan in plans for stage in plan.goals]


def _report(plans: Sequence[ScalePlan], options: ScaleOptions, out: Path, receipts: Mapping[str, Any]) -> str:
    return write(out, "study", plans, receipts, sys.argv[1:])
