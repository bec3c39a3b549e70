"""What every bottleneck with codes does: nearest code, look-up, straight-through gradient; and how codes are used."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ._types import Codebook, Grid, PerCode, PerExample, Rows, Scalar, TokenGrid


@dataclass(frozen=True)
class Quantised:
    """Latents moved to their codes.

    `vectors` have the value of the codes and pass gradients straight through to the latents; `terms` are the weighted
    losses of the bottleneck by name, for a VectorQuantizer "commitment" and, unless codes follow moving averages,
    "codebook": each is a mean over channels and positions.
    """

    vectors: Grid
    indices: TokenGrid
    terms: dict[str, PerExample]


class Quantizer(nn.Module, ABC):
    """A bottleneck of `size` codes of `width` entries.

    `forward(latents, generator=...)` quantises with a straight-through gradient; `nearest` and `lookup` are the two
    halves of it that need no gradient and draw nothing.
    """

    @property
    @abstractmethod
    def codes(self) -> Codebook:
        """All codes as `lookup` gives them, (k, d)."""

    @property
    def size(self) -> int:
        """Number of codes, k."""
        return len(self.codes)

    @property
    @abstractmethod
    def width(self) -> int:
        """Channels of the latents, and entries of a code, d."""

    @abstractmethod
    def nearest(self, latents: Grid) -> TokenGrid:
        """Index of the code at every position."""

    @abstractmethod
    def forward(self, latents: Grid, *, generator: torch.Generator | None = None) -> Quantised:
        """Quantise latents (b, d, h, w)."""

    def lookup(self, indices: TokenGrid) -> Grid:
        """Codes (b, d, h, w) of the tokens.

        Raises:
            TypeError: the tokens are not int64.
            ValueError: a token lies outside 0..k-1.
        """
        check_tokens(indices, self.size)
        return self._vectors(indices)

    @abstractmethod
    def _vectors(self, indices: TokenGrid) -> Grid: ...


def straight_through(latents: Grid, vectors: Grid) -> Grid:
    """The value of `vectors` with the gradient of `latents`."""
    return latents + (vectors - latents).detach()


def as_rows(latents: Grid) -> Rows:
    """One row of `d` entries for each position."""
    return latents.permute(0, 2, 3, 1).flatten(0, 2)


def mean_square(difference: Grid) -> PerExample:
    """Mean of the squares over channels and positions."""
    return difference.square().mean(dim=(1, 2, 3))


def usage(indices: TokenGrid, k: int) -> PerCode:
    """Fraction of the tokens that each of `k` codes has; sums to 1.

    Raises:
        ValueError: there are no tokens, or one lies outside 0..k-1.
    """
    if indices.numel() == 0:
        raise ValueError(f"indices must hold at least one token, got shape {tuple(indices.shape)}")
    check_tokens(indices, k)
    counts = torch.bincount(indices.flatten(), minlength=k)
    return counts / counts.sum()


def perplexity(indices: TokenGrid, k: int) -> Scalar:
    """`exp(-sum_k p_k log p_k)` of the code usage `p`: 1 where one code is used, `k` where all are used equally."""
    p = usage(indices, k)
    return torch.exp(-torch.xlogy(p, p).sum())


def check_tokens(indices: Tensor, k: int) -> None:
    """Refuse tokens that are no codes.

    Raises:
        TypeError: the tokens are not int64.
        ValueError: a token lies outside 0..k-1.
    """
    if indices.dtype != torch.int64:
        raise TypeError(f"indices must be int64, got {indices.dtype}")
    if indices.numel() and (indices.min() < 0 or indices.max() >= k):
        low, high = int(indices.min()), int(indices.max())
        raise ValueError(
            f"indices must lie in 0..{k - 1}, got {low}..{high}; the mask token {k} has no code, fill it in first"
        )
