"""Parity data beside the repository, where it is there."""

from pathlib import Path

import jaxtyping
import pytest
import torch

GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "reference" / "golden"


@pytest.fixture
def golden() -> Path:
    """Folder of recorded outputs of official code; the test is skipped where it is absent."""
    if not GOLDEN.is_dir():
        pytest.skip(f"no recorded outputs at {GOLDEN}")
    return GOLDEN


@pytest.fixture
def unchecked_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave bad shapes to the code's own checks, as outside the tests."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
