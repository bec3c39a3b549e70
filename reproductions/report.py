"""The files of a table: `<table>.json`, `<table>.md`, `<table>.html` (one file), `samples/*.png`, `manifest.json`.

Each table of the report is written as CSV and LaTeX too, and the page holds these files inside.
"""

import base64
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from reproductions.artefacts import write_whole
from reproductions.reporting import curves, exports, grids, numerals
from reproductions.reporting.findings import Better as Better
from reproductions.reporting.findings import Cost as Cost
from reproductions.reporting.findings import Curve as Curve
from reproductions.reporting.findings import Difference as Difference
from reproductions.reporting.findings import Illustration as Illustration
from reproductions.reporting.findings import Measurement as Measurement
from reproductions.reporting.findings import MetricInfo as MetricInfo
from reproductions.reporting.findings import Report as Report
from reproductions.reporting.findings import RowResult as RowResult
from reproductions.reporting.findings import Samples as Samples
from reproductions.reporting.findings import differences as differences
from reproductions.reporting.findings import summarise as summarise
from reproductions.reporting.markdown import ARROWS, markdown

COMPARED = 12
SHOWN = 48
PICTURE_SIDE = 96


def write_report(folder: Path, report: Report) -> None:
    """Write all files of the report under `folder`, each whole or not at all; equal reports give equal bytes.

    Illustrations are written beside the table, as `<name>.png`.

    Raises:
        ValueError: where two approaches would write the same picture file.
        OSError: where the folder cannot be written.
    """
    pictures = _pictures(report)
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    for each in report.illustrations:
        write_whole(folder / f"{each.name}.png", each.png)
    for name, content in pictures.items():
        write_whole(folder / "samples" / f"{name}.png", content)
    for name, content in exports.files(report).items():
        write_whole(folder / name, content)
    write_whole(folder / "manifest.json", _json(manifest(report)))
    write_whole(folder / f"{report.table}.md", markdown(report).encode())
    write_whole(folder / f"{report.table}.html", html(report).encode())
    write_whole(folder / f"{report.table}.json", _json(table(report)))


def table(report: Report) -> dict[str, Any]:
    """The table as JSON-able values, in full precision; it holds no times, so that equal runs are equal."""
    rows = [
        {
            "approach": row.approach,
            "kind": row.kind,
            "paper": dict(row.paper),
            "measured": None if row.measured is None else {name: _measurement(m) for name, m in row.measured.items()},
        }
        for row in report.rows
    ]
    return {
        "table": report.table,
        "profile": report.profile,
        "comparable": report.comparable,
        "data": report.data,
        "rows": rows,
        "environment": dict(report.environment),
        "manifest": dict(report.manifest),
    }


def manifest(report: Report) -> dict[str, Any]:
    """The manifest, the environment, and what every stage took: wall time, peak memory, steps, parameters; energy."""
    costs = {
        cost.stage: {
            "wall_seconds": cost.seconds,
            "peak_mib": cost.peak_mib,
            "steps": cost.steps,
            "parameters": cost.parameters,
            "reused": cost.reused,
        }
        for cost in report.costs
    }
    energy = None if report.energy is None else asdict(report.energy)
    return {**report.manifest, "environment": dict(report.environment), "costs": costs, "energy": energy}


def html(report: Report) -> str:
    """The report as one page: no scripts, nothing loaded from elsewhere."""
    shown = min(SHOWN, len(report.captions))
    reconstructed = {"real": report.real, **report.reconstructions} if report.reconstructions else {}
    return template("report.html.jinja").render(
        report=report,
        differences=list(differences(report)),
        panels=curves.panels(report.curves),
        compared=min(COMPARED, shown),
        shown=shown,
        real=grids.wall("real", report.real, COMPARED),
        walls=[grids.wall(some.approach, some.images, shown, some.right) for some in report.paired_samples if shown],
        reconstructions=[grids.wall(name, images, COMPARED) for name, images in reconstructed.items()],
        sheets=exports.sheets(report),
    )


def template(name: str) -> jinja2.Template:
    """A page to be filled in, with the ways in which pages write numbers, names and files."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        figure=numerals.figure,
        signed=numerals.signed,
        interval=numerals.interval,
        duration=numerals.duration,
        count=numerals.count,
        breakable=breakable,
        uri=grids.uri,
        attached=attached,
    )
    environment.globals.update(arrows=ARROWS, sample_counts=numerals.sample_counts, energy=numerals.energy)
    return environment.get_template(name)


def attached(text: str) -> str:
    """A text file as an address to keep it from."""
    return "data:text/plain;charset=utf-8;base64," + base64.b64encode(text.encode()).decode("ascii")


def breakable(name: str) -> Markup:
    """Let a name break after its hyphens, underscores and opening brackets."""
    return Markup("<wbr>").join(re.split(r"(?<=[-_\[/])", name))


def slug(name: str) -> str:
    """A name as part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "unnamed"


def _pictures(report: Report) -> dict[str, bytes]:
    images = {"real": report.real}
    images |= {f"reconstructions-{slug(name)}": some for name, some in report.reconstructions.items()}
    for samples in report.samples:
        if slug(samples.approach) in images:
            raise ValueError(f"two pictures would be called {slug(samples.approach)}.png; rename {samples.approach!r}")
        images[slug(samples.approach)] = samples.images
    pictures = {
        name: grids.grid(some, 8, grids.fitting_scale(some, PICTURE_SIDE)) for name, some in images.items() if len(some)
    }
    if report.samples and report.captions:
        pictures["comparison"] = grids.comparison_grid(report)
    return {name: grids.png(some) for name, some in pictures.items()}


def _measurement(m: Measurement) -> dict[str, Any]:
    sampled = {} if m.sampled is None else {"sampled": m.sampled}
    return {
        "mean": m.mean,
        "std": m.std,
        "low": m.low,
        "high": m.high,
        "seeds": list(m.seeds),
        "n_real": m.n_real,
        "n_fake": m.n_fake,
        **sampled,
    }


def _json(value: Any) -> bytes:
    return (json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
