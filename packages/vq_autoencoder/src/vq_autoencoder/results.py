"""What encoding and reconstructing give."""

from __future__ import annotations

from dataclasses import dataclass

from ._types import Grid, Images, PerExample, TokenGrid


@dataclass(frozen=True)
class Tokens:
    """Indices of codes, the codes themselves, and the latents before quantisation."""

    indices: TokenGrid
    vectors: Grid
    latents: Grid


@dataclass(frozen=True)
class Latents:
    """Shifted and scaled latents `values`, and the posterior's `mean` and `log_variance` before shift and scale."""

    values: Grid
    mean: Grid
    log_variance: Grid


@dataclass(frozen=True)
class Reconstruction:
    """Images after encoding and decoding, the latents between, and the bottleneck's own losses, per example.

    `indices` are the tokens, None where nothing was quantised.
    """

    images: Images
    latents: Grid
    terms: dict[str, PerExample]
    indices: TokenGrid | None = None
