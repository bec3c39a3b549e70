"""What the commands about trained runs take; imports nothing heavy, so that `--help` comes at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """What drawing from a trained run takes."""

    run: Path
    """Where `conprediff train discrete` or `train continuous` wrote, or one of its folders `stages/*`."""
    out: Path
    """Where the pictures are written; finished ones are never written again."""
    seed: int = 0
    """Picture i depends on this and on i alone."""
    batch: int = 50
    """Pictures at a time."""
    steps: int | None = None
    """Steps of the sampler (the run's; twice as many to fill in pixels or latents)."""
    guidance: float | None = None
    """Scale of guidance; 1 is none (the run's)."""
    temperature: tuple[float, ...] = ()
    """ImageBART: divides the logits (1); one number for all scales, or one for each, that of the clean tokens first."""
    top_k: tuple[int, ...] = ()
    """ImageBART: draw from so many of the most probable codes (all); one number, or one for each scale."""
    top_p: tuple[float, ...] = ()
    """ImageBART: draw from the most probable codes that have this probability together (all); likewise."""
    precision: Literal["no", "bf16"] = "no"
    """bf16 is faster where the machine multiplies in it; the last bits of a picture may then depend on its batch."""


@dataclass(frozen=True, kw_only=True)
class SampleOptions(GenerationOptions):
    """What sampling takes."""

    number: int = 16
    """Pictures to draw; ask for more, and the others are kept."""
    captions: Path | None = None
    """A text file, a caption in each line, taken in turn (the held-out ones of the run's data)."""
    only: Annotated[str | None, tyro.conf.arg(name="class")] = None
    """A class by its name (all in turn)."""


@dataclass(frozen=True, kw_only=True)
class InpaintOptions(GenerationOptions):
    """What filling in takes."""

    images: Path
    """A picture, a folder of pictures, or a parquet file; their central squares are brought to the run's size."""
    mask: str
    """A picture of the run's size, white where to fill in and black where to keep; or one of the kinds wide, narrow,
    super-resolve-2x, alternating-lines, half, expand, upper-half, window."""
    condition: str | None = None
    """What to fill in for, all pictures alike: the name of a class, or a caption."""
    chains: tuple[int, ...] = ()
    """ImageBART: how often each scale is drawn, to fit what is kept behind it (3); one number, or one for each."""
    method: Literal["repaint", "mixing"] | None = None
    """How pixels or latents are filled in (repaint); a run that was trained to fill in does as it was trained."""


@dataclass(frozen=True, kw_only=True)
class UpscaleOptions(GenerationOptions):
    """What enlarging takes."""

    images: Path
    """A picture, a folder of pictures, or a parquet file; their central squares are brought to the run's small size."""
    condition: str | None = None
    """What to enlarge for, all pictures alike: the name of a class, or a caption (each what its own picture was drawn
    for, in a folder that `conprediff sample` or `upscale` wrote)."""
    level: int = 0
    """Step to which the pictures are noised first: how little to trust them; for runs with --augmentation alone."""
