"""What trainings of ImageBART found: bits per token, scores, time, samples and edits; JSON, Markdown and pictures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file

from reproductions.artefacts import plain, write_json
from reproductions.commands.denoiser_report import again, heading, pictures, scores_of
from reproductions.conditioning import Kind
from reproductions.reporting import grids, score_table
from reproductions.stages.scale_denoising import BOUND, TIMING, read_json

if TYPE_CHECKING:
    from reproductions.commands.scale_denoisers import ScalePlan

SHOWN, COLUMNS, SIDE = 30, 10, 64
TOLD = {Kind.NONE: "", Kind.CLASS: " as their class says", Kind.CAPTION: " as their caption says"}
FOR = {Kind.NONE: "", Kind.CLASS: ", in order of their classes", Kind.CAPTION: ", in order of their captions"}


def write_training(out: Path, plan: "ScalePlan", receipts: Mapping[str, Any], command: Sequence[str]) -> str:
    """Write `imagebart.json`, `imagebart.md`, `samples.png` and `edits.png`; returns the Markdown."""
    return write(out, "imagebart", [plan], receipts, command)


def write(
    out: Path, name: str, plans: Sequence["ScalePlan"], receipts: Mapping[str, Any], command: Sequence[str]
) -> str:
    """Write `<name>.json`, `<name>.md` and the pictures of one or several chains; returns the Markdown."""
    found = results(out, plans, receipts, command)
    write_json(out / f"{name}.json", found)
    shown = torch.cat([pictures(plan.samples, out)[: SHOWN if len(plans) == 1 else COLUMNS] for plan in plans])
    grids.grid(shown, COLUMNS, grids.fitting_scale(shown, SIDE)).save(out / "samples.png")
    rows, columns = edit_rows(out, plans)
    grids.grid(rows, columns, grids.fitting_scale(rows, SIDE // 2)).save(out / "edits.png")
    draw_loss(out / "loss.png", found)
    text = markdown(found)
    (out / f"{name}.md").write_text(text, encoding="utf-8")
    return text


def results(
    out: Path, plans: Sequence["ScalePlan"], receipts: Mapping[str, Any], command: Sequence[str]
) -> dict[str, Any]:
    """Everything that was found, as JSON-able data."""
    first = plans[0]
    real = {"training pictures": first.floor}
    if first.ceiling is not None:
        real["training pictures, coded and decoded"] = first.ceiling
    return {
        **heading(out, "imagebart", first.data),
        "chains": [chain_facts(out, plan, receipts) for plan in plans],
        "rows": {name: scores_of(scored, out) for name, scored in real.items()},
        "edits": read_json(first.filled.folder(out / "stages"), "facts.json"),
        "command": again(command),
    }


def chain_facts(out: Path, plan: "ScalePlan", receipts: Mapping[str, Any]) -> dict[str, Any]:
    """What was found of one chain."""
    root = out / "stages"
    trained = [
        {
            "scale": stage.settings.scale or "all",
            **dict(stage.size() if stage.size else {}),
            "minutes": receipts[stage.digest]["cost"]["seconds"] / 60,
            "curve": json.loads((stage.folder(root) / "curves.json").read_text()),
        }
        for stage in plan.trainings
    ]
    assert plan.samples.images is not None
    drawn = plan.samples.images.inputs["samples"].folder(root)
    training = plan.model.settings.chain.training
    return {
        "scales": plan.model.settings.chain.scales,
        "training": plain(plan.model.settings),
        "walk": plain(plan.walk),
        "trained": trained,
        "parameters": sum(each["parameters"] for each in trained),
        "budget": sum(each["parameters"] for each in trained) * training.steps * training.batch,
        "minutes": sum(each["minutes"] for each in trained),
        "bound": read_json(plan.bound.folder(root), BOUND),
        "timing": read_json(drawn, TIMING),
        "samples": scores_of(plan.samples, out),
        "upper halves": scores_of(plan.edited, out),
    }


def edit_rows(out: Path, plans: Sequence["ScalePlan"]) -> tuple[torch.Tensor, int]:
    """Edits of every chain: for each mask a row for each chain, and how many pictures there are in a row."""
    folders = [plan.filled.folder(out / "stages") for plan in plans]
    facts = read_json(folders[0], "facts.json")
    columns = facts["pictures"] * (1 + len(facts["ways"]))
    found = [load_file(folder / "filled.safetensors")["images"].unflatten(0, (-1, columns)) for folder in folders]
    return torch.stack(found, 1).flatten(0, 2), columns


def table(found: Mapping[str, Any]) -> list[list[str]]:
    """Head and rows: every chain, then what it can be compared with."""
    names = score_table.names([found["chains"][0]["samples"]])
    halves = found["chains"][0]["upper halves"]["scores"][0]["name"]
    head = ["scales", "parameters", "bits per token", *names, f"upper halves: {halves}", "ms of processor per image"]
    rows = [head]
    for each in found["chains"]:
        edited, *_ = each["upper halves"]["scores"]
        rows.append(
            [
                str(each["scales"]),
                f"{each['parameters']:,}",
                score_table.cell(each["bound"]),
                *score_table.cells(each["samples"], names),
                score_table.cell(edited),
                f"{1000 * each['timing']['processor seconds']:.1f}",
            ]
        )
    for name, row in found["rows"].items():
        rows.append([name, "", "", *score_table.cells(row, names), "", ""])
    return rows


def markdown(found: Mapping[str, Any]) -> str:
    """The results as Markdown; the pictures stand beside it."""
    head, *rows = table(found)
    return "\n".join(
        [*score_table.table(head, rows), "", *notes(found), "", *_shown(found), "", f"    {found['command']}", ""]
    )


def notes(found: Mapping[str, Any]) -> list[str]:
    """What has to be known to read the table."""
    first = found["chains"][0]
    training, score = first["training"]["chain"]["training"], first["samples"]["scores"][0]
    spent = "; ".join(
        f"{each['scales']} scale{'s' * (each['scales'] > 1)}: {each['minutes']:.1f} minutes" for each in found["chains"]
    )
    budgets = [each["budget"] for each in found["chains"]]
    spread = f"{max(budgets) / min(budgets) - 1:.1%}"
    equal = f"; the chains' budgets, parameters times pictures, differ by {spread}" if len(budgets) > 1 else ""
    told = TOLD[first["training"]["told"]["kind"]]
    return [
        f"Every scale saw {training['samples']:,} pictures in batches of {training['batch']}, seed {training['seed']}"
        f"{equal}. Training took, {spent}.",
        f"Bits per token: a bound, on {first['bound']['pictures']:,} held-out pictures; uniform tokens have "
        f"{first['bound']['uniform']:g}. It is comparable between chains of the same tokens alone.",
        f"Samples: {score['n_fake']:,} against {score['n_real']:,} real pictures. Upper halves: held-out pictures "
        f"whose upper half is drawn again{told}, against training pictures. Intervals of 95 %. Scores are "
        "in the space that their name says, and are not comparable with numbers from other spaces, nor with those of "
        "papers.",
        found["data"]["note"],
    ]


def _shown(found: Mapping[str, Any]) -> list[str]:
    facts = found["edits"]
    scales = ", ".join(str(each["scales"]) for each in found["chains"])
    return [
        f"![Samples{FOR[found['chains'][0]['training']['told']['kind']]}; scales: {scales}](samples.png)",
        "",
        f"![Held-out pictures behind masks ({', '.join(facts['masks'])}), for each of them a row for each chain "
        f"(scales: {scales}): {facts['pictures']} as they are given, then drawn again as "
        f"{' and as '.join(facts['ways'])}](edits.png)",
        "",
        "![Loss of every scale over training steps](loss.png)",
    ]


def draw_loss(path: Path, found: Mapping[str, Any]) -> None:
    """The loss of every scale over the steps of its training, a plot for each chain."""
    chains = found["chains"]
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(3.6 * len(chains), 2.6), layout="constrained")
        for axes, each in zip(figure.subplots(1, len(chains), squeeze=False)[0], chains, strict=True):
            for scale in each["trained"]:
                steps, losses = zip(*((row["step"], row["loss"]) for row in scale["curve"]), strict=True)
                label = "all scales" if scale["scale"] == "all" else f"scale {scale['scale']}"
                axes.plot(steps, losses, linewidth=1, label=label)
            axes.set_title(f"{each['scales']} scale{'s' * (each['scales'] > 1)}")
            axes.set_xlabel("step")
            axes.set_ylabel("loss, nats per token")
            axes.legend(frameon=False)
            axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, dpi=110, metadata={"Software": None})
