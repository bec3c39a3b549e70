"""The CLIP score: how well each image fits its own caption, by the cosine of their embeddings."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ._types import CaptionRows, FakeRows, PerRow
from .arrays import feature_rows
from .features import UNNAMED, Space
from .score import Score, mean_score
from .statistics import as_float64

PERCENT = 100.0
HESSEL = 2.5


def clip_score(
    images: FakeRows, captions: CaptionRows, *, scale: float = PERCENT, level: float = 0.95, space: Space = UNNAMED
) -> Score:
    r"""The mean of $w \max(\cos(i, c), 0)$ over pairs of image and caption: `CLIP score[<space>, x<w>]`.

    `images` and `captions` are embeddings `(n, d)` by one model, row by row of one pair, of any length. The weight w
    is 2.5 in the paper (`scale=HESSEL`) and 100 in most libraries and tables, which is the default here; it is part
    of the name. The interval is the normal one of a mean.

    Raises ValueError when the shapes differ or an embedding is zero.

    Source: CLIPScore definition
    """
    values = pair_cosines(images, captions).clamp_min(0) * scale
    return replace(mean_score(values, f"CLIP score[{space.name}, x{scale:g}]", level=level), space=space)


def pair_cosines(images: FakeRows, captions: CaptionRows) -> PerRow:
    """The cosine between every image's embedding and its own caption's, rows of `(n, d)` each: `(n,)` float64."""
    ours, theirs = feature_rows(images, "images"), feature_rows(captions, "captions")
    if ours.shape != theirs.shape:
        raise ValueError(
            f"images have embeddings {tuple(ours.shape)}, captions {tuple(theirs.shape)}: give one caption for each "
            "image, both embedded by one model"
        )
    return (_directions(ours, "images") * _directions(theirs.to(ours.device), "captions")).sum(dim=1)


def _directions(rows: Tensor, argument: str) -> Tensor:
    rows = as_float64(rows)
    lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    empty = (lengths == 0).nonzero()
    if len(empty):
        raise ValueError(
            f"{argument}: {len(empty)} embeddings are zero and have no direction, the first is row {empty[0, 0]}"
        )
    return torch.div(rows, lengths)
