"""Vector quantisation: nearest code, the two losses, moving averages, revival of dead codes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ._types import Codebook, Grid, PerCode, PerExample, Rows, Scalar, TokenGrid, TokenRow

DISTANCES_AT_ONCE = 2**22
USAGE_DECAY = 0.99


@dataclass(frozen=True)
class Quantised:
    """Latents moved to their nearest codes.

    `vectors` have the value of the codes and pass gradients straight through to the latents; `terms` are the weighted
    losses "commitment" and, unless codes follow moving averages, "codebook": each is a mean over channels and
    positions.
    """

    vectors: Grid
    indices: TokenGrid
    terms: dict[str, PerExample]


def nearest_code(latents: Rows, codebook: Codebook) -> TokenRow:
    """`argmin_k |z - e_k|^2` for every row, the lowest index on a tie.

    Distances are computed in blocks of at most about four million entries; the whole n x k matrix is never held.

    Source: VQGAN quantisation
    """
    size = max(1, DISTANCES_AT_ONCE // codebook.shape[0])
    half_norms = 0.5 * codebook.square().sum(dim=1)
    blocks = (latents[start : start + size] for start in range(0, len(latents), size))
    return torch.cat([(half_norms - block @ codebook.T).argmin(dim=1) for block in blocks])


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


class VectorQuantizer(nn.Module):
    """A codebook of `codes` vectors of `width` entries.

        loss = codebook_weight |sg[z] - e|^2 + commitment_weight |z - sg[e]|^2

    With `ema_decay` the codes are not trained by gradient but follow moving averages of the latents assigned to them.
    With `revival_threshold` a code whose moving average of uses per step falls below it is re-drawn from the batch.
    Both happen in training mode only, over all ranks where `torch.distributed` is initialised.

    Raises:
        ValueError: a count or weight is out of range.

    Source: VQGAN quantisation
    Source: LDM VQ regularisation
    """

    usage: Tensor
    sums: Tensor

    def __init__(
        self,
        *,
        codes: int,
        width: int,
        codebook_weight: float = 1.0,
        commitment_weight: float = 0.25,
        ema_decay: float | None = None,
        revival_threshold: float = 0.0,
    ) -> None:
        super().__init__()
        if codes < 1 or width < 1:
            raise ValueError(f"codes and code width must be at least 1, got {codes} and {width}")
        if min(codebook_weight, commitment_weight, revival_threshold) < 0:
            raise ValueError("codebook_weight, commitment_weight and revival_threshold must not be negative")
        if ema_decay is not None and not 0 <= ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {ema_decay}")
        self.codebook_weight = codebook_weight
        self.commitment_weight = commitment_weight
        self.ema_decay = ema_decay
        self.revival_threshold = revival_threshold
        self.codebook = nn.Parameter(
            torch.empty(codes, width).uniform_(-1 / codes, 1 / codes), requires_grad=ema_decay is None
        )
        if ema_decay is not None:
            self.register_buffer("sums", self.codebook.detach() * self._fresh_usage)
        if ema_decay is not None or revival_threshold > 0:
            self.register_buffer("usage", torch.full((codes,), self._fresh_usage))

    @property
    def _fresh_usage(self) -> float:
        return max(1.0, self.revival_threshold)

    def nearest(self, latents: Grid) -> TokenGrid:
        """Index of the nearest code at every position.

        Source: VQGAN quantisation
        """
        b, _, h, w = latents.shape
        return nearest_code(_rows(latents), self.codebook.detach()).view(b, h, w)

    def lookup(self, indices: TokenGrid) -> Grid:
        """Codes (b, d, h, w) of the tokens.

        Raises:
            ValueError: a token lies outside 0..k-1.
        """
        check_tokens(indices, self.codebook.shape[0])
        return self._vectors(indices)

    def forward(self, latents: Grid, *, generator: torch.Generator | None = None) -> Quantised:
        """Quantise, with a straight-through gradient; in training mode the moving averages step afterwards."""
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents.to(self.codebook.dtype)
            indices = self.nearest(latents)
            vectors = self._vectors(indices)
            terms = self.terms(latents, vectors)
            straight_through = latents + (vectors - latents).detach()
            if self.training:
                self._follow(_rows(latents.detach()), indices.flatten(), generator)
        return Quantised(straight_through, indices, terms)

    def terms(self, latents: Grid, vectors: Grid) -> dict[str, PerExample]:
        """The weighted losses, `|sg[z] - e|^2` and `|z - sg[e]|^2`, each a mean over channels and positions.

        Source: VQGAN codebook loss
        Deviation: the released code (legacy) multiplies the codebook term by 0.25 and the commitment term by 1; here,
            as in the paper, it is 1 and 0.25. `VQAutoencoder.legacy` has the former.
        """
        terms = {"commitment": self.commitment_weight * _mean_square(latents - vectors.detach())}
        if self.ema_decay is None:
            terms["codebook"] = self.codebook_weight * _mean_square(latents.detach() - vectors)
        return terms

    @torch.no_grad()
    def initialise(self, latents: Grid, *, generator: torch.Generator | None = None) -> None:
        """Set the codes to latents drawn without replacement; with fewer latents than codes some are drawn again."""
        rows = _rows(latents).to(self.codebook.dtype)
        self._place(torch.ones(len(self.codebook), dtype=torch.bool, device=self.codebook.device), rows, generator)

    def _vectors(self, indices: TokenGrid) -> Grid:
        return F.embedding(indices, self.codebook).permute(0, 3, 1, 2)

    @torch.no_grad()
    def _follow(self, rows: Rows, indices: TokenRow, generator: torch.Generator | None) -> None:
        """Moving averages `N <- g N + (1 - g) n`, `m <- g m + (1 - g) sum(z)`, `e = m / N`; then revival.

        Source: VQ-VAE moving average codebook
        """
        if not hasattr(self, "usage"):
            return
        decay = USAGE_DECAY if self.ema_decay is None else self.ema_decay
        counts = torch.bincount(indices, minlength=len(self.codebook)).to(self.usage.dtype)
        self.usage.lerp_(_sum_over_ranks(counts), 1 - decay)
        if self.ema_decay is not None:
            sums = torch.zeros_like(self.sums).index_add_(0, indices, rows)
            self.sums.lerp_(_sum_over_ranks(sums), 1 - decay)
            alive = self.usage > torch.finfo(self.usage.dtype).tiny
            self.codebook[alive] = self.sums[alive] / self.usage[alive, None]
        if self.revival_threshold > 0 and bool((dead := self.usage < self.revival_threshold).any()):
            self._place(dead, rows, generator)

    def _place(self, chosen: Tensor, rows: Rows, generator: torch.Generator | None) -> None:
        drawn = _draw(rows, int(chosen.sum()), generator)
        if dist.is_available() and dist.is_initialized():
            dist.broadcast(drawn, src=0)
        self.codebook[chosen] = drawn
        if hasattr(self, "usage"):
            self.usage[chosen] = self._fresh_usage
        if hasattr(self, "sums"):
            self.sums[chosen] = drawn * self._fresh_usage


def _rows(latents: Grid) -> Rows:
    return latents.permute(0, 2, 3, 1).flatten(0, 2)


def _mean_square(difference: Grid) -> PerExample:
    return difference.square().mean(dim=(1, 2, 3))


def _draw(rows: Rows, count: int, generator: torch.Generator | None) -> Float[Tensor, "count d"]:
    device = rows.device if generator is None else generator.device
    order = torch.randperm(len(rows), generator=generator, device=device).to(rows.device)
    return rows[order.repeat(-(-count // len(rows)))[:count]].contiguous()


def _sum_over_ranks(values: Tensor) -> Tensor:
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values)
    return values
