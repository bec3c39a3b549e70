import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reproductions.tests.datasets_made import picture, write_folder


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Three pictures, of one size that is not the runs'."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        Image.fromarray(random.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of Hugging Face datasets outside the folder of the test, and no network."""
    from datasets import config

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(config, "HF_DATASETS_OFFLINE", True, raising=False)


@pytest.fixture
def rotten(tmp_path: Path) -> Path:
    """Twenty pictures: the fourth is torn, the sixth has an empty caption."""
    folder = write_folder(tmp_path / "pictures", 20, lambda i: " " if i == 5 else f"picture {i}")
    (folder / "003.png").write_bytes(picture(3)[:60])
    return folder
