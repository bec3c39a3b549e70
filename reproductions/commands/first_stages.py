"""`conprediff train autoencoder` and `conprediff study autoencoders`: first stages, one by one or side by side."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from reproductions import ranks
from reproductions.artefacts import Desk, Stage, sha256, upstream
from reproductions.commands.command import carry_out, describe, processes
from reproductions.commands.first_stage_options import Common, StudyOptions, TrainOptions
from reproductions.commands.first_stage_report import write_comparison
from reproductions.data import DataSettings, fingerprint
from reproductions.gathering.splits import HELD_OUT
from reproductions.gathering.uncaptioned import check_pictures, load_pictures
from reproductions.loop.steps import TrainingSettings
from reproductions.reporting.provenance import provenance
from reproductions.runner import run
from reproductions.stages import measuring, presets
from reproductions.stages.preparing import keep

STUDY = {
    "VQ, gradient": "vq-gradient-f4-32",
    "VQ, moving averages": "vq-ema-f4-32",
    "VQ, moving averages, revival": "vq-f4-32",
    "VQ, cosine, moving averages, revival": "vq-cosine-f4-32",
    "FSQ": "fsq-f4-32",
    "LFQ": "lfq-f4-32",
    "KL": "kl-f4-32",
    "KL, as many bits as codes": "kl-f4-32",
}
LARGER = {"VQ, moving averages, revival": "vq-f4-64", "KL": "kl-f4-64"}
KL_WEIGHTS = {"KL, as many bits as codes": 1e-4}


def train(options: TrainOptions) -> int:
    """Train one preset and measure its reconstructions; returns the exit code."""

    def plan() -> dict[str, Variant]:
        return _plan(
            {options.preset: options.preset},
            options,
            batch=options.batch,
            rate=options.learning_rate,
            kl_weight=options.kl_weight,
            adversarial=options.adversarial,
            lpips=_hashed("--lpips", options.lpips),
        )

    name = f"{options.preset}-{options.data.strip('./').replace('/', '-')}"
    return _command(plan, options, options.out or Path("outputs") / name)


def study(options: StudyOptions) -> int:
    """Train all bottlenecks at one size and budget, at 8 bits a token, and compare them; returns the exit code."""
    side = 64 if options.larger else 32
    name = f"autoencoders-{side}-{options.data.strip('./').replace('/', '-')}"
    return _command(
        partial(_plan, LARGER if options.larger else STUDY, options), options, options.out or Path("outputs") / name
    )


@dataclass(frozen=True)
class Variant:
    """The stages of one autoencoder."""

    trained: Stage
    scores: Stage


def _plan(
    names: Mapping[str, str],
    options: Common,
    *,
    batch: int | None = None,
    rate: float | None = None,
    kl_weight: float = 1e-6,
    adversarial: bool = False,
    lpips: Mapping[str, str] | None = None,
) -> dict[str, Variant]:
    """The stages that train and measure presets on one data set."""
    _require_positive(options)
    settings = {
        title: presets.preset_training(
            name,
            _training(name, options, batch, rate),
            reconstructions=options.held_out,
            unquantised=min(6_400, options.samples // 10),
            kl_weight=KL_WEIGHTS.get(title, kl_weight),
            adversarial=adversarial,
            lpips=lpips,
        )
        for title, name in names.items()
    }
    data = DataSettings(
        name=options.data,
        resolution=presets.preset_resolution(next(iter(names.values()))),
        train_size=options.train_size,
        held_out_size=options.held_out,
        image_column=options.image_column,
        max_bad=options.max_bad,
        revision=options.revision,
    )
    check_pictures(data)
    source = Stage("pictures", read_pictures, Pictures(data, fingerprint(data)))
    comparing = measuring.Comparing(None)
    if options.features is not None:
        ((path, digest),) = _hashed("--features", [options.features]).items()
        comparing = measuring.Comparing(path, digest)
    variants = {}
    for title, setting in settings.items():
        size = partial(presets.preset_size, setting)
        trained = Stage(
            f"{setting.preset} train", presets.train_preset, setting, {"data": source}, size=size, shared=True
        )
        scores = Stage(f"{setting.preset} scores", measuring.compare, comparing, {"images": trained, "data": source})
        variants[title] = Variant(trained, scores)
    return variants


def _training(name: str, options: Common, batch: int | None, rate: float | None) -> TrainingSettings:
    own_batch, own_rate, betas = presets.preset_recipe(name)
    batch = batch or own_batch
    return TrainingSettings(
        samples=options.samples,
        batch=batch,
        learning_rate=rate or own_rate * batch / own_batch,
        betas=betas,
        warmup=30 * batch,
        precision=options.precision,
        seed=options.seed,
        log_every=25,
    )


def _hashed(option: str, files: Sequence[Path]) -> dict[str, str]:
    """Where the files lie, and their hashes."""
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{option}: there is no file {file}")
    return {str(file.resolve()): sha256(file) for file in files}


def _require_positive(options: Common) -> None:
    for name in ("samples", "train_size", "held_out"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(options, name)}")
    if options.precision not in ("no", "bf16"):
        raise ValueError(f"--precision must be no or bf16, got {options.precision!r}")


@dataclass(frozen=True)
class Pictures:
    """What to read, and what it was when the plan was made."""

    data: DataSettings
    fingerprint: str


def read_pictures(desk: Desk) -> None:
    """Read a data set without its captions: `train/`, `held_out/` and `facts.json`."""
    pictures: Pictures = desk.settings
    keep(lambda: load_pictures(pictures.data, desk.folder, progress=desk.track), desk)


def _command(plan: Callable[[], dict[str, Variant]], options: Common, out: Path) -> int:
    """Plan, run, report; returns the exit code."""
    try:
        variants = plan()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    stages = [variant.scores for variant in variants.values()]
    if options.dry_run:
        print(describe(upstream(stages), out))
        return 0
    workers, threads = processes(options.workers)

    def measure() -> None:
        receipts = run(stages, out, workers=workers, threads=threads)
        if ranks.leads():
            print(write_comparison(out, _results(variants, options, out, receipts), _pictures(variants, out)))

    return carry_out(measure, out)


def _results(
    variants: Mapping[str, Variant], options: Common, out: Path, receipts: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything that was found, as JSON-able data."""
    root = out / "stages"
    first = next(iter(variants.values()))
    facts = _json(first.trained.inputs["data"].folder(root) / "facts.json")
    facts["name"] = Path(facts["name"]).name
    rows = []
    for title, variant in variants.items():
        setting = variant.trained.settings
        folder = variant.trained.folder(root)
        rows.append(
            {
                "autoencoder": title,
                "preset": setting.preset,
                "kl weight": setting.stage.kl_weight,
                **(variant.trained.size() if variant.trained.size else {}),
                "seconds": receipts[variant.trained.digest]["cost"]["seconds"],
                "codes": _json(folder / "codes.json"),
                "scores": _json(variant.scores.folder(root) / "scores.json"),
                "weights sha256": receipts[variant.trained.digest]["files"]["autoencoder/model.safetensors"],
            }
        )
    training = first.trained.settings.stage.training
    return {
        **provenance(),
        "data": facts,
        "training": vars(training),
        "features": first.scores.settings.sha256,
        "rows": rows,
    }


def _pictures(variants: Mapping[str, Variant], out: Path) -> dict[str, Any]:
    """Held-out images and each autoencoder's reconstructions of them."""
    from safetensors.torch import load_file

    from reproductions.data import Split

    root = out / "stages"
    first = next(iter(variants.values()))
    real = Split.load(first.trained.inputs["data"].folder(root) / HELD_OUT).images
    found = {
        title: load_file(v.trained.folder(root) / "reconstructions.safetensors")["images"]
        for title, v in variants.items()
    }
    return {"held out": real[: len(next(iter(found.values())))], **found}


def _json(path: Path) -> Any:
    return json.loads(path.read_text())
