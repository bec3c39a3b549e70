"""What the tests of this package share: published reference values, and denoisers whose answers are known."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

REFERENCE = Path(__file__).resolve().parents[4] / "shared" / "reference" / "golden"


@dataclass(frozen=True)
class Golden:
    """One case: the official arguments, the weights, the inputs and outputs."""

    config: dict[str, Any]
    weights: dict[str, Tensor]
    io: dict[str, Tensor]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def golden() -> Any:
    """Reads a case of the reference values; skips where they are not beside the repository."""

    def read(case: str) -> Golden:
        folder = REFERENCE / case
        if not folder.is_dir():
            pytest.skip(f"the reference values are not there: {folder}")
        weights = folder / "weights.safetensors"
        return Golden(
            config=json.loads((folder / "config.json").read_text()),
            weights=load_file(weights) if weights.exists() else {},
            io=load_file(folder / "io.safetensors"),
        )

    return read
