"""Small autoencoders, and what the official code computed with tiny random weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

if TYPE_CHECKING:  # older jaxtyping checks only what is first imported after the conftests
    from vq_autoencoder import KLAutoencoder, VQAutoencoder

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "reference" / "golden"
SMALL: dict[str, Any] = {"channels": 8, "multipliers": (1, 2), "residual_blocks": 1, "resolution": 16, "groups": 4}


@dataclass(frozen=True)
class Golden:
    folder: Path

    @property
    def constructor(self) -> dict[str, Any]:
        return json.loads((self.folder / "config.json").read_text())["constructor"]

    @property
    def io(self) -> dict[str, Tensor]:
        return load_file(self.folder / "io.safetensors")

    def weights(self, name: str = "weights") -> dict[str, Tensor]:
        return load_file(self.folder / f"{name}.safetensors")


@pytest.fixture
def golden():
    """Recorded case by name; skips where the recordings are not beside the repository."""

    def case(name: str) -> Golden:
        if not (SHARED / name).is_dir():
            pytest.skip(f"outputs of the official code are not at {SHARED / name}")
        return Golden(SHARED / name)

    return case


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture
def small_vq():
    from vq_autoencoder import VQAutoencoder

    def make(**arguments: Any) -> VQAutoencoder:
        torch.manual_seed(0)
        return VQAutoencoder(**({"codes": 16, "code_width": 4} | SMALL | arguments))

    return make


@pytest.fixture
def small_kl():
    from vq_autoencoder import KLAutoencoder

    def make(**arguments: Any) -> KLAutoencoder:
        torch.manual_seed(0)
        return KLAutoencoder(**({"latent_channels": 4} | SMALL | arguments))

    return make
