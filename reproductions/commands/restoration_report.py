"""What a training for filling in or enlarging found: scores as JSON and Markdown, pictures before and after."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from reproductions.artefacts import plain, write_json
from reproductions.commands.denoiser_report import again, heading, of_training, scores_of
from reproductions.recipes.tasks import SuperResolution
from reproductions.reporting import score_table
from reproductions.reporting.grids import labelled_rows
from reproductions.stages.beside import reduced
from reproductions.stages.restoring import bicubic, held_out_of, masks

if TYPE_CHECKING:
    from reproductions.commands.restorers import Restoration

COLUMNS = 10
GREY = 127


def write_restoration(out: Path, plan: "Restoration", receipts: Mapping[str, Any], command: Sequence[str]) -> str:
    """Write `<task>.json`, `<task>.md` and `restored.png`; returns the Markdown."""
    found = results(out, plan, receipts, command)
    write_json(out / f"{plan.kind}.json", found)
    labelled_rows(before_and_after(out, plan)).save(out / "restored.png")
    text = markdown(found)
    (out / f"{plan.kind}.md").write_text(text, encoding="utf-8")
    return text


def results(out: Path, plan: "Restoration", receipts: Mapping[str, Any], command: Sequence[str]) -> dict[str, Any]:
    """Everything that was found, as JSON-able data."""
    root = out / "stages"
    rows = in_order(json.loads((plan.judged.folder(root) / "scores.json").read_text()), list(plan.judging.rows))
    return {
        **heading(out, plan.kind, plan.data),
        **of_training(out, plan.model, receipts),
        "walk": plain(plan.walk),
        "rows": {**rows, "training pictures": scores_of(plan.floor, out)},
        "command": again(command),
    }


def in_order(rows: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Rows of a table: those of each of these names as they come, then all others."""
    own = [row for name in names for row in rows if row.split(", ")[0] == name]
    return {row: rows[row] for row in (*own, *(row for row in rows if row not in own))}


def before_and_after(out: Path, plan: "Restoration") -> dict[str, Tensor]:
    """Rows of the first held-out pictures: as they are, as they are given, and restored."""
    root = out / "stages"
    shown: dict[str, Tensor] = {}
    for name, settings in plan.judging.rows.items():
        real = held_out_of(plan.data.folder(root), COLUMNS)
        restored = load_file(plan.restored[name].folder(root) / "images.safetensors")["images"][:COLUMNS]
        shown["held out"] = real
        task = settings.training.task
        if isinstance(task, SuperResolution):
            small = reduced(real, task.factor)
            squares = small.repeat_interleave(task.factor, 2).repeat_interleave(task.factor, 3)
            shown[f"{small.shape[3]} pixels"] = squares
            shown["bicubic"] = bicubic(real, task.factor)
            shown[name] = restored
        else:
            shown[name] = torch.where(masks(settings, real), GREY, real)
            shown[f"{name}, filled in"] = restored
    return shown


def markdown(found: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    last, walk = found["curve"][-1], found["walk"]
    return "\n".join(
        [
            *score_table.of_rows(found["rows"]),
            "",
            f"Held-out pictures, restored in {walk['steps']} steps of {walk['solver']}; pictures: "
            f"{score_table.counts(found['rows'].values())}. Intervals of 95 %.",
            "Scores are in the space that their name says, and are not comparable with numbers from other spaces, nor",
            "with those of papers. PSNR and SSIM compare each picture with its own original: of many right answers",
            "they like the mean best, which is none of them.",
            found["data"]["note"],
            f"{found['size'].get('parameters', 0):,} parameters, {last['step']:,} steps in "
            f"{found['cost']['seconds'] / 60:.1f} minutes; the last loss is {last['loss']:.4g}.",
            "restored.png shows the first held-out pictures, what is given of them, and what is made of that.",
            "",
        ]
    )
