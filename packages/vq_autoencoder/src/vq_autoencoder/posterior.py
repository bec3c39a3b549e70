"""The diagonal Gaussian that a KL-regularised encoder describes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ._types import Grid, PerExample

LOG_VARIANCE_RANGE = (-30.0, 20.0)


@dataclass(frozen=True)
class DiagonalGaussian:
    """`N(mean, exp(log_variance))`, independent over channels and positions; both (b, d, h, w).

    Source: LDM KL regularisation
    """

    mean: Grid
    log_variance: Grid

    @classmethod
    def from_moments(cls, moments: Grid) -> DiagonalGaussian:
        """Split the encoder's output (b, 2 d, h, w) into mean and log-variance; the latter is clamped to [-30, 20].

        Raises:
            ValueError: the number of channels is odd.
        """
        if moments.shape[1] % 2:
            raise ValueError(
                f"moments must have an even number of channels (mean, log-variance), got {moments.shape[1]}"
            )
        mean, log_variance = moments.to(torch.promote_types(moments.dtype, torch.float32)).chunk(2, dim=1)
        return cls(mean, log_variance.clamp(*LOG_VARIANCE_RANGE))

    def sample(self, *, generator: torch.Generator | None = None) -> Grid:
        """Draw `mean + exp(log_variance / 2) * noise`; the noise is drawn on the generator's device."""
        device = self.mean.device if generator is None else generator.device
        noise = torch.randn(self.mean.shape, dtype=self.mean.dtype, device=device, generator=generator)
        return self.mean + torch.exp(0.5 * self.log_variance) * noise.to(self.mean.device)

    def kl(self) -> PerExample:
        """Divergence from the standard normal, in nats: `1/2 sum(mean^2 + variance - 1 - log_variance)`.

        Source: LDM KL regularisation
        """
        divergence = self.mean.square() + self.log_variance.exp() - 1 - self.log_variance
        return 0.5 * divergence.sum(dim=(1, 2, 3))

    def negative_log_likelihood(self, values: Grid) -> PerExample:
        """`-log N(values; mean, variance)` in nats, summed over channels and positions."""
        deviation = (values - self.mean).square() / self.log_variance.exp()
        return 0.5 * (math.log(2 * math.pi) + self.log_variance + deviation).sum(dim=(1, 2, 3))
