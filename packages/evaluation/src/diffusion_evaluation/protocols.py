"""Protocols: which images, how many, prepared how, measured in which space; declared once, checked, written down."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ._types import Images, Masks, ResizedBytes
from .masks import REPAINT_MASKS, MaskKind, draw_masks, masks_sha256
from .resize import BICUBIC, Kernel, centre_square
from .score import Score


@dataclass(frozen=True)
class Caption:
    """One caption of one image, by their numbers in the data set."""

    image: int
    caption: int


@dataclass(frozen=True)
class Protocol:
    """What a score must be made of to be called by its published name.

    `n_real` is None for all images of the reference set, whatever their number. `spaces` are the feature spaces (for
    paired metrics, the networks) in which it is published; a score in another is refused by `require`.
    """

    name: str
    metric: str
    spaces: tuple[str, ...]
    reference: str
    n_real: int | None
    n_fake: int
    side: int = 256
    kernel: Kernel = BICUBIC
    masks: tuple[MaskKind, ...] = ()
    seed: int = 0

    def prepare(self, images: Images) -> ResizedBytes:
        """The central square of images, resized antialiased to `side`: uint8 `(b, 3, side, side)`."""
        return centre_square(images, self.side, kernel=self.kernel)

    def draw(self, population: int) -> list[int]:
        """The `n_fake` numbers out of `range(population)` that the seed chooses, ascending; ValueError if too few."""
        if population < self.n_fake:
            raise ValueError(f"{self.name}: {self.n_fake} of {population} cannot be drawn")
        return sorted(np.random.RandomState(self.seed).permutation(population)[: self.n_fake].tolist())

    def draw_captions(self, captions_per_image: Sequence[int]) -> list[Caption]:
        """One caption each of `n_fake` different images, drawn once by seed; images without captions do not count."""
        usable = [image for image, count in enumerate(captions_per_image) if count > 0]
        random = np.random.RandomState([self.seed, 1])
        chosen = (usable[i] for i in self.draw(len(usable)))
        return [Caption(image, random.randint(captions_per_image[image])) for image in chosen]

    def draw_masks(self, kind: MaskKind) -> Masks:
        """The protocol's masks of one of its kinds, one for each image: bool `(n_fake, 1, side, side)`, True = fill.

        Source: RePaint inpainting protocol
        Unstated: which masks; the authors' are a download, these come from the seed [seed].
        """
        if kind not in self.masks:
            own = ", ".join(mask.name for mask in self.masks) or "none"
            raise ValueError(f"{self.name} has no masks {kind.name!r}; it has {own}")
        return draw_masks(kind, self.n_fake, self.side, self.side, seed=self.seed)

    def require(self, score: Score) -> None:
        """Raise ValueError, naming each difference, unless the score was made by this protocol."""
        bracket = score.name.partition("[")[2].removesuffix("]").split(", ")[0]
        space = score.space.name if score.space is not None else bracket
        wanted = (
            ("metric", score.name.partition("[")[0], (self.metric,)),
            ("feature space", space, self.spaces),
            ("number of real images", score.n_real, (self.n_real,)),
            ("number of generated images", score.n_fake, (self.n_fake,)),
        )
        faults = [
            f"its {what} is {found}, not {' or '.join(map(str, allowed))}"
            for what, found, allowed in wanted
            if allowed != (None,) and found not in allowed
        ]
        if faults:
            raise ValueError(f"{score} was not measured by {self.name}: {'; '.join(faults)}")

    def manifest(self, *scores: Score) -> dict[str, object]:
        """The protocol as JSON-able data, with the scores, each of which it checks, and the hashes of its masks."""
        for score in scores:
            self.require(score)
        masks = {kind.name: masks_sha256(self.draw_masks(kind)) for kind in self.masks}
        return {
            "protocol": self.name,
            "metric": self.metric,
            "spaces": list(self.spaces),
            "reference": self.reference,
            "n_real": self.n_real,
            "n_fake": self.n_fake,
            "side": self.side,
            "preparation": f"central square, {self.kernel.name} with antialiasing, to {self.side} x {self.side} bytes",
            "seed": self.seed,
            "masks": masks,
            "scores": [asdict(score) for score in scores],
        }

    def write_manifest(self, path: str | os.PathLike[str], *scores: Score) -> None:
        """Write the manifest as JSON, under a partial name first."""
        target = Path(path)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        partial.write_text(json.dumps(self.manifest(*scores), indent=2) + "\n")
        os.replace(partial, target)


COCO_FID_30K = Protocol(
    name="coco_fid_30k",
    metric="FID",
    spaces=("inception-legacy_tensorflow",),
    reference="the images of MS-COCO val2014 whose captions were drawn, one caption and one sample each",
    n_real=30_000,
    n_fake=30_000,
)
UNCONDITIONAL_50K = Protocol(
    name="unconditional_50k",
    metric="FID",
    spaces=("inception-legacy_tensorflow",),
    reference="the whole training set",
    n_real=None,
    n_fake=50_000,
)
LPIPS_INPAINTING = Protocol(
    name="lpips_inpainting",
    metric="LPIPS",
    spaces=("lpips-alex",),
    reference="the 100 test images themselves, pair by pair",
    n_real=100,
    n_fake=100,
    masks=REPAINT_MASKS,
)
