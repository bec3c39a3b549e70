"""How the time of a training example is drawn."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from discrete_diffusion._types import PerExample, Times


@runtime_checkable
class TimeSampler(Protocol):
    """A law of t over 1..T."""

    def sample(self, b: int, *, device: torch.device, generator: torch.Generator | None = None) -> Tensor:
        """Draw b times, int64 (b,)."""
        ...

    def probability(self, t: Tensor) -> Tensor:
        """Probabilities of drawing these times, (b,)."""
        ...

    def update(self, t: Tensor, loss: Tensor) -> None:
        """Take note of the losses (b,), sums over tokens, found at the times t."""
        ...


class UniformTimes(nn.Module):
    """Every time of 1..T with probability 1 / T."""

    def __init__(self, T: int) -> None:
        super().__init__()
        self.T = T

    def sample(self, b: int, *, device: torch.device, generator: torch.Generator | None = None) -> Times:
        """Draw b times, int64 (b,)."""
        source = device if generator is None else generator.device
        return torch.randint(1, self.T + 1, (b,), device=source, generator=generator).to(device)

    def probability(self, t: Times) -> PerExample:
        """1 / T for each."""
        return torch.full(t.shape, 1 / self.T, device=t.device)

    def update(self, t: Times, loss: PerExample) -> None:
        """Nothing: the law is fixed."""


class ImportanceTimes(nn.Module):
    """Times drawn in proportion to the root mean square of the loss found there, uniform until each was seen 11 times.

    `history` (T,) is a moving average (0.9 old, 0.1 new) of the squared loss and `count` (T,) how often each time was
    seen; both are in the `state_dict`. t = 1 is as likely as t = 2.

    Source: VQ-Diffusion importance sampling of t
    Deviation: a time drawn twice in a batch enters `history` with its mean square; the released code keeps one of them
        [fixed].
    """

    history: Tensor
    count: Tensor

    def __init__(self, T: int) -> None:
        super().__init__()
        self.T = T
        self.register_buffer("history", torch.zeros(T))
        self.register_buffer("count", torch.zeros(T))

    def sample(self, b: int, *, device: torch.device, generator: torch.Generator | None = None) -> Times:
        """Draw b times, int64 (b,)."""
        source = device if generator is None else generator.device
        return torch.multinomial(self._law().to(source), b, replacement=True, generator=generator).to(device) + 1

    def probability(self, t: Times) -> PerExample:
        """Probabilities of drawing these times, (b,)."""
        return self._law()[t - 1]

    @torch.no_grad()
    def update(self, t: Times, loss: PerExample) -> None:
        """Take note of the losses (b,), sums over tokens, found at the times t."""
        seen = torch.zeros_like(self.count).index_add_(0, t - 1, torch.ones_like(loss, dtype=self.count.dtype))
        square = torch.zeros_like(self.history).index_add_(0, t - 1, loss.detach().to(self.history.dtype) ** 2)
        renewed = 0.9 * self.history + 0.1 * square / seen.clamp_min(1)
        self.history.copy_(torch.where(seen > 0, renewed, self.history))
        self.count += seen

    def _law(self) -> Tensor:
        if not bool((self.count > 10).all()):
            return torch.full_like(self.history, 1 / self.T)
        weight = (self.history + 1e-10).sqrt() + 1e-4
        weight[0] = weight[1]
        return weight / weight.sum()
