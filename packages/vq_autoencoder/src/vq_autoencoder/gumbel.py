"""Quantisation by a relaxed categorical choice: the bottleneck of the Gumbel VQGAN."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ._types import Codebook, Grid, PerExample, TokenGrid
from .codes import Quantised, Quantizer


class GumbelQuantizer(Quantizer):
    """Logits over `codes` by a 1x1 convolution, a draw from them, and the drawn code.

        y = softmax((logits + g) / temperature), g ~ Gumbel(0, 1);  one-hot of the largest, gradient through y
        loss = prior_weight * KL(softmax(logits) | uniform)

    `temperature` may be changed in the course of training; the released recipe takes it from 1 to 1/16.

    Args:
        straight_through: whether training decodes the one-hot choice (with the gradient of y) or y itself.

    Raises:
        ValueError: a count, weight or the temperature is out of range.

    Source: Gumbel-softmax straight-through estimator
    """

    def __init__(
        self,
        *,
        codes: int,
        width: int,
        temperature: float = 1.0,
        prior_weight: float = 5e-4,
        straight_through: bool = True,
    ) -> None:
        super().__init__()
        if codes < 1 or width < 1:
            raise ValueError(f"codes and code width must be at least 1, got {codes} and {width}")
        if temperature <= 0 or prior_weight < 0:
            raise ValueError(
                f"temperature must be above 0 and prior_weight not negative, got {temperature}, {prior_weight}"
            )
        self.temperature, self.prior_weight, self.straight_through = temperature, prior_weight, straight_through
        self.proj = nn.Conv2d(width, codes, 1)
        self.codebook = nn.Parameter(torch.randn(codes, width))

    @property
    def codes(self) -> Codebook:
        """The codebook."""
        return self.codebook

    @property
    def width(self) -> int:
        """Entries of a code, d."""
        return self.codebook.shape[1]

    def nearest(self, latents: Grid) -> TokenGrid:
        """Index of the most probable code.

        Deviation: the released code draws Gumbel noise in evaluation as well; `draw` does so [draw].
        """
        return self._logits(latents).argmax(dim=1)

    def draw(self, latents: Grid, *, generator: torch.Generator | None = None) -> TokenGrid:
        """Indices drawn from `softmax(logits / temperature)`, as the released code's encoders give them."""
        logits = self._logits(latents)
        return (logits + gumbel_noise(logits, generator)).argmax(dim=1)

    def forward(self, latents: Grid, *, generator: torch.Generator | None = None) -> Quantised:
        """Draw in training mode, take the most probable code otherwise."""
        with torch.autocast(latents.device.type, enabled=False):
            logits = self._logits(latents)
            noise = gumbel_noise(logits, generator) if self.training else torch.zeros_like(logits)
            return self.choose(logits, noise)

    def choose(self, logits: Float[Tensor, "b k h w"], noise: Float[Tensor, "b k h w"]) -> Quantised:
        """The choice that given noise makes.

        Source: Gumbel-softmax straight-through estimator
        """
        soft = torch.softmax((logits + noise) / self.temperature, dim=1)
        indices = soft.argmax(dim=1)
        weights = soft
        if self.straight_through or not self.training:
            one_hot = F.one_hot(indices, self.size).permute(0, 3, 1, 2).to(soft.dtype)
            weights = one_hot - soft.detach() + soft
        vectors = torch.einsum("bkhw,kd->bdhw", weights, self.codebook)
        return Quantised(vectors, indices, {"prior": self.prior_weight * self._divergence(logits)})

    def _divergence(self, logits: Float[Tensor, "b k h w"]) -> PerExample:
        log_probabilities = torch.log_softmax(logits, dim=1)
        entropy = -(log_probabilities.exp() * log_probabilities).sum(dim=1)
        return math.log(self.size) - entropy.mean(dim=(1, 2))

    def _logits(self, latents: Grid) -> Float[Tensor, "b k h w"]:
        logits: Tensor = self.proj(latents.to(self.codebook.dtype))
        return logits

    def _vectors(self, indices: TokenGrid) -> Grid:
        return F.embedding(indices, self.codebook).permute(0, 3, 1, 2)


def gumbel_noise(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """`-log(e)` with `e ~ Exp(1)`, drawn on the generator's device."""
    device = like.device if generator is None else generator.device
    exponential = torch.empty(like.shape, dtype=like.dtype, device=device).exponential_(generator=generator)
    return -exponential.log().to(like.device)
