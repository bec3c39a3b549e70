"""Table 3 of ConPreDiff: unconditional pictures, 256x256.

Source: ConPreDiff Table 3
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from reproductions import sampled_rows
from reproductions.experiment import Context, Family, Kind, Model, Row, Table
from reproductions.modelling import Ground
from reproductions.picture_tables import Planned, reproduce
from reproductions.sampled_rows import on
from reproductions.table_options import TableOptions
from reproductions.table_profiles import paper_name
from reproductions.table_report import report_of

FID, PRECISION, RECALL = "FID", "Precision", "Recall"
GAN, AR, VAE, DISCRETE, CONTINUOUS = Kind.GAN, Kind.AUTOREGRESSIVE, Kind.VAE, Kind.DISCRETE, Kind.CONTINUOUS

# fmt: off
PAPER: Mapping[str, Sequence[tuple[str, Kind, tuple[float, ...]]]] = {
    "FFHQ": (
        ("ImageBART", DISCRETE, (9.57,)),
        ("U-Net GAN (+aug)", GAN, (7.6,)),
        ("UDM", CONTINUOUS, (5.54,)),
        ("StyleGAN", GAN, (4.16, 0.71, 0.46)),
        ("ProjectedGAN", GAN, (3.08, 0.65, 0.46)),
        ("LDM", CONTINUOUS, (4.98, 0.73, 0.50)),
        ("ConPreDiff", CONTINUOUS, (2.24, 0.81, 0.61)),
    ),
    "CelebA-HQ": (
        ("DC-VAE", VAE, (15.8,)),
        ("VQGAN+T. (k=400)", AR, (10.2,)),
        ("PGGAN", GAN, (8.0,)),
        ("LSGM", CONTINUOUS, (7.22,)),
        ("UDM", CONTINUOUS, (7.16,)),
        ("LDM", CONTINUOUS, (5.11, 0.72, 0.49)),
        ("ConPreDiff", CONTINUOUS, (3.22, 0.83, 0.57)),
    ),
    "LSUN-Bedrooms": (
        ("ImageBART", DISCRETE, (5.51,)),
        ("DDPM", CONTINUOUS, (4.9,)),
        ("UDM", CONTINUOUS, (4.57,)),
        ("StyleGAN", GAN, (2.35, 0.59, 0.48)),
        ("ADM", CONTINUOUS, (1.90, 0.66, 0.51)),
        ("ProjectedGAN", GAN, (1.52, 0.61, 0.34)),
        ("LDM", CONTINUOUS, (2.95, 0.66, 0.48)),
        ("ConPreDiff", CONTINUOUS, (1.12, 0.73, 0.59)),
    ),
    "LSUN-Churches": (
        ("DDPM", CONTINUOUS, (7.89,)),
        ("ImageBART", DISCRETE, (7.32,)),
        ("PGGAN", GAN, (6.42,)),
        ("StyleGAN", GAN, (4.21,)),
        ("StyleGAN2", GAN, (3.86,)),
        ("ProjectedGAN", GAN, (1.59, 0.61, 0.44)),
        ("LDM", CONTINUOUS, (4.02, 0.64, 0.52)),
        ("ConPreDiff", CONTINUOUS, (1.78, 0.74, 0.61)),
    ),
}
# fmt: on

TABLE = Table(
    name="table3",
    title="Pictures without a condition (ConPreDiff, Table 3: 256x256)",
    columns=(FID, PRECISION, RECALL),
    rows=(
        Row("DDPM", CONTINUOUS, method=Model(Family.DDPM)),
        Row("ImageBART", DISCRETE, method=Model(Family.IMAGEBART)),
        Row("LDM", CONTINUOUS, method=Model(Family.LDM)),
        Row("ConPreDiff", CONTINUOUS, method=Model(Family.LDM, Context()), baseline="LDM"),
    ),
    notes=(
        "On LSUN-Churches the paper's ConPreDiff (1.78) is behind ProjectedGAN (1.59).",
        "ConPreDiff is LDM with the context loss: its row differs from LDM's in nothing else.",
        "The paper prints LDM's 4.02 on LSUN-Churches, which was published with three different numbers of steps.",
        "Samples are compared with training pictures, as LDM's protocol has it; the paper does not say with which.",
    ),
)


def plan(rows: Sequence[Row], grounds: Mapping[str, Ground], seeds: Sequence[int]) -> Planned:
    """The stages that measure `rows` on each data set, beside the paper's numbers where it is one of the paper's."""
    planned = sampled_rows.plan(rows, grounds, seeds)
    published = {on(approach, name): _paper(values) for name, rows in PAPER.items() for approach, _, values in rows}
    ours = {on(row.approach, paper_name(title) or title): on(row.approach, title) for title in grounds for row in rows}
    measured = {theirs: published[theirs] for theirs in ours if theirs in published}
    shown = [
        replace(row, paper=next((values for theirs, values in measured.items() if ours[theirs] == row.approach), {}))
        for row in planned.rows
    ]
    cited = [
        Row(on(approach, name), kind, published[on(approach, name)])
        for name, rows in PAPER.items()
        for approach, kind, _ in rows
        if on(approach, name) not in measured
    ]
    return replace(planned, rows=[*shown, *cited])


def _paper(values: Sequence[float]) -> dict[str, float]:
    return dict(zip((FID, PRECISION, RECALL), values, strict=False))


def table3(options: TableOptions) -> int:
    """Measure Table 3's rows on each data set and write the report; returns the exit code."""
    return reproduce(TABLE, options, plan, partial(report_of, illustrate=sampled_rows.illustrate), repeats=2)
