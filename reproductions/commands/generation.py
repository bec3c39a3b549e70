"""`conprediff sample`, `inpaint` and `upscale`: pictures of a trained run, each written once, each by its own seed."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from reproductions.artefacts import plain, write_json, write_whole
from reproductions.commands.command import carry_out
from reproductions.commands.generation_options import GenerationOptions, InpaintOptions, SampleOptions, UpscaleOptions
from reproductions.commands.hiding import check_mask, masks
from reproductions.commands.prompting import for_pictures, for_samples, for_words
from reproductions.gathering.picture_source import PictureSource
from reproductions.gathering.pictures import BadPicture, decode, fit
from reproductions.located import Located
from reproductions.recipes.tasks import Inpainting, SuperResolution, Task
from reproductions.reporting.grids import picture, png
from reproductions.stages.generating import Asked, Opened, opened
from reproductions.trained_runs import TrainedRun, trained_run

MANIFEST = "manifest.json"
Make = Callable[[Sequence[int]], Tensor]


def sample(options: SampleOptions) -> int:
    """Draw pictures; returns the exit code."""
    return _command(options, _sample)


def inpaint(options: InpaintOptions) -> int:
    """Fill pictures in; returns the exit code."""
    return _command(options, _inpaint)


def upscale(options: UpscaleOptions) -> int:
    """Enlarge pictures; returns the exit code."""
    return _command(options, _upscale)


def _command(options: Any, work: Callable[[Any, TrainedRun, Opened], Callable[[], None]]) -> int:
    """Open the run, and only then write anything."""
    try:
        if options.batch < 1:
            raise ValueError(f"--batch must be at least 1, got {options.batch}")
        run = trained_run(options.run)
        model = opened(run, _asked(options))
        prepared = work(options, run, model)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return carry_out(prepared, options.out)


def _asked(options: GenerationOptions) -> Asked:
    """How to draw, as far as the command line says."""
    named = {each.name: getattr(options, each.name, each.default) for each in fields(Asked)}
    return Asked(**named)


def _sample(options: SampleOptions, run: TrainedRun, model: Opened) -> Callable[[], None]:
    if options.number < 1:
        raise ValueError(f"--number must be at least 1, got {options.number}")
    if model.task is not None:
        raise ValueError(f"--run: {_trained_to(model.task)}")
    wanted = for_samples(model, options.number, options.captions, options.only)
    names = [f"{i:05d}" for i in range(options.number)]
    facts = _facts(options, run, model)
    words = dict(zip(names, wanted.words, strict=True))

    def make(which: Sequence[int]) -> Tensor:
        given = None if wanted.values is None else wanted.values[list(which)]
        return model.pictures(given, which, options.seed)

    return lambda: _write(options, facts, words, make)


def _inpaint(options: InpaintOptions, run: TrainedRun, model: Opened) -> Callable[[], None]:
    if isinstance(model.task, SuperResolution):
        raise ValueError(f"--run: {_trained_to(model.task)}")
    source, names = _pictures(options, model.side)
    check_mask(options.mask, model.side)
    model.check_kept(masks(options.mask, [0], model.side, options.seed))
    way = _way(options, model)
    wanted = for_pictures(model, len(source), options.condition)
    mask = str(Located(Path(options.mask))) if Path(options.mask).expanduser().is_file() else options.mask
    facts = {**_facts(options, run, model), "way": way, "mask": mask, "images": source.fingerprint}
    facts["chains"] = plain(options.chains) or None

    def make(which: Sequence[int]) -> Tensor:
        read = torch.stack([_read(source, i) for i in which])
        given = None if wanted.values is None else wanted.values[list(which)]
        return model.fill(
            way, read, masks(options.mask, list(which), model.side, options.seed), given, which, options.seed
        )

    return lambda: _write(options, facts, dict(zip(names, wanted.words, strict=True)), make)


def _upscale(options: UpscaleOptions, run: TrainedRun, model: Opened) -> Callable[[], None]:
    task = model.task
    if not isinstance(task, SuperResolution):
        why = "it was trained to draw; `conprediff sample` draws pictures" if task is None else _trained_to(task)
        raise ValueError(f"--run: {why}; `train continuous --task super-resolution` trains what enlarges")
    if not 0 <= options.level <= task.augmentation:
        raise ValueError(
            f"--level: {options.level} is not in 0..{task.augmentation}, the steps to which small pictures were noised "
            "in the training (its --augmentation)"
        )
    source, names = _pictures(options, model.side // task.factor)
    words = drawn_for(options.images, names) if options.condition is None and model.told.kind != "none" else None
    wanted = for_pictures(model, len(source), options.condition) if words is None else for_words(model, words)
    facts = {**_facts(options, run, model), "level": options.level, "images": source.fingerprint}

    def make(which: Sequence[int]) -> Tensor:
        small = torch.stack([_read(source, i) for i in which])
        given = None if wanted.values is None else wanted.values[list(which)]
        return model.enlarge(small, given, which, options.seed, level=options.level)

    return lambda: _write(options, facts, dict(zip(names, wanted.words, strict=True)), make)


def drawn_for(folder: Path, names: Sequence[str]) -> list[str] | None:
    """What the pictures of a folder were drawn for, where one of these commands wrote it."""
    manifest = folder.expanduser() / MANIFEST
    told = json.loads(manifest.read_text())["pictures"] if manifest.is_file() else {}
    return [told[name] for name in names] if set(names) <= told.keys() else None


def _trained_to(task: Task) -> str:
    command, what = ("inpaint", "fill in") if isinstance(task, Inpainting) else ("upscale", "enlarge")
    return f"it was trained to {what}; `conprediff {command}` does that"


def _pictures(options: InpaintOptions | UpscaleOptions, side: int) -> tuple["PictureSource | OnePicture", list[str]]:
    """The pictures that are asked for, brought to a side, and their names; they are not where others are written."""
    source = _source(options.images, side)
    images = options.images.expanduser().resolve()
    if options.out.expanduser().resolve() == (images if images.is_dir() else images.parent):
        raise ValueError(f"--out: {options.out} is where the pictures are; choose another folder")
    stems = [Path(source.where(i)).stem for i in range(len(source))]
    names = stems if len(set(stems)) == len(stems) else [f"{i:05d}" for i in range(len(source))]
    return source, names


class OnePicture:
    """One picture file, as `PictureSource` has many."""

    def __init__(self, path: Path, side: int) -> None:
        self.path, self.side = path.expanduser(), side
        self.fingerprint = f"{Located(path)} {side}"

    def __len__(self) -> int:
        return 1

    def where(self, index: int) -> str:
        return str(self.path)

    def read(self, index: int) -> npt.NDArray[np.uint8]:
        return fit(decode(self.path.read_bytes()), self.side)


def _source(path: Path, side: int) -> PictureSource | OnePicture:
    """The pictures of a path, brought to a side."""
    alone = path.expanduser().is_file() and path.suffix != ".parquet"
    return OnePicture(path, side) if alone else PictureSource(path, size=side)


def _read(source: PictureSource | OnePicture, index: int) -> Tensor:
    """One picture (3, S, S), uint8; ValueError, which names it, where it cannot be decoded."""
    try:
        return torch.from_numpy(source.read(index).copy()).permute(2, 0, 1).contiguous()
    except BadPicture as reason:
        raise ValueError(f"--images: {source.where(index)}: {reason}; take it out, or mend it") from None


def _way(options: InpaintOptions, model: Opened) -> str:
    """The way to fill in that is asked for."""
    if model.restorer is not None:
        if options.method is not None:
            raise ValueError(f"--method: this run fills in as it was trained, not by {options.method}; leave it out")
        return "as trained"
    by_name = {way.lower(): way for way in model.ways}
    if options.method is None:
        return next(iter(model.ways))
    if options.method not in by_name:
        raise ValueError(
            f"--method: {options.method} fills in pixels and latents, and this run draws tokens; leave it out"
        )
    return by_name[options.method]


def _facts(options: GenerationOptions, run: TrainedRun, model: Opened) -> dict[str, Any]:
    """What a picture depends on besides its place and what it is drawn for."""
    walk = asdict(model.walk)
    return plain({"run": run.folder.name, "seed": options.seed, "walk": walk, "precision": options.precision})


def _write(options: GenerationOptions, facts: Mapping[str, Any], words: Mapping[str, str], make: Make) -> None:
    """Make the pictures that are missing, in batches: `<name>.png`; what they are: `manifest.json`.

    Raises:
        ValueError: where the folder holds pictures that were made otherwise.
    """
    manifest = options.out / MANIFEST
    before = json.loads(manifest.read_text()) if manifest.is_file() else {**facts, "pictures": {}}
    told = {**before["pictures"], **words}
    wrong = [name for name in facts if before.get(name) != facts[name]]
    wrong += [
        f"what {name}.png is drawn for" for name in words if told[name] != before["pictures"].get(name, told[name])
    ]
    if wrong:
        raise ValueError(
            f"--out: {options.out} holds pictures made otherwise ({', '.join(wrong[:3])}); choose another folder"
        )
    write_json(manifest, {**facts, "pictures": told})
    names = list(words)
    missing = [i for i, name in enumerate(names) if not (options.out / f"{name}.png").exists()]
    with tqdm(total=len(names), initial=len(names) - len(missing), unit="picture", disable=None) as bar:
        for which in _batches(missing, options.batch):
            for i, image in zip(which, make(which), strict=True):
                _save(options.out / f"{names[i]}.png", image)
            bar.update(len(which))
    print(f"{len(missing)} pictures drawn, {len(names) - len(missing)} there already, in {options.out}")


def _batches(which: Sequence[int], batch: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(which), batch):
        yield which[start : start + batch]


def _save(path: Path, image: Tensor) -> None:
    write_whole(path, png(picture(image)))
