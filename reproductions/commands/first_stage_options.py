"""What the commands about first stages take; imports nothing heavy, so that `--help` comes at once."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Common:
    """What both commands take."""

    data: str = "shapes"
    """A folder of images, a parquet file or folder, a hub id, shapes, shapes-hard or digits."""
    samples: int = 192_000
    """Images seen in training, all passes together."""
    out: Path | None = None
    """Where everything is written (outputs/<command>-...)."""
    train_size: int = 100_000
    """Most images to train on."""
    held_out: int = 10_000
    """Most held-out images to reconstruct and measure."""
    features: Path | None = None
    """Weights of a CIFAR residual network (safetensors) for the rFID; without them it is measured on pixels."""
    precision: str = "no"
    """no or bf16."""
    seed: int = 0
    """Seed of the weights and of the order of the images."""
    image_column: str = "image"
    """Column of a data set that holds the images."""
    revision: str | None = None
    """Revision of a hub data set."""
    max_bad: int = 0
    """How many unreadable images to leave out before giving up."""
    workers: int | None = None
    """Stages at a time, each in its own process (one per core, or one where there is a GPU; 0: all in this process)."""
    dry_run: bool = False
    """Print the plan and stop."""


@dataclass(frozen=True)
class TrainOptions(Common):
    """Which autoencoder, and how fast."""

    preset: str = "vq-f4-32"
    """Name of a preset: vq-f4-32, kl-f4-32, vq-f4-64, ..., and the published vq-f8, kl-f8, ..."""
    batch: int | None = None
    """Images a step, over all ranks (the preset's)."""
    learning_rate: float | None = None
    """Largest learning rate (the preset's)."""
    kl_weight: float = 1e-6
    """Weight of a Gaussian bottleneck's divergence, summed over its elements, beside a mean over pixels."""
    lpips: tuple[Path, ...] = ()
    """Weights of LPIPS on VGG16 (safetensors: the trunk as torchvision has it, and the heads) as the perceptual term;
    without them the L1 distance of neighbouring pixels' differences stands in."""
    adversarial: bool = False
    """Train against a discriminator, from the preset's step on (half-way, for a small preset)."""


@dataclass(frozen=True)
class StudyOptions(Common):
    """The study takes what all commands take."""

    larger: bool = False
    """Compare the best VQ and the KL autoencoder at 64 pixels, not all bottlenecks at 32."""
