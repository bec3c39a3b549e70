"""Table 2 of ConPreDiff: pictures filled in behind RePaint's six kinds of masks.

Source: ConPreDiff Table 2
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from reproductions.artefacts import Desk, Stage
from reproductions.costs import Size
from reproductions.data import Split
from reproductions.experiment import Context, Family, Kind, Model, Row, Table
from reproductions.gathering.splits import HELD_OUT
from reproductions.located import Located
from reproductions.modelling import Ground
from reproductions.picture_tables import Planned, Run, reproduce
from reproductions.reporting.findings import Better, Illustration
from reproductions.sampled_rows import OF_LATENTS, model_of, nearest, on
from reproductions.stages import latent_denoising, painting, scale_costs, token_denoising
from reproductions.stages.evaluating import REPAINT_MASKS, MaskKind
from reproductions.table_options import InpaintingTableOptions
from reproductions.table_profiles import Sizes
from reproductions.table_report import MEANINGS, pictures, report_of, wall

LPIPS = ("LPIPS Wide", "LPIPS Narrow", "LPIPS SR 2x", "LPIPS Altern.", "LPIPS Half", "LPIPS Expand")
MASKS = tuple(kind.name for kind in REPAINT_MASKS)
COLUMNS = 8

# fmt: off
PAPER: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "CelebA-HQ": {
        "AOT": (0.104, 0.047, 0.714, 0.667, 0.287, 0.604),
        "DSI": (0.067, 0.038, 0.128, 0.049, 0.211, 0.487),
        "ICT": (0.063, 0.036, 0.483, 0.353, 0.166, 0.432),
        "DeepFillv2": (0.066, 0.049, 0.119, 0.049, 0.209, 0.467),
        "LaMa": (0.045, 0.028, 0.177, 0.083, 0.138, 0.342),
        "RePaint": (0.059, 0.028, 0.029, 0.009, 0.165, 0.435),
        "ConPreDiff": (0.042, 0.022, 0.023, 0.022, 0.139, 0.297),
    },
    "ImageNet": {
        "DSI": (0.117, 0.072, 0.153, 0.069, 0.283, 0.583),
        "ICT": (0.107, 0.073, 0.708, 0.620, 0.255, 0.544),
        "LaMa": (0.105, 0.061, 0.272, 0.121, 0.254, 0.534),
        "RePaint": (0.134, 0.064, 0.183, 0.089, 0.304, 0.629),
        "ConPreDiff": (0.098, 0.057, 0.129, 0.107, 0.285, 0.506),
    },
}
# fmt: on
KINDS = {"RePaint": Kind.CONTINUOUS, "ConPreDiff": Kind.CONTINUOUS, "DSI": Kind.AUTOREGRESSIVE}
KINDS |= {"ICT": Kind.AUTOREGRESSIVE} | dict.fromkeys(("AOT", "DeepFillv2", "LaMa"), Kind.GAN)

TABLE = Table(
    name="table2",
    title="Filling in (ConPreDiff, Table 2: LPIPS on 100 pictures behind each of six kinds of masks, 256x256)",
    columns=LPIPS,
    # fmt: off
    rows=(
        Row("RePaint", Kind.CONTINUOUS, method=Model(Family.DDPM), note="on our own DDPM"),
        Row(
            "ConPreDiff",
            Kind.CONTINUOUS,
            method=Model(Family.DDPM, Context()),
            baseline="RePaint",
            note="RePaint on the same DDPM, trained with the context loss",
        ),
        Row("LDM, mixing", Kind.CONTINUOUS, method=Model(Family.LDM), note="not in the paper's table"),
        Row(
            "VQ-Diffusion, masked tokens",
            Kind.DISCRETE,
            method=Model(Family.VQ_DIFFUSION),
            note="not in the paper's table",
        ),
        Row("ImageBART, editing", Kind.DISCRETE, method=Model(Family.IMAGEBART), note="not in the paper's table"),
    ),
    # fmt: on
    notes=(
        "In the paper's own table ConPreDiff is not best on Alternating Lines or Half, on either data set, although "
        "its abstract says that it consistently is.",
        "All models were trained for whole pictures; none was trained with masks. What a mask shows stays as it is.",
        "Where a kind of mask leaves no latent or token unhidden, as every second line does, models of latents and "
        "tokens have nothing to go by and are not run.",
    ),
)
MEANT = (
    *MEANINGS,
    ("LPIPS[alex]", Better.LOWER, "Learned perceptual distance of filled-in pictures from their originals, AlexNet."),
    (
        "distance[",
        Better.LOWER,
        "Squared distance of filled-in pictures from their originals between features of length 1, in the space that "
        "the name says; it stands where the paper has LPIPS, and is another measure.",
    ),
    (painting.HIDDEN, Better.HIGHER, "PSNR in dB of what masks hid, mean over the masks that the row was run with."),
)


def plan(
    rows: Sequence[Row], grounds: Mapping[str, Ground], seeds: Sequence[int], *, lpips: tuple[Located, ...] = ()
) -> Planned:
    """The stages that train, fill in behind every mask, and compare, for each data set."""
    shown: list[Row] = []
    runs: dict[str, dict[int, Run]] = {}
    selected = {row.approach for row in rows}
    for title, ground in grounds.items():
        published = PAPER.get(title, {})
        for row in rows:
            approach = on(row.approach, title)
            paper = dict(zip(LPIPS, published.get(row.approach, ()), strict=False))
            baseline = on(row.baseline, title) if row.baseline in selected else None
            shown.append(replace(row, approach=approach, paper=paper, baseline=baseline))
            runs[approach] = {seed: run_of(ground, model_of(row), seed, lpips) for seed in seeds}
    cited = [
        Row(on(approach, name), KINDS[approach], dict(zip(LPIPS, values, strict=True)))
        for name, approaches in PAPER.items()
        for approach, values in approaches.items()
        if on(approach, name) not in runs
    ]
    return Planned(grounds, [*shown, *cited], runs, {})


def run_of(ground: Ground, model: Model, seed: int, lpips: tuple[Located, ...]) -> Run:
    """A model trained, and held-out pictures filled in behind every mask that leaves it something to go by."""
    trained, how = ground.trained(model, seed), ground.sizes.repainting
    name = f"{ground.called}{ground.name_of(model)} seed {seed}"
    kinds = masks_for(model.family, ground.sizes)
    filled = {}
    for kind in kinds:
        guidance = getattr(ground.walk(model.family), "guidance", 1.0)
        settings = painting.Painting(
            trained.training,
            kind,
            how,
            guidance,
            seed,
            ground.sizes.profile.sampling_batch,
            jumps=model.family is Family.DDPM,
        )
        fill, cost = _filling(ground, model.family, settings)
        filled[f"filled {kind.name}"] = Stage(f"{name} {kind.name}", fill, settings, trained.inputs, cost=cost)
    reading = {key: stage for key, stage in ground.reading.items() if key != "real"}
    comparing = painting.Comparing(ground.space, lpips, kinds, how.number)
    inputs = {**reading, **filled}
    return Run(trained.trainings, None, Stage(f"{name} distances", painting.compare, comparing, inputs, version=2))


def _filling(
    ground: Ground, family: Family, settings: painting.Painting
) -> tuple[Callable[[Desk], None], Callable[[], Size]]:
    """What fills pictures in, and counts what that costs."""
    training, how = settings.training, settings.how
    if family is Family.IMAGEBART:
        return painting.by_scales, partial(scale_costs.drawing_cost, training, how.number, how.chains)
    if family is Family.VQ_DIFFUSION:
        calls = settings.calls(ground.sizes.tokens.side**2)
        return painting.by_tokens, partial(token_denoising.drawing_cost, training, *ground.codes, how.number, calls)
    cost = partial(latent_denoising.drawing_cost, training, ground.shape(family), how.number, settings.calls(None))
    return painting.by_latents, cost


def masks_for(family: Family, sizes: Sizes) -> tuple[MaskKind, ...]:
    """The kinds of masks behind which a model has something to go by."""
    if family is Family.DDPM:
        return tuple(REPAINT_MASKS)
    grid = (sizes.latents if family in OF_LATENTS else sizes.tokens).side
    number, side = sizes.repainting.number, sizes.profile.resolution
    return tuple(kind for kind in REPAINT_MASKS if painting.keeps_some(kind, number, side, grid))


def illustrate(planned: Planned, root: Path) -> list[Illustration]:
    """For each kind of mask, the first pictures, what is shown of them, and how each row fills them in.

    Then the training pictures that those with the most filled in are nearest to: the last kind's.
    """
    found = []
    for i, (title, ground) in enumerate(planned.grounds.items(), 1):
        number, several = min(COLUMNS, ground.sizes.repainting.number), len(planned.grounds) > 1
        real = pictures_held_out(ground, root, number)
        for kind in REPAINT_MASKS:
            rows = {"original": real, "shown": torch.where(painting.masks_of(kind, real), 128, real)}
            for approach, runs in planned.runs.items():
                stage = next(iter(runs.values())).scores.inputs.get(f"filled {kind.name}")
                if stage is not None and approach.endswith(on("", title)):
                    rows[approach.removesuffix(on("", title))] = pictures(stage, root, number)
            words = f"Held-out pictures of {title} behind {kind.name} masks, and as each row fills them in."
            name = kind.name.replace(" ", "-") + (f"-{i}" if several else "")
            found.append(wall(name, f"{kind.name}, {title}".capitalize(), words, rows))
        drawn = {name: images for name, images in rows.items() if name not in ("original", "shown")}
        found.append(nearest(f"nearest-{i}", ground, root, drawn))
    return found


def pictures_held_out(ground: Ground, root: Path, number: int) -> Tensor:
    """The first held-out pictures."""
    return Split.load(ground.data.folder(root) / HELD_OUT).images[:number]


def weights(options: InpaintingTableOptions) -> tuple[Located, ...]:
    """The files of LPIPS' weights.

    Raises:
        FileNotFoundError: where one is not there.
    """
    for file in options.lpips:
        if not file.expanduser().is_file():
            raise FileNotFoundError(
                f"--lpips: there is no file {file}; give the AlexNet trunk's weights and the linear layers' as "
                "safetensors, or leave it out"
            )
    return tuple(Located(file) for file in options.lpips)


def table2(options: InpaintingTableOptions) -> int:
    """Measure Table 2's rows on each data set and write the report; returns the exit code."""

    def planned(rows: Sequence[Row], grounds: Mapping[str, Ground], seeds: Sequence[int]) -> Planned:
        return plan(rows, grounds, seeds, lpips=weights(options))

    return reproduce(
        TABLE, options, planned, partial(report_of, illustrate=illustrate, meanings=MEANT, order=MASKS), repeats=1
    )
