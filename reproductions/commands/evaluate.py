"""`conprediff evaluate A B`: scores of one set of pictures against another."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from reproductions.artefacts import write_whole
from reproductions.commands.command import carry_out
from reproductions.gathering.picture_source import PictureSource, picture_batches
from reproductions.stages import evaluating
from reproductions.stages.evaluating import Scoring, Shelf, Side


class Options(Protocol):
    """What the command line gives."""

    real: Path
    fake: Path
    metrics: str
    features: str
    weights: str | None
    size: int | None
    count: int | None
    n_real: int | None
    n_fake: int | None
    seed: int
    resamples: int
    batch: int
    max_bad: int
    image_column: str
    out: Path


@dataclass
class Bad:
    """Pictures that could not be read, and why; too many of them end the run."""

    allowed: int
    found: dict[str, str] = field(default_factory=dict)

    def require_few(self) -> None:
        """Raise ValueError with the list where there are more than allowed."""
        if len(self.found) > self.allowed:
            listed = "".join(f"\n  {where}: {why}" for where, why in list(self.found.items())[:20])
            raise ValueError(
                f"{len(self.found)} of the pictures cannot be used, and {self.allowed} are allowed; "
                f"--max-bad {len(self.found)} leaves them out:{listed}"
            )


def evaluate(options: Options) -> int:
    """Extract features, or go on extracting, score, print and write; returns the exit code."""
    return carry_out(lambda: print(table(_report(options))), options.out)


def _metrics(options: Options) -> tuple[str, ...]:
    """The metrics asked for, once everything that can be checked before any work has been."""
    metrics = evaluating.metrics_named(options.metrics)
    evaluating.require_features((options.real, options.fake), metrics)
    if missing := [str(side) for side in (options.real, options.fake) if not side.exists()]:
        raise ValueError(f"no such file or folder: {', '.join(missing)}; give pictures or their statistics")
    if options.batch < 1 or options.resamples < 0 or options.max_bad < 0:
        raise ValueError("--batch must be at least 1, --resamples and --max-bad at least 0")
    return metrics


def _report(options: Options) -> dict[str, Any]:
    metrics = _metrics(options)
    space = evaluating.space_of(options.features, options.weights)
    bad = Bad(options.max_bad)
    real = _side(options.real, options.n_real, options, space, bad)
    fake = _side(options.fake, options.n_fake, options, space, bad)
    scores, notes = evaluating.scores_of(real, fake, space, metrics, Scoring(options.resamples, options.seed))
    report = {
        "real": str(options.real),
        "fake": str(options.fake),
        "space": vars(space.identity),
        "size": options.size,
        "seed": options.seed,
        "resamples": options.resamples,
        "scores": [evaluating.score_facts(score) for score in scores],
        "notes": notes,
        "bad": bad.found,
    }
    write(options.out / "evaluate.json", report)
    return report


def _side(path: Path, count: int | None, options: Options, space: evaluating.FeatureSpace, bad: Bad) -> Side:
    if evaluating.is_statistics(path):
        return evaluating.statistics_side(path, count, space)
    source = PictureSource(
        path, size=options.size, count=options.count, seed=options.seed, image_column=options.image_column
    )
    shelf = Shelf(options.out / "features", space, source.fingerprint)
    extract(source, shelf, options.batch, bad)
    return shelf.side(str(path), source.chosen)


def extract(source: PictureSource, shelf: Shelf, batch: int, bad: Bad) -> None:
    """Bring the features of a source to completion, with a bar on the terminal's error output."""
    from tqdm import tqdm

    missing = shelf.missing(source.chosen)
    with tqdm(total=len(source), initial=len(source) - len(missing), desc=f"{source.path.name}", unit="img") as bar:
        for done in shelf.fill(picture_batches(source, missing, batch, bad.found)):
            bar.update(done)
            bad.require_few()
    bad.require_few()


def write(path: Path, report: dict[str, Any]) -> None:
    """Write JSON, under a partial name first."""
    write_whole(path, (json.dumps(report, indent=2) + "\n").encode())


def table(report: dict[str, Any]) -> str:
    """The report as lines of text: each score's first line says what it is."""
    lines = [score["line"] for score in report["scores"]]
    lines += [f"note: {note}" for note in report["notes"]]
    lines += [f"left out: {where}: {why}" for where, why in report["bad"].items()]
    digest = report["space"]["sha256"]
    weights = f", weights {digest[:12]}" if digest else ""
    return "\n".join([*lines, f"features: {report['space']['name']}, version {report['space']['version']}{weights}"])
