"""What `conprediff evaluate` and `conprediff study metrics` take."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

Real = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="REAL")]
Fake = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FAKE")]


@dataclass(frozen=True)
class EvaluateOptions:
    """Two sides and how to compare them."""

    real: Real
    """The reference: a folder of pictures, a parquet file or folder, or statistics (.npz, .safetensors)."""
    fake: Fake
    """What is scored: the same kinds."""
    metrics: str = "fid,kid,pr"
    """Metrics, "fid,kid,pr": fid, kid, pr (precision and recall), dc (density and coverage), cmmd."""
    features: str = "inception"
    """inception, inception-legacy_tensorflow, inception-legacy_pytorch, clip, dinov2, pixels, or the path of the
    weights of a CIFAR residual network."""
    weights: str | None = None
    """File of the Inception weights, or folder or hub id of a CLIP or DINOv2 model."""
    size: int | None = None
    """Bring pictures to SIZE x SIZE first: central square, bicubic (they must have one size already)."""
    count: int | None = None
    """Take this many pictures of each side, chosen by the seed (all)."""
    n_real: int | None = None
    """Of how many images the statistics in REAL were made, where the file does not say."""
    n_fake: int | None = None
    """Likewise for FAKE."""
    seed: int = 0
    """Seed of the choice of pictures, of subsets and of resamples."""
    resamples: int = 20
    """Resamples for the interval of fid (0: no interval)."""
    batch: int = 64
    """Pictures at a time."""
    max_bad: int = 0
    """How many unreadable pictures to leave out before giving up."""
    image_column: str = "image"
    """Column of a parquet file that holds the pictures."""
    out: Path = Path("outputs/evaluate")
    """Where features and evaluate.json are written."""


@dataclass(frozen=True)
class CorruptionOptions:
    """How far scores move when pictures get worse, and whether they move the right way."""

    real: Real
    """The reference pictures: a parquet file, such as the training split of CIFAR-10."""
    fake: Fake
    """The pictures to corrupt: a parquet file with labels, such as the test split."""
    features: str = "pixels"
    """As for evaluate."""
    weights: str | None = None
    """As for evaluate."""
    real_count: int = 10_000
    """Reference pictures, chosen by the seed."""
    fake_count: int = 4_000
    """Corrupted pictures at every strength, chosen by the seed; half of the classes must hold as many."""
    seed: int = 0
    """Seed of choices, noise, subsets and resamples."""
    resamples: int = 20
    """Resamples for the interval of FID."""
    batch: int = 100
    """Pictures at a time."""
    out: Path = Path("outputs/corruptions")
    """Where features, corruptions.json, corruptions.md and corruptions.png are written."""
