"""A study of one denoiser as JSON, Markdown, one HTML file, and pictures: scores over steps, samples of every way."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter
from safetensors.torch import load_file

from reproductions.artefacts import plain, write_json
from reproductions.commands.denoiser_report import pictures, scores_of
from reproductions.reporting import grids, score_table

if TYPE_CHECKING:
    from reproductions.commands.denoisers import Plan, Scored

COLUMNS, SIDE = 10, 64
GUIDANCE = "guidance"
STYLE = (
    "body{margin:2rem auto;max-width:70rem;padding:0 1rem;font:1rem/1.5 system-ui,sans-serif;color:#1c1c1e;"
    "background:#fff}table{border-collapse:collapse;font-size:.9rem}th,td{padding:.3rem .6rem;text-align:right;"
    "border-bottom:1px solid #dcdce0}th:first-child,td:first-child{text-align:left}img{max-width:100%}"
    "pre{white-space:pre-wrap;background:#f5f5f7;padding:.8rem}"
)


@dataclass(frozen=True)
class Line:
    """One way to sample: which line of the plot it is on, the walk, and its scored samples."""

    line: str
    walk: Any
    scored: "Scored"


def write_study(out: Path, plan: "Plan", lines: Sequence[Line], found: Mapping[str, Any]) -> str:
    """Write `study.json`, `study.md`, `study.html`, `steps.png`, `loss.png`, `ways.png`, and `inpainting.png`."""
    rows = [
        {
            "line": each.line,
            "name": each.walk.name,
            "walk": plain(each.walk),
            "calls": each.walk.calls(plan.model.settings.denoiser),
            **scores_of(each.scored, out),
        }
        for each in lines
    ]
    folder = plan.filled.folder(out / "stages")
    filled = load_file(folder / "filled.safetensors")["images"]
    facts = json.loads((folder / "facts.json").read_text())
    columns = facts["pictures"] * (1 + len(facts["ways"]))
    grids.grid(filled, columns, grids.fitting_scale(filled, SIDE)).save(out / "inpainting.png")
    study = {**found, "study": rows, "inpainting": facts}
    write_json(out / "study.json", study)
    draw_steps(out / "steps.png", study)
    draw_loss(out / "loss.png", study)
    images = {each.walk.name: pictures(each.scored, out)[:COLUMNS] for each in lines}
    grids.labelled_rows(images).save(out / "ways.png")
    text = markdown(study)
    (out / "study.md").write_text(text, encoding="utf-8")
    (out / "study.html").write_text(page(study, out), encoding="utf-8")
    return text


def table(study: Mapping[str, Any]) -> list[list[str]]:
    """Head and rows: every way, then what it can be compared with."""
    names = score_table.names([*study["study"], *study["rows"].values()])
    lines = [["", "steps", "guidance", "network calls", *names]]
    for row in study["study"]:
        walk = row["walk"]
        lines.append(
            [
                row["line"],
                str(walk["steps"]),
                f"{walk['guidance']:g}",
                str(row["calls"]),
                *score_table.cells(row, names),
            ]
        )
    for name, row in study["rows"].items():
        if name != "samples":
            lines.append([name, "", "", "", *score_table.cells(row, names)])
    return lines


def notes(study: Mapping[str, Any]) -> list[str]:
    """What has to be known to read the table."""
    training, size = study["training"]["denoiser"]["training"], study["size"]
    return [
        f"Samples: {score_table.counts(study['study'])} real pictures; intervals of 95 %, of the samples and the real "
        "pictures drawn again. Scores are in the space that their name says, and are not comparable with numbers from "
        "other spaces, nor with those of papers.",
        study["data"]["note"],
        f"{size.get('parameters', 0):,} parameters; {size.get('steps', 0):,} steps of {training['batch']}, seed "
        f"{training['seed']}; {study['cost']['seconds'] / 60:.0f} minutes.",
    ]


def markdown(study: Mapping[str, Any]) -> str:
    """The study as Markdown; the pictures stand beside it."""
    head, *rows = table(study)
    ways = ", ".join(row["name"] for row in study["study"])
    return "\n".join(
        [
            *score_table.table(head, rows),
            "",
            *notes(study),
            "",
            "![Scores over calls of the network](steps.png)",
            "",
            "![Loss over training steps](loss.png)",
            "",
            f"![The same first samples, a row for each way: {ways}](ways.png)",
            "",
            f"![{_filled(study)}](inpainting.png)",
            "",
            f"    {study['command']}",
            "",
        ]
    )


def page(study: Mapping[str, Any], out: Path) -> str:
    """The study as one HTML file, its pictures inside."""
    head, *rows = table(study)
    cells = "".join(f"<th>{escape(each)}</th>" for each in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(each)}</td>" for each in row) + "</tr>" for row in rows)
    said = "".join(f"<p>{escape(note)}</p>" for note in notes(study))
    shown = {name: _uri(out / f"{name}.png") for name in ("steps", "loss", "ways", "inpainting")}
    title = escape(f"{study['kind'].capitalize()} denoiser of {study['data']['name']}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
        f"</head><body><h1>{title}</h1>{said}<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"
        f'<h2>Scores over calls of the network</h2><img src="{shown["steps"]}" alt="Scores over calls of the network">'
        f"<h2>Loss</h2>"
        f'<img src="{shown["loss"]}" alt="Loss over training steps"><h2>Samples</h2><p>The same first samples, a row '
        f'for each way:</p><img src="{shown["ways"]}" alt="Samples of every way">'
        f'<h2>Filling in</h2><p>{escape(_filled(study))}</p><img src="{shown["inpainting"]}" alt="Filled in">'
        f"<h2>Again</h2><pre>{escape(study['command'])}</pre></body></html>\n"
    )


def _filled(study: Mapping[str, Any]) -> str:
    facts = study["inpainting"]
    return (
        f"Held-out pictures behind masks ({', '.join(facts['masks'])}; a row for each), the first "
        f"{facts['pictures']} columns as they are given, then filled in by {' and by '.join(facts['ways'])}"
    )


def _uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def draw_steps(path: Path, study: Mapping[str, Any]) -> None:
    """The first score over the number of calls of the network, a line for each way, with its interval."""
    by_line: dict[str, list[Mapping[str, Any]]] = {}
    for row in study["study"]:
        if not row["line"].startswith(GUIDANCE):
            by_line.setdefault(row["line"], []).append(row)
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        for name, rows in by_line.items():
            found = [(row["calls"], row["scores"][0]) for row in rows]
            steps = [step for step, _ in found]
            values = [score["value"] for _, score in found]
            if all(score["low"] is not None for _, score in found):
                spread = [(s["value"] - s["low"], s["high"] - s["value"]) for _, s in found]
                axes.errorbar(steps, values, list(zip(*spread, strict=True)), marker="o", capsize=3, label=name)
            else:
                axes.plot(steps, values, marker="o", label=name)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("calls of the network for one sample")
        axes.set_ylabel(study["study"][0]["scores"][0]["name"])
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, dpi=110, metadata={"Software": None})


def draw_loss(path: Path, study: Mapping[str, Any]) -> None:
    """The loss over the steps of the training, and its parts where there are several."""
    curve = study["curve"]
    terms = [term for term in curve[0] if term not in ("step", "gradient norm")]
    terms = terms if len(terms) > 2 else terms[:1]
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(3.6 * len(terms), 2.6), layout="constrained")
        for axes, term in zip(figure.subplots(1, len(terms), squeeze=False)[0], terms, strict=True):
            axes.plot([row["step"] for row in curve], [row[term] for row in curve], linewidth=1)
            axes.set_title(term)
            axes.set_xlabel("step")
            axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, dpi=110, metadata={"Software": None})
