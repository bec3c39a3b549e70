"""What the study of the context loss takes; imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ContextStudyOptions:
    """What the study of the context loss takes."""

    profile: str = "cpu"
    """How much of everything: smoke, cpu or gpu."""
    data: str = "digits,shapes"
    """One or more, "A,B", in this order: digits, shapes, shapes-hard, a folder of images, a parquet file or folder, or
    a hub id. Every ablation is made on digits, the loss as it is by default on the others."""
    seeds: str | None = None
    """Seeds of training and sampling, "0,1,2" (five on digits, three on shapes, two on others)."""
    features: str | None = None
    """Feature space of the scores on data that are neither digits nor drawn: a name, or the weights of a CIFAR residual
    network. Without it, and on digits, pixels; on a drawn set its judge."""
    out: Path | None = None
    """Where everything is written (outputs/study-context-<profile>)."""
    dry_run: bool = False
    """Print the plan and stop."""
    image_column: str = "image"
    """Column of a data set that holds the images."""
    revision: str | None = None
    """Revision of a hub data set."""
    max_bad: int = 0
    """How many unreadable images to leave out before giving up."""
    workers: int | None = None
    """Stages at a time, each in its own process (one per core, or one where there is a GPU; 0: all in this process)."""
