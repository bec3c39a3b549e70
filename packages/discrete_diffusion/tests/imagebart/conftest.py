"""A small alphabet whose law is known: three tokens of three codes, and the exact reversal of each of its scales."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import pytest
import torch
from torch import Tensor

from discrete_diffusion import Prediction
from discrete_diffusion.imagebart import Multinomial, geometric

K, N = 3, 3


@dataclass(frozen=True)
class Tabulated:
    """`p(x_{t-1} | x_t)` as a table (27, 3, 3, 3); it predicts without a network."""

    joint: Tensor

    def conditional(self, x_t: Tensor, before: Tensor) -> Tensor:
        """`p(x^i | x^{<i}, x_t)` for the i tokens `before`, (b, 3)."""
        rows = self.joint[number(x_t)]
        for i in range(before.shape[1]):
            rows = rows[torch.arange(len(rows)), before[:, i]]
        mass = rows.flatten(2).sum(-1) if rows.ndim > 2 else rows
        return mass / mass.sum(-1, keepdim=True)

    def __call__(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None, *, target: Tensor) -> Prediction:
        log_p = torch.stack([self.conditional(x_t, target[:, :i]).log() for i in range(N)], 1)
        return Prediction(log_p, torch.zeros(len(x_t), 1, 1, N))

    def decode(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Callable[[Tensor | None], Tensor]:
        drawn: list[Tensor] = []

        def step(previous: Tensor | None) -> Tensor:
            if previous is not None:
                drawn.append(previous)
            before = torch.stack(drawn, 1) if drawn else x_t[:, :0]
            return self.conditional(x_t, before).log()

        return step


@dataclass(frozen=True)
class Toy:
    """A law over the 27 words, (3, 3, 3), and everything that follows from it."""

    law: Tensor

    def process(self, scales: int) -> Multinomial:
        return Multinomial(geometric(scales, K))

    def denoisers(self, scales: int) -> list[Tabulated]:
        """Bayes' rule with dense matrices over all words."""
        process, denoisers, marginal = self.process(scales), [], self.law.flatten()
        for t in range(1, scales + 1):
            alpha = process.schedule.keep[t] / process.schedule.keep[t - 1]
            one = alpha * torch.eye(K, dtype=torch.float64) + (1 - alpha) / K
            forward = torch.einsum("ad,be,cf->abcdef", one, one, one).reshape(K**N, K**N)
            joint = marginal[:, None] * forward
            denoisers.append(Tabulated((joint / joint.sum(0)).T.reshape(K**N, *[K] * N)))
            marginal = joint.sum(0)
        return denoisers


def number(words: Tensor) -> Tensor:
    """Words (b, 3) as numbers (b,) in 0..26."""
    return words @ torch.tensor([9, 3, 1])


@pytest.fixture
def toy() -> Toy:
    """A law with strong dependence, so that a model of tokens apart would fail."""
    law = torch.rand(K, K, K, generator=torch.Generator().manual_seed(5), dtype=torch.float64) ** 3
    return Toy(law / law.sum())


@pytest.fixture
def words() -> Tensor:
    """All 27 words, (27, 3)."""
    return torch.tensor(list(product(range(K), repeat=N)))
