"""What the commands about denoisers take; imports nothing heavy, so that `--help` comes at once."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from tyro.conf import arg

from reproductions.commands import recipe_names
from reproductions.commands.recipe_names import listed

Given = TypeVar("Given", bound="DenoiserOptions")
FIRST = "Name of a recipe (the one that fits); the published ones want --resolution 256."


@dataclass(frozen=True)
class DenoiserOptions:
    """What training either kind of denoiser takes."""

    data: str = "shapes"
    """A folder of images, a parquet file or folder, a hub id, shapes, shapes-hard or digits."""
    condition: Literal["none", "class", "caption"] = "none"
    """What samples are made for: nothing, one of the classes of the data, or a caption."""
    autoencoder: Path | None = None
    """What `conprediff train autoencoder` wrote (its --out), or a folder `autoencoder` there or from elsewhere."""
    resolution: int = 32
    """Side of the pictures."""
    preset: str | None = None
    """Name of a recipe (the one that fits)."""
    text_encoder: str | None = None
    """With --condition caption: folder or hub id of a frozen CLIP or T5 that reads them, such as
    openai/clip-vit-base-patch32 (an encoder trained with the denoiser, unless the recipe wants a frozen one)."""
    samples: int | None = None
    """Pictures seen in training, all passes together (the recipe's)."""
    batch: int | None = None
    """Pictures a step, over all ranks (the recipe's)."""
    learning_rate: float | None = None
    """Largest learning rate (the recipe's)."""
    precision: Literal["no", "bf16"] | None = None
    """bf16 where the machine multiplies in it, otherwise no."""
    flip: bool = False
    """Mirror training pictures by chance; not for captions or signs that know left from right."""
    generated: int = 1_000
    """Samples that are drawn and scored."""
    steps: int | None = None
    """Steps of the sampler (the recipe's)."""
    guidance: float | None = None
    """Scale of guidance of the samples; 1 is none (the recipe's). Nothing is trained again for it, nor for --steps."""
    against: Literal["held_out", "train"] = "held_out"
    """Pictures that samples are scored against, and whose captions they are drawn for."""
    features: Path | None = None
    """Weights of a CIFAR residual network (safetensors) for the scores; without them, pixels are compared."""
    out: Path | None = None
    """Where everything is written (outputs/<kind>-<data>-<condition>)."""
    train_size: int = 100_000
    """Most pictures to train on."""
    held_out: int = 10_000
    """Most pictures to hold out, and most of either split to compare with."""
    seed: int = 0
    """Seed of the weights, of the order of the pictures and of the samples."""
    image_column: str = "image"
    """Column of a data set that holds the images."""
    caption_column: str | None = None
    """Column that holds the captions (found by its name)."""
    label_column: str = "label"
    """Column that holds the labels, which must have names."""
    revision: str | None = None
    """Revision of a hub data set."""
    max_bad: int = 0
    """How many unreadable images, or images without caption or label, to leave out before giving up."""
    workers: int | None = None
    """Stages at a time, each in its own process (one per core, or one where there is a GPU; 0: all in this process)."""
    dry_run: bool = False
    """Print the plan, with its parameters, operations, memory, storage and device-hours, and stop."""
    devices: int = 1
    """With --dry-run: devices that share every batch."""
    achieved: float = 1e14
    """With --dry-run: floating-point operations a second that one device achieves."""


def with_autoencoder(options: Given) -> Given:
    """The options with the folder of the autoencoder itself, where that of the run was given that trained it.

    Raises:
        ValueError: for a run that trained none, or several.
    """
    run = options.autoencoder
    if run is None or not (run / "stages").is_dir():
        return options
    found = [path for path in sorted(run.glob("stages/*/autoencoder/config.json")) if "." not in path.parents[1].name]
    if len(found) != 1:
        there = ": " + ", ".join(str(path.parent) for path in found) if found else ""
        raise ValueError(f"--autoencoder: {run} holds {len(found) or 'no'} finished autoencoders{there}; give one")
    return replace(options, autoencoder=found[0].parent)


@dataclass(frozen=True)
class ScaleOptions(DenoiserOptions):
    """What ImageBART takes besides; it has scales instead of steps, and no guidance."""

    temperature: tuple[float, ...] = (1.0,)
    """Divides the logits of ImageBART; one number for all scales, or one for each, that of the clean tokens first."""
    top_k: tuple[int, ...] = ()
    """ImageBART draws from so many of the most probable codes (all); one number, or one for each scale."""
    top_p: tuple[float, ...] = ()
    """ImageBART draws from the most probable codes that have this probability together (all); likewise."""


@dataclass(frozen=True)
class DiscreteOptions(ScaleOptions):
    """What training a denoiser of tokens takes."""

    preset: Annotated[str | None, arg(help=listed(FIRST, recipe_names.TOKENS, recipe_names.SCALES))] = None
    kind: Literal["vq-diffusion", "imagebart"] = "vq-diffusion"
    """Masks and replaced tokens, all drawn at once in many steps; or scales, drawn token by token."""
    scales: Literal[1, 2, 3] | None = None
    """Number of scales of ImageBART (2); its larger recipes, by --preset, have their own."""
    jointly: bool = False
    """One network for all scales of ImageBART, trained for a scale drawn by chance for each picture."""

    @property
    def misplaced(self) -> str | None:
        """An option that is not for this kind, and was given all the same."""
        given = {"scales": self.scales, "top-k": self.top_k, "top-p": self.top_p, "jointly": self.jointly}
        given["temperature"] = self.temperature != (1.0,)
        wrong = [f"--{name}" for name, value in given.items() if value]
        return ", ".join(wrong) if wrong and self.kind != "imagebart" else None


@dataclass(frozen=True)
class ContinuousOptions(DenoiserOptions):
    """What training a denoiser of latents or pixels takes."""

    preset: Annotated[str | None, arg(help=listed(FIRST, recipe_names.LATENTS))] = None
    task: Literal["generate", "inpainting", "super-resolution"] = "generate"
    """What it is trained for: to draw, to fill in behind masks, or to enlarge."""
    factor: int | None = None
    """Super-resolution: how many times smaller the pictures are that it enlarges (4)."""
    augmentation: int | None = None
    """Super-resolution: the small pictures are noised to steps up to this one, which the network reads too (0: never);
    a model after another one in a cascade wants some."""

    @property
    def misplaced(self) -> str | None:
        """An option that is not for this task, and was given all the same."""
        given = {"factor": self.factor, "augmentation": self.augmentation}
        wrong = [f"--{name}" for name, value in given.items() if value is not None]
        return ", ".join(wrong) if wrong and self.task != "super-resolution" else None
