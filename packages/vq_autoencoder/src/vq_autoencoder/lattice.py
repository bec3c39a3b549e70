"""Bottlenecks whose codes are a lattice, not a table: finite scalar quantisation and look-up free quantisation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from ._types import Codebook, Grid, PerExample, Rows, TokenGrid
from .codes import Quantised, Quantizer, as_rows, mean_square, straight_through
from .ranks import mean_over

MARGIN = 1e-3
BITS_TOGETHER = 8


class FiniteScalarQuantizer(Quantizer):
    """Each channel `i` bounded by a tanh and rounded to one of `levels[i]` values in [-1, 1]; k is their product.

    There is nothing to learn and no loss: no code can die. A token is the channels' levels as the digits of a number,
    the first channel's the least significant.

    Raises:
        ValueError: no levels, or fewer than two.

    Source: FSQ quantisation
    """

    steps: Tensor
    places: Tensor

    def __init__(self, *, levels: Sequence[int]) -> None:
        super().__init__()
        if not levels or min(levels) < 2:
            raise ValueError(f"levels must be at least one number of 2 or more, got {tuple(levels)}")
        self.levels = tuple(levels)
        self.register_buffer("steps", torch.tensor(self.levels), persistent=False)
        self.register_buffer("places", _place_values(self.levels), persistent=False)

    @property
    def codes(self) -> Codebook:
        """All codes, (k, d)."""
        tokens = torch.arange(self.size, device=self.steps.device).view(1, 1, -1)
        return as_rows(self._vectors(tokens))

    @property
    def size(self) -> int:
        """Number of codes, the product of the levels."""
        return math.prod(self.levels)

    @property
    def width(self) -> int:
        """Number of channels."""
        return len(self.levels)

    def nearest(self, latents: Grid) -> TokenGrid:
        """The token that rounding the bounded latents gives."""
        return self._tokens(self._bounded(latents).round())

    def forward(self, latents: Grid, *, generator: torch.Generator | None = None) -> Quantised:
        """Bound and round; nothing is drawn and there are no terms."""
        with torch.autocast(latents.device.type, enabled=False):
            bounded = self._bounded(latents.to(torch.promote_types(latents.dtype, torch.float32)))
            rounded = bounded.detach().round()
            return Quantised(straight_through(bounded, rounded) / self._half, self._tokens(rounded), {})

    @property
    def _half(self) -> Int64[Tensor, "d 1 1"]:
        return self.steps[:, None, None] // 2

    def _bounded(self, latents: Grid) -> Grid:
        """Latents in the open interval whose rounding gives `levels[i]` consecutive integers.

        Source: FSQ quantisation
        """
        reach = (self.steps[:, None, None].to(latents) - 1) * (1 + MARGIN) / 2
        offset = 0.5 * (1 - self.steps[:, None, None] % 2).to(latents)
        return torch.tanh(latents + torch.atanh(offset / reach)) * reach - offset

    def _tokens(self, rounded: Grid) -> TokenGrid:
        return ((rounded.long() + self._half) * self.places[:, None, None]).sum(dim=1)

    def _vectors(self, indices: TokenGrid) -> Grid:
        digits = indices[:, None] // self.places[:, None, None] % self.steps[:, None, None]
        return (digits - self._half) / self._half


class LookupFreeQuantizer(Quantizer):
    """The sign of each of `bits` channels: codes are the corners of a cube, k = 2^bits.

        loss = commitment_weight |z - sg[q]|^2 + entropy_weight (E[H(q|z)] - diversity H(E[q|z]))

    with `q(c|z) ~ exp(-|z - c|^2 / temperature)`: each latent should choose one code, all of them together should use
    all. Bit 0 is the least significant of a token. The expectation `E[q|z]` is over the batches of all ranks.

    Raises:
        ValueError: no bits, more than 62, a negative weight, or a temperature that is not positive.

    Source: MAGVIT-v2 look-up free quantisation
    Deviation: beyond eight bits the entropy of the mean is the sum over groups of eight bits, an upper bound of the
        joint one, whose table would have 2^bits entries for each latent [fixed].
    Unstated: the weights and the temperature of the entropies; 0.1, 1 and 1 [entropy_weight, diversity, temperature].
    """

    def __init__(
        self,
        *,
        bits: int,
        commitment_weight: float = 0.25,
        entropy_weight: float = 0.1,
        diversity: float = 1.0,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        if not 1 <= bits <= 62:
            raise ValueError(f"bits must lie in 1..62, got {bits}")
        if min(commitment_weight, entropy_weight, diversity) < 0 or temperature <= 0:
            raise ValueError(
                "commitment_weight, entropy_weight and diversity must not be negative, temperature must be above 0"
            )
        self.bits = bits
        self.commitment_weight, self.entropy_weight = commitment_weight, entropy_weight
        self.diversity, self.temperature = diversity, temperature
        self.register_buffer("places", _place_values([2] * bits), persistent=False)

    places: Tensor

    @property
    def codes(self) -> Codebook:
        """All codes, (k, d)."""
        return as_rows(self._vectors(torch.arange(self.size, device=self.places.device).view(1, 1, -1)))

    @property
    def size(self) -> int:
        """Number of codes, 2^bits."""
        return int(2**self.bits)

    @property
    def width(self) -> int:
        """Number of bits."""
        return self.bits

    def nearest(self, latents: Grid) -> TokenGrid:
        """The token of the latents' signs; 0 counts as negative."""
        return ((latents > 0) * self.places[:, None, None]).sum(dim=1)

    def forward(self, latents: Grid, *, generator: torch.Generator | None = None) -> Quantised:
        """Take the signs; nothing is drawn."""
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents.to(torch.promote_types(latents.dtype, torch.float32))
            indices = self.nearest(latents)
            vectors = self._vectors(indices).to(latents.dtype)
            terms = {
                "commitment": self.commitment_weight * mean_square(latents - vectors),
                "entropy": self.entropy_weight * self.entropies(latents),
            }
            return Quantised(straight_through(latents, vectors), indices, terms)

    def entropies(self, latents: Grid) -> PerExample:
        """`H(q|z)` less `diversity` times each example's part of `H(E[q|z])`, in nats, means over positions.

        The part is the cross-entropy of `q(c|z)` with its mean, whose own gradient vanishes: it is taken as given.

        Source: MAGVIT-v2 entropy penalty
        """
        b = len(latents)
        difference = torch.zeros(b, dtype=latents.dtype, device=latents.device)
        for start in range(0, self.bits, BITS_TOGETHER):
            logits = 4 * as_rows(latents[:, start : start + BITS_TOGETHER]) / self.temperature
            log_q = _joint(logits)
            q = log_q.exp()
            mean = mean_over(q.detach().mean(dim=0)).clamp_min(torch.finfo(q.dtype).tiny)
            spread = q * (self.diversity * mean.log() - log_q)
            difference = difference + spread.sum(dim=1).view(b, -1).mean(dim=1)
        return difference

    def _vectors(self, indices: TokenGrid) -> Grid:
        bits = indices[:, None] // self.places[:, None, None] % 2
        return (2 * bits - 1).to(torch.get_default_dtype())


def _joint(logits: Rows) -> Float[Tensor, "n k"]:
    """Log-probabilities of all combinations of independent bits with these log-odds; bit 0 varies fastest."""
    log_q = torch.zeros(len(logits), 1, dtype=logits.dtype, device=logits.device)
    for logit in torch.split(logits, 1, dim=1):
        log_q = torch.cat([log_q + F.logsigmoid(-logit), log_q + F.logsigmoid(logit)], dim=1)
    return log_q


def _place_values(levels: Sequence[int]) -> Int64[Tensor, " d"]:
    return torch.tensor([math.prod(levels[:index]) for index in range(len(levels))])
