"""Vector quantisation: nearest code, the two losses, moving averages, revival of dead codes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ._types import Codebook, Grid, PerExample, Rows, TokenGrid, TokenRow
from .codes import Quantised, Quantizer, as_rows, mean_square, straight_through
from .nearest import nearest_code
from .ranks import examples_of_all, from_first, sum_over

USAGE_DECAY = 0.99


class VectorQuantizer(Quantizer):
    """A codebook of `codes` vectors of `width` entries.

        loss = codebook_weight |sg[z] - e|^2 + commitment_weight |z - sg[e]|^2

    With `ema_decay` the codes are not trained by gradient but follow moving averages of the latents assigned to them.
    With `revival_threshold` a code whose moving average of uses per step falls below it is re-drawn from the batch,
    and its averages start afresh. Both happen in training mode only, over all ranks where `torch.distributed` is
    initialised: then every rank keeps the codebook that one rank would have with the joint batch, dealt to the ranks
    one example at a time.
    With `cosine` latents and codes are divided by their lengths first, so that the nearest code is that of the least
    angle.

    Raises:
        ValueError: a count or weight is out of range.

    Source: VQGAN quantisation
    Source: LDM VQ regularisation
    Source: ViT-VQGAN normalised codes
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
        cosine: bool = False,
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
        self.cosine = cosine
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

    @property
    def codes(self) -> Codebook:
        """The codebook; with `cosine`, its rows divided by their lengths."""
        return F.normalize(self.codebook, dim=1) if self.cosine else self.codebook

    @property
    def size(self) -> int:
        """Number of codes, k."""
        return len(self.codebook)

    @property
    def width(self) -> int:
        """Entries of a code, d."""
        return self.codebook.shape[1]

    def nearest(self, latents: Grid) -> TokenGrid:
        """Index of the nearest code at every position.

        Source: VQGAN quantisation
        """
        b, _, h, w = latents.shape
        return nearest_code(as_rows(self._measured(latents)), self.codes.detach()).view(b, h, w)

    def forward(self, latents: Grid, *, generator: torch.Generator | None = None) -> Quantised:
        """Quantise, with a straight-through gradient; in training mode the moving averages step afterwards."""
        with torch.autocast(latents.device.type, enabled=False):
            latents = self._measured(latents.to(self.codebook.dtype))
            indices = self.nearest(latents)
            vectors = self._vectors(indices)
            terms = self.terms(latents, vectors)
            quantised = straight_through(latents, vectors)
            if self.training:
                self._follow(latents.detach(), indices.flatten(), generator)
        return Quantised(quantised, indices, terms)

    def terms(self, latents: Grid, vectors: Grid) -> dict[str, PerExample]:
        """The weighted losses, `|sg[z] - e|^2` and `|z - sg[e]|^2`, each a mean over channels and positions.

        Source: VQGAN codebook loss
        Deviation: the released code (legacy) multiplies the codebook term by 0.25 and the commitment term by 1; here,
            as in the paper, it is 1 and 0.25. `VQAutoencoder.legacy` has the former [VQAutoencoder.legacy].
        """
        terms = {"commitment": self.commitment_weight * mean_square(latents - vectors.detach())}
        if self.ema_decay is None:
            terms["codebook"] = self.codebook_weight * mean_square(latents.detach() - vectors)
        return terms

    @torch.no_grad()
    def initialise(self, latents: Grid, *, generator: torch.Generator | None = None) -> None:
        """Set the codes to latents drawn without replacement; with fewer latents than codes some are drawn again."""
        every = torch.ones(self.size, dtype=torch.bool, device=self.codebook.device)
        self._place(every, self._measured(latents).to(self.codebook.dtype), generator)

    def _measured(self, latents: Grid) -> Grid:
        return F.normalize(latents, dim=1) if self.cosine else latents

    def _vectors(self, indices: TokenGrid) -> Grid:
        return F.embedding(indices, self.codes).permute(0, 3, 1, 2)

    @torch.no_grad()
    def _follow(self, latents: Grid, indices: TokenRow, generator: torch.Generator | None) -> None:
        """Moving averages `N <- g N + (1 - g) n`, `m <- g m + (1 - g) sum(z)`, `e = m / N`; then revival.

        Source: VQ-VAE moving average codebook
        """
        if not hasattr(self, "usage"):
            return
        decay = USAGE_DECAY if self.ema_decay is None else self.ema_decay
        counts = torch.bincount(indices, minlength=self.size).to(self.usage.dtype)
        self.usage.lerp_(sum_over(counts), 1 - decay)
        if self.ema_decay is not None:
            sums = torch.zeros_like(self.sums).index_add_(0, indices, as_rows(latents))
            self.sums.lerp_(sum_over(sums), 1 - decay)
            alive = self.usage > torch.finfo(self.usage.dtype).tiny
            self.codebook[alive] = self.sums[alive] / self.usage[alive, None]
        if self.revival_threshold > 0 and bool((dead := self.usage < self.revival_threshold).any()):
            self._place(dead, latents, generator)

    def _place(self, chosen: Tensor, latents: Grid, generator: torch.Generator | None) -> None:
        drawn = from_first(_draw(as_rows(examples_of_all(latents)), int(chosen.sum()), generator))
        self.codebook[chosen] = drawn
        if hasattr(self, "usage"):
            self.usage[chosen] = self._fresh_usage
        if hasattr(self, "sums"):
            self.sums[chosen] = drawn * self._fresh_usage


def _draw(rows: Rows, count: int, generator: torch.Generator | None) -> Float[Tensor, "count d"]:
    device = rows.device if generator is None else generator.device
    order = torch.randperm(len(rows), generator=generator, device=device).to(rows.device)
    return rows[order.repeat(-(-count // len(rows)))[:count]].contiguous()
