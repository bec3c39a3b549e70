"""What the commands of Tables 2 and 3 and of Figures 4 and 5 take; imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class TableOptions:
    """What a table of models trained on pictures takes."""

    profile: str = "cpu"
    """How much of everything: smoke, cpu, gpu or paper."""
    data: str = "shapes"
    """One or more, "A,B": shapes, shapes-hard, digits, a folder of images, a parquet file or folder, .tar shards
    ("shards/{00000..00009}.tar"), or a hub id; checked against what the paper's sets hold with their names before it:
    ffhq=, celebahq=, churches=, bedrooms=, imagenet=, coco=, coco-karpathy=, cub=, laion=."""
    condition: Literal["none", "class"] = "none"
    """What models are told: nothing, as in the paper, or the classes of the data."""
    rows: str | None = None
    """Rows to measure, "A,B" (all that can be)."""
    seeds: str | None = None
    """Seeds of training and sampling, "0,1,2" (as many as fit the profile); two or more give intervals."""
    features: str | None = None
    """Feature space of the scores: a name (pixels, inception-legacy_tensorflow, ...) or the weights of a CIFAR residual
    network. Without it the judge of a drawn set, otherwise pixels."""
    out: Path | None = None
    """Where everything is written (outputs/<table>-<profile>-<data>)."""
    dry_run: bool = False
    """Print the plan, with its parameters, operations, memory, storage and device-hours, and stop."""
    devices: int = 1
    """With --dry-run: devices that share every batch."""
    achieved: float = 1e14
    """With --dry-run: floating-point operations a second that one device achieves."""
    image_column: str = "image"
    """Column of a data set that holds the images."""
    label_column: str = "label"
    """Column that holds the labels, which must have names."""
    revision: str | None = None
    """Revision of a hub data set."""
    max_bad: int = 0
    """How many unreadable images to leave out before giving up."""
    workers: int | None = None
    """Stages at a time, each in its own process (one per core, or one where there is a GPU; 0: all in this process)."""


@dataclass(frozen=True)
class InpaintingTableOptions(TableOptions):
    """What a table of filled-in pictures takes besides."""

    lpips: tuple[Path, ...] = ()
    """Files of LPIPS' weights (safetensors): the AlexNet trunk's, then the linear layers'. Without them distances are
    in the feature space, and are called so."""
