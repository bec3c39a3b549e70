"""Oracles: dense transition matrices, and the official implementation's recorded values."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

if TYPE_CHECKING:  # older jaxtyping checks only what is first imported after the conftests
    from discrete_diffusion import Schedule

GOLDEN = Path(__file__).parents[3].parent / "shared" / "reference" / "golden"


@pytest.fixture(params=["paper", "released", "mask_only", "uniform_only"], name="make_schedule")
def every_schedule(request: pytest.FixtureRequest) -> Callable[[int, int], Schedule]:
    from discrete_diffusion import Schedule

    make: Callable[[int, int], Schedule] = getattr(Schedule, request.param)
    return make


@dataclass(frozen=True)
class Golden:
    config: dict[str, Any]
    io: dict[str, Tensor]
    path: Path

    def weights(self, name: str) -> dict[str, Tensor]:
        return load_file(self.path / f"{name}.safetensors")


@pytest.fixture
def golden() -> Callable[[str], Golden]:
    def load(case: str) -> Golden:
        path = GOLDEN / case
        if not path.is_dir():
            pytest.skip(f"no recorded values of the official implementation at ../shared/reference/golden/{case}")
        return Golden(json.loads((path / "config.json").read_text()), load_file(path / "io.safetensors"), path)

    return load


@pytest.fixture
def dense() -> Callable[[Schedule, int, int], Tensor]:
    """Transition matrix (to, from) from s to t, as the product of one-step matrices."""

    def step(schedule: Schedule, t: int) -> Tensor:
        k = schedule.codes
        alpha = schedule.keep[t] / schedule.keep[t - 1]
        gamma = 1 - (1 - schedule.mask[t]) / (1 - schedule.mask[t - 1])
        matrix = torch.zeros(k + 1, k + 1, dtype=torch.float64)
        matrix[:k, :k] = (1 - alpha - gamma) / k + alpha * torch.eye(k, dtype=torch.float64)
        matrix[k, :k] = gamma
        matrix[k, k] = 1
        return matrix

    def product(schedule: Schedule, t: int, s: int) -> Tensor:
        matrix = torch.eye(schedule.codes + 1, dtype=torch.float64)
        for u in range(s + 1, t + 1):
            matrix = step(schedule, u) @ matrix
        return matrix

    return product


@pytest.fixture
def bayes(dense: Callable[[Schedule, int, int], Tensor]) -> Callable[[Schedule, int, int], Tensor]:
    """`q(x_s | x_t, x_0)` as (x_t, x_s, x_0), by Bayes' rule with dense matrices; NaN where x_t is impossible."""

    def posterior(schedule: Schedule, t: int, s: int) -> Tensor:
        k = schedule.codes
        forward, before, whole = dense(schedule, t, s), dense(schedule, s, 0)[:, :k], dense(schedule, t, 0)[:, :k]
        possible = torch.where(whole > 1e-15, whole, torch.nan)
        return forward[:, :, None] * before[None] / possible[:, None]

    return posterior
