"""`conprediff study metrics`: whether scores follow how bad pictures are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from reproductions.commands.command import carry_out
from reproductions.commands.evaluate import Bad, extract
from reproductions.commands.evaluation_options import CorruptionOptions
from reproductions.drawn.degradations import DROPPED, DROPPING, PER_PICTURE, Degradation, keeping
from reproductions.drawn.drawing import shuffled
from reproductions.gathering.picture_source import PictureSource, picture_batches
from reproductions.stages import evaluating
from reproductions.stages.evaluating import Scoring, Shelf, Side
from reproductions.studies.corruption_report import write_report

METRICS = ("fid", "kid", "pr")
UNTOUCHED = "none"


@dataclass(frozen=True)
class Case:
    """One corruption at one strength."""

    corruption: str
    strength: float


def study(options: CorruptionOptions) -> int:
    """Extract what is missing, score, write; returns the exit code."""
    return carry_out(lambda: print(write_report(options.out, _measured(options))), options.out)


def _measured(options: CorruptionOptions) -> dict[str, Any]:
    space = evaluating.space_of(options.features, options.weights)
    real = PictureSource(options.real, count=options.real_count, seed=options.seed)
    everything = PictureSource(options.fake)
    order = shuffled(np.arange(len(everything)), options.seed)
    labels = everything.labels()
    kept = {n: keeping(labels, n, options.fake_count, order) for n in (0, *DROPPED)}
    root, how = options.out / "features", Scoring(options.resamples, options.seed)
    shelf = partial(Shelf, root, space)
    reference = _reference(real, shelf(real.fingerprint), options.batch)
    plain = shelf(everything.fingerprint)
    needed = sorted(set().union(*kept.values()))
    _fill(plain, everything, needed, options.batch, None)
    cases: dict[Case, Side] = {Case(UNTOUCHED, 0): plain.side(UNTOUCHED, kept[0])}
    for degradation in PER_PICTURE:
        for strength in degradation.strengths:
            made = shelf(f"{everything.fingerprint} {degradation.name} {strength} {options.seed}")
            _fill(made, everything, kept[0], options.batch, (degradation, strength, options.seed))
            cases[Case(degradation.name, strength)] = made.side(degradation.name, kept[0])
    cases |= {Case(DROPPING, n): plain.side(DROPPING, kept[n]) for n in DROPPED}
    rows = []
    for case, side in tqdm(cases.items(), desc="scores", unit="case"):
        scores, _ = evaluating.scores_of(reference, side, space, METRICS, how)
        rows.append({**vars(case), "scores": [evaluating.score_facts(score) for score in scores]})
    return {
        "real": options.real.name,
        "fake": options.fake.name,
        "space": vars(space.identity),
        "seed": options.seed,
        "resamples": options.resamples,
        "rows": rows,
    }


def _reference(source: PictureSource, shelf: Shelf, batch: int) -> Side:
    extract(source, shelf, batch, Bad(0))
    return shelf.side("real", source.chosen)


def _fill(
    shelf: Shelf,
    source: PictureSource,
    wanted: Sequence[int],
    batch: int,
    how: tuple[Degradation, float, int] | None,
) -> None:
    missing, bad = shelf.missing(wanted), Bad(0)
    name = "untouched" if how is None else f"{how[0].name} {how[1]:g}"
    batches = picture_batches(source, missing, batch, bad.found)
    with tqdm(total=len(wanted), initial=len(wanted) - len(missing), desc=name, unit="img") as bar:
        for done in shelf.fill(batches if how is None else _degraded(batches, *how)):
            bar.update(done)
    bad.require_few()


def _degraded(
    batches: Iterator[tuple[list[int], torch.Tensor]], degradation: Degradation, strength: float, seed: int
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """The batches, made worse: a picture's noise depends on the seed and its own number alone."""
    for indices, images in batches:
        worse = [
            degradation.apply(image.permute(1, 2, 0).contiguous().numpy(), strength, np.random.RandomState([seed, i]))
            for i, image in zip(indices, images, strict=True)
        ]
        yield indices, torch.from_numpy(np.stack(worse)).permute(0, 3, 1, 2).contiguous()
