"""What a training of a denoiser found: scores as JSON and Markdown, samples as a picture."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file

from reproductions.artefacts import Stage, plain, write_json
from reproductions.data import Split
from reproductions.gathering.splits import HELD_OUT
from reproductions.reporting import score_table
from reproductions.reporting.grids import fitting_scale, grid
from reproductions.reporting.provenance import provenance

if TYPE_CHECKING:
    from reproductions.commands.denoisers import Plan, Scored

SHOWN, COLUMNS, SIDE = 60, 10, 64


def write_training(out: Path, plan: "Plan", receipts: Mapping[str, Any], command: Sequence[str]) -> str:
    """Write `<kind>.json`, `<kind>.md` and `samples.png`; returns the Markdown."""
    found = results(out, plan, receipts, command)
    write_json(out / f"{plan.kind}.json", found)
    assert plan.samples.images is not None
    images = pictures(plan.samples, out)
    real = Split.load(plan.data.folder(out / "stages") / HELD_OUT).images
    grid(images[:SHOWN], COLUMNS, fitting_scale(images, SIDE)).save(out / "samples.png")
    grid(real[:SHOWN], COLUMNS, fitting_scale(real, SIDE)).save(out / "real.png")
    text = markdown(found)
    (out / f"{plan.kind}.md").write_text(text, encoding="utf-8")
    return text


def pictures(scored: "Scored", out: Path) -> torch.Tensor:
    """The pictures that were scored, uint8."""
    assert scored.images is not None
    return load_file(scored.images.folder(out / "stages") / "images.safetensors")["images"]


def scores_of(scored: "Scored", out: Path) -> Any:
    """What the stage of scores wrote."""
    return json.loads((scored.scores.folder(out / "stages") / "scores.json").read_text())


def results(out: Path, plan: "Plan", receipts: Mapping[str, Any], command: Sequence[str]) -> dict[str, Any]:
    """Everything that was found, as JSON-able data."""
    rows = {"samples": plan.samples, "training pictures": plan.floor}
    if plan.ceiling is not None:
        rows["training pictures, coded and decoded"] = plan.ceiling
    return {
        **heading(out, plan.kind, plan.data),
        **of_training(out, plan.model, receipts),
        "rows": {name: scores_of(scored, out) for name, scored in rows.items()},
        "command": again(command),
    }


def heading(out: Path, kind: str, data: Stage) -> dict[str, Any]:
    """What every result says first: where it was made, of what kind it is, and of which data."""
    facts = json.loads((data.folder(out / "stages") / "facts.json").read_text())
    return {**provenance(), "kind": kind, "data": {**facts, "name": Path(facts["name"]).name}}


def of_training(out: Path, model: Stage, receipts: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of a training: its settings, size, cost and curve."""
    return {
        "training": plain(model.settings),
        "size": dict(model.size()) if model.size else {},
        "cost": receipts[model.digest]["cost"],
        "curve": json.loads((model.folder(out / "stages") / "curves.json").read_text()),
    }


def again(command: Sequence[str]) -> str:
    """The command that makes a result once more."""
    return shlex.join(["conprediff", *(without_root(word) for word in command)])


def without_root(word: str) -> str:
    """An argument of the command line; of an absolute path, what is the same on any machine: its last parts."""
    path = Path(word)
    return Path(*path.parts[-3:]).as_posix() if path.is_absolute() else word


def markdown(found: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    said = score_table.counts(found["rows"].values())
    minutes = found["cost"]["seconds"] / 60
    last = found["curve"][-1]
    return "\n".join(
        [
            *score_table.of_rows(found["rows"]),
            "",
            f"Pictures: {said}. Intervals of 95 %. Scores are in the space that their name says, and are not",
            "comparable with numbers from other spaces, nor with those of papers.",
            found["data"]["note"],
            f"{found['size'].get('parameters', 0):,} parameters, {last['step']:,} steps in {minutes:.1f} minutes; "
            f"the last loss is {last['loss']:.4g}.",
            "samples.png shows the first samples, real.png held-out pictures.",
            "",
        ]
    )
