"""Runs of one table side by side: rows, differences, costs, pictures, and the settings that differ."""

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.special import stdtrit  # type: ignore[import-untyped]

from reproductions.artefacts import write_whole
from reproductions.commands.comparison_options import CompareOptions
from reproductions.report import template
from reproductions.reporting import grids
from reproductions.reporting.energy import Energy
from reproductions.reporting.findings import CONFIDENCE, Measurement

MANIFEST = "manifest.json"
APART = ("costs", "energy", "stages", "environment")
NOTHING = "–"


@dataclass(frozen=True)
class Run:
    """A finished run as its folder tells it."""

    name: str
    folder: Path
    table: Mapping[str, Any]
    manifest: Mapping[str, Any]

    @property
    def seconds(self) -> float:
        """What all stages took."""
        return sum(cost["wall_seconds"] for cost in self.manifest.get("costs", {}).values())

    @property
    def energy(self) -> Energy | None:
        """What the run took, where its machine told."""
        told = self.manifest.get("energy")
        return Energy(**told) if told else None

    def measured(self, approach: str) -> dict[str, Measurement]:
        """The scores of a row."""
        found = next((row["measured"] for row in self.table["rows"] if row["approach"] == approach), None)
        return {name: _measurement(score) for name, score in (found or {}).items()}


@dataclass(frozen=True)
class Line:
    """One score of one row in each run, and the difference of each run from the first."""

    approach: str
    metric: str
    found: Sequence[Measurement | None]
    differences: Sequence[Measurement | None]


def compare(options: CompareOptions) -> int:
    """Write the page that compares runs; returns the exit code."""
    try:
        runs = read(options.runs)
        content = page(runs)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(options.out, content.encode())
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(runs)} runs of {runs[0].table['table']}: {options.out}")
    return 0


def read(folders: Sequence[Path]) -> list[Run]:
    """The runs in `folders`.

    Raises:
        ValueError: for fewer than two, one given twice, a folder that holds no finished table, or different tables.
    """
    if len(folders) < 2:
        raise ValueError(f"compare needs two runs at least, not {len(folders)}; give the folders that tables wrote")
    places = [folder.expanduser().resolve() for folder in folders]
    if len(set(places)) < len(places):
        raise ValueError("compare: the same folder was given twice; give runs that differ")
    runs = [_run(place, name) for place, name in zip(places, names(places), strict=True)]
    if len({run.table["table"] for run in runs}) > 1:
        said = ", ".join(f"{run.name} ({run.table['table']})" for run in runs)
        raise ValueError(f"compare: runs of different tables: {said}; compare runs of one")
    return runs


def names(places: Sequence[Path]) -> list[str]:
    """The last parts of paths, as many as tell them apart."""
    for count in range(1, max(len(place.parts) for place in places) + 1):
        found = [Path(*place.parts[-count:]).as_posix() for place in places]
        if len(set(found)) == len(found):
            break
    return found


def _run(folder: Path, name: str) -> Run:
    if not folder.is_dir():
        raise ValueError(f"compare: there is no folder {folder}; give the folders that tables wrote (--out)")
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.get("table") == path.stem and (folder / MANIFEST).is_file():
            return Run(name, folder, content, json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    raise ValueError(
        f"compare: {folder} holds no finished table (table1.json with manifest.json, say); finish its run first: the "
        "same command goes on where it stopped"
    )


def _measurement(score: Mapping[str, Any]) -> Measurement:
    mean = math.nan if score["mean"] is None else score["mean"]
    seeds = tuple(score["seeds"])
    counts, sampled = (score["n_real"], score["n_fake"]), score.get("sampled")
    spread = score["std"], score["low"], score["high"]
    return Measurement(mean, *spread, seeds, *counts, sampled=None if sampled is None else (sampled[0], sampled[1]))


def lines(runs: Sequence[Run]) -> Iterator[Line]:
    """Every score of every row that some run measured."""
    for approach in dict.fromkeys(row["approach"] for run in runs for row in run.table["rows"]):
        by_run = [run.measured(approach) for run in runs]
        for metric in dict.fromkeys(name for measured in by_run for name in measured):
            found = [measured.get(metric) for measured in by_run]
            yield Line(approach, metric, found, [difference(found[0], other) for other in found[1:]])


def difference(one: Measurement | None, other: Measurement | None) -> Measurement | None:
    """`other - one`, with Welch's 95 % interval where both have a spread over seeds (None: one is not there)."""
    if one is None or other is None:
        return None
    mean = other.mean - one.mean
    if one.std is None or other.std is None:
        return Measurement(mean, None, None, None, (), None, None)
    shares = [m.std**2 / len(m.seeds) for m in (one, other) if m.std is not None]
    error = math.sqrt(sum(shares))
    if error == 0 or not math.isfinite(error):
        return Measurement(mean, error, mean - error, mean + error, (), None, None)
    freedom = sum(shares) ** 2 / sum(
        share**2 / (len(m.seeds) - 1) for share, m in zip(shares, (one, other), strict=True)
    )
    half = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * error
    return Measurement(mean, error, mean - half, mean + half, (), None, None)


def settings(runs: Sequence[Run]) -> dict[str, list[str]]:
    """What the manifests say differently, by its place; of what decides stages, and of the machine."""
    flat = []
    for run in runs:
        kept = {key: value for key, value in run.manifest.items() if key not in APART}
        told = {"profile": run.table["profile"], **kept, "environment": run.table["environment"]}
        flat.append(dict(_flattened(told)))
    keys = dict.fromkeys(key for each in flat for key in each)
    rows = {key: [each.get(key, NOTHING) for each in flat] for key in keys}
    return {key: values for key, values in rows.items() if len(set(values)) > 1}


def _flattened(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flattened(inner, f"{place} / {key}" if place else str(key))
    elif isinstance(value, list | tuple):
        yield place, ", ".join(map(str, value))
    else:
        yield place, str(value)


def pictures(runs: Sequence[Run]) -> dict[str, list[str | None]]:
    """Pictures that two runs or more wrote under one name, as addresses for the page."""
    files = [
        {
            path.relative_to(run.folder).as_posix(): path
            for place in ("*.png", "samples/*.png")
            for path in sorted(run.folder.glob(place))
        }
        for run in runs
    ]
    shared = [
        name for name in dict.fromkeys(name for each in files for name in each) if sum(name in f for f in files) > 1
    ]
    return {name: [grids.uri(each[name].read_bytes()) if name in each else None for each in files] for name in shared}


def page(runs: Sequence[Run]) -> str:
    """One page: no scripts, nothing loaded from elsewhere."""
    stages = dict.fromkeys(name for run in runs for name in run.manifest.get("costs", {}))
    took = {name: [run.manifest.get("costs", {}).get(name) for run in runs] for name in stages}
    return template("compare.html.jinja").render(
        runs=runs, lines=list(lines(runs)), settings=settings(runs), took=took, pictures=pictures(runs)
    )
