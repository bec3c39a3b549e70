"""Features on disk: whole shards only, so that an interrupted extraction goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ._types import Features, Indices
from .features import Space
from .statistics import Accumulator, Statistics

_SHARDS = "features-*.safetensors"


class FeatureStore:
    """A folder of feature shards that knows which image indices it holds.

    `append` writes one safetensors shard under a partial name and renames it: a killed run leaves no half shard, and
    giving the same indices again replaces their shard. Several ranks may append to one folder, each its own indices.
    Shards are read memory-mapped, one at a time. A folder holds features of one space; another one is refused.
    """

    def __init__(self, folder: str | os.PathLike[str], space: Space) -> None:
        self.folder = Path(folder)
        self.space = space
        self.folder.mkdir(parents=True, exist_ok=True)
        self._shard_of: dict[int, Path] = {}
        self._seen: set[Path] = set()
        self.refresh()

    def __len__(self) -> int:
        """The number of images whose features are held."""
        return len(self._shard_of)

    @property
    def indices(self) -> list[int]:
        """The image indices held, in ascending order."""
        return sorted(self._shard_of)

    def missing(self, wanted: Iterable[int]) -> list[int]:
        """Those of the wanted image indices that are not held yet, in the order given."""
        return [index for index in wanted if index not in self._shard_of]

    def refresh(self) -> None:
        """Take note of shards that other processes have written since."""
        for path in sorted(self.folder.glob(_SHARDS)):
            if path not in self._seen:
                self._enter(path, _read(path, self.space, "indices").tolist())

    def append(self, indices: Indices, features: Features) -> None:
        """Write the features `(n, d)` of the images `indices` `(n,)`, in float32.

        Raises ValueError when lengths differ, an index comes twice or is already held by another shard.
        """
        given = indices.tolist()
        if len(given) != len(features) or len(set(given)) != len(given) or not given:
            raise ValueError(
                f"append: one distinct index per row of features, got {len(given)} indices "
                f"({len(set(given))} distinct) for {len(features)} rows"
            )
        path = self.folder / f"features-{min(given):09d}-{_digest(given)}.safetensors"
        held = [index for index in given if self._shard_of.get(index, path) != path]
        if held:
            raise ValueError(
                f"append: {len(held)} of these images are already in {self.folder}, the first is {held[0]}"
            )
        tensors = {
            "indices": indices.to("cpu", torch.int64).contiguous(),
            "features": features.detach().to("cpu", torch.float32).contiguous(),
        }
        partial = self.folder / f".{path.name}.{os.getpid()}.partial"
        save_file(tensors, partial, metadata={"space": json.dumps(asdict(self.space))})
        os.replace(partial, path)
        self._enter(path, given)

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs of indices `(n,)` and features `(n, d)`, one shard at a time, in order of file name."""
        for path in sorted(self._seen):
            yield _read(path, self.space, "indices"), _read(path, self.space, "features")

    def features(self) -> Features:
        """All features `(n, d)` in ascending order of image index; ValueError when the store is empty."""
        pairs = list(self.batches())
        if not pairs:
            raise ValueError(f"{self.folder} holds no features yet")
        order = torch.cat([indices for indices, _ in pairs]).argsort()
        return torch.cat([features for _, features in pairs])[order]

    def statistics(self) -> Statistics:
        """Mean and covariance of all features held, read shard by shard."""
        accumulator = Accumulator(self.space)
        for _, features in self.batches():
            accumulator.update(features)
        return accumulator.statistics

    def _enter(self, path: Path, indices: list[int]) -> None:
        self._seen.add(path)
        self._shard_of.update(dict.fromkeys(indices, path))


def _read(path: Path, space: Space, name: str) -> Tensor:
    try:
        with safe_open(path, framework="pt") as file:
            written_in = Space(**json.loads((file.metadata() or {})["space"]))
            tensor: Tensor = file.get_tensor(name)
    except Exception as error:
        raise ValueError(f"{path} is not a whole shard of features ({error}): delete it and run again") from error
    if written_in != space:
        raise ValueError(f"{path} holds features of {written_in}, not of {space}: use another folder")
    return tensor


def _digest(indices: list[int]) -> str:
    return hashlib.sha256(json.dumps(indices).encode()).hexdigest()[:12]
