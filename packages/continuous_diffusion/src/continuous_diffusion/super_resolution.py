"""Cascades: a model of small images, and models that enlarge what the one before has drawn."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from continuous_diffusion._types import Generators, Images, Times
from continuous_diffusion.denoiser import Condition, Denoiser, Given
from continuous_diffusion.forward_process import ForwardProcess, times
from continuous_diffusion.predictor import Clip
from continuous_diffusion.sampler import sample
from continuous_diffusion.solvers import Solver, ddim
from continuous_diffusion.spacing import Spacing, evenly
from continuous_diffusion.target import EPSILON, Target

SmallImages: TypeAlias = Float[Tensor, "b small_c small_h small_w"]


@dataclass(frozen=True)
class Stage:
    """One model of a cascade, the `shape` (c, h, w) that it draws, and how; the options of `sample`.

    `augmentation` is the step 0..T to which the smaller image is noised before the denoiser reads it, in
    `Condition.level`; None for a denoiser that reads no level. The first stage has no smaller image.

    Raises ValueError for an augmentation that the process does not have.
    """

    denoiser: Denoiser
    process: ForwardProcess
    shape: tuple[int, int, int]
    target: Target = EPSILON
    solver: Solver = ddim
    steps: int | None = None
    guidance: float = 1.0
    eta: float = 0.0
    clip: Clip | None = None
    spacing: Spacing = evenly
    augmentation: int | None = None

    def __post_init__(self) -> None:
        if self.augmentation is not None and not 0 <= self.augmentation <= self.process.T:
            raise ValueError(f"augmentation: step {self.augmentation} is not one of 0..{self.process.T}")

    def draw(self, b: int, condition: Given | None = None, *, generator: Generators = None) -> Images:
        """Images (b, c, h, w) from noise."""
        return sample(
            self.denoiser,
            (b, *self.shape),
            condition,
            process=self.process,
            target=self.target,
            solver=self.solver,
            steps=self.steps,
            guidance=self.guidance,
            eta=self.eta,
            clip=self.clip,
            spacing=self.spacing,
            generator=generator,
        )

    def enlarge(self, small: SmallImages, condition: Given | None = None, *, generator: Generators = None) -> Images:
        """Images (b, c, h, w) of which `small` is the smaller version, at any size."""
        level = None if self.augmentation is None else times(len(small), self.augmentation, small.device)
        given = beside_small(small, self.shape[1:], condition, process=self.process, level=level, generator=generator)
        return self.draw(len(small), given, generator=generator)


def beside_small(
    small: SmallImages,
    size: Sequence[int],
    condition: Given | None = None,
    *,
    process: ForwardProcess | None = None,
    level: Times | None = None,
    generator: Generators = None,
) -> Condition:
    """The condition of an enlarging model, for training and for sampling: `small` at `size` (h, w) in `concat`.

    Enlarged bilinearly, and as it is where it has that size already (as LDM's model reads it, beside its latent). With
    a `level` (b,) it is noised by `process` to these steps of its own, 0 for not at all: the model then learns how far
    to trust it. The other parts of `condition` are kept.

    Raises ValueError where a level comes without a process, or the condition has something in `concat` already.

    Source: Imagen noise conditioning augmentation
    Source: LDM super-resolution
    Unstated: the interpolation; bilinear, as in ADM [fixed].
    """
    given = Condition.of(condition)
    if given.concat is not None:
        raise ValueError("condition: there is something in concat, where the smaller image goes")
    beside: Tensor = small
    if list(small.shape[2:]) != list(size):
        beside = F.interpolate(small, tuple(size), mode="bilinear")
    if level is not None:
        if process is None:
            raise ValueError("level: noising the smaller image to it takes a process")
        beside = process.sample(beside, level, generator=generator)
    return replace(given, concat=beside, level=level)


def cascade(
    stages: Sequence[Stage], b: int, condition: Given | None = None, *, generator: Generators = None
) -> Iterator[Images]:
    """What each stage draws, the smallest first: b images from noise, then each enlarged by the next stage.

    Every stage reads the same condition. With one generator per image, image i depends on its own alone.

    Raises ValueError where there is no stage, and where one shrinks the images.

    Source: Imagen cascade
    """
    sizes = [stage.shape[1:] for stage in stages]
    if not stages or any(h > H or w > W for (h, w), (H, W) in pairwise(sizes)):
        raise ValueError(f"stages: sizes {sizes}; expected at least one, none smaller than the one before")
    return _enlarged(stages, b, condition, generator)


def _enlarged(stages: Sequence[Stage], b: int, condition: Given | None, generator: Generators) -> Iterator[Images]:
    images = stages[0].draw(b, condition, generator=generator)
    yield images
    for stage in stages[1:]:
        images = stage.enlarge(images, condition, generator=generator)
        yield images
