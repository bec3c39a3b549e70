"""Mean and covariance of features in float64, streamed over batches and merged over ranks and files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ._types import Covariance, Features, Mean
from .features import UNNAMED, Space


@dataclass(frozen=True, eq=False)
class Statistics:
    """Count, mean `(d,)` and unbiased covariance `(d, d)` (divided by count - 1) of features, in float64.

    The covariance of fewer than two rows is zero. `space` is the feature space that the rows were measured in.
    """

    count: int
    mean: Mean
    covariance: Covariance
    space: Space = UNNAMED

    @classmethod
    def of(cls, features: Features, space: Space = UNNAMED) -> Statistics:
        """The statistics of one array of features `(n, d)`."""
        accumulator = Accumulator(space)
        accumulator.update(features)
        return accumulator.statistics

    @property
    def scatter(self) -> Covariance:
        """The sum of outer products of the centred rows."""
        return self.covariance * max(self.count - 1, 0)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file, under a partial name first, so that a file that is there is whole."""
        target = Path(path)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        metadata = {"count": str(self.count), "space": json.dumps(asdict(self.space))}
        tensors = {"mean": self.mean.cpu().contiguous(), "covariance": self.covariance.cpu().contiguous()}
        save_file(tensors, partial, metadata=metadata)
        os.replace(partial, target)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Statistics:
        """Read a file written by `save`; ValueError names the file when it is anything else."""
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata()
                space = Space(**json.loads(metadata["space"]))
                return cls(int(metadata["count"]), file.get_tensor("mean"), file.get_tensor("covariance"), space)
        except FileNotFoundError:
            raise
        except Exception as error:
            raise ValueError(f"{os.fspath(path)} is not a file of feature statistics: {error}") from error


class Accumulator:
    r"""Statistics that grow by batches, without a second pass and without cancellation.

    A batch of $n_b$ rows with mean $\mu_b$ and scatter $S_b$ is merged by
    $\delta = \mu_b - \mu$, $\mu \leftarrow \mu + \delta n_b / n$, $S \leftarrow S + S_b + \delta \delta^T n_a n_b / n$
    with $n = n_a + n_b$ (Chan, Golub, LeVeque 1983). Sums are float64, on the device of the first batch, or on the
    CPU where that device has no float64.
    """

    def __init__(self, space: Space = UNNAMED) -> None:
        self.space = space
        self.count = 0
        self._mean: Tensor | None = None
        self._scatter: Tensor | None = None

    def update(self, features: Features) -> None:
        """Add the rows of `features` `(n, d)`; ValueError when the width changed or a value is not finite."""
        if features.ndim != 2:
            raise ValueError(f"features are (n, d), got {tuple(features.shape)}")
        rows = as_float64(features)
        if not torch.isfinite(rows).all():
            bad = (~torch.isfinite(rows)).any(dim=1).nonzero().flatten().tolist()
            raise ValueError(f"features: {len(bad)} of {len(rows)} rows are not finite, the first is row {bad[0]}")
        if len(rows) == 0:
            self._grow(0, rows.new_zeros(rows.shape[1]))
            return
        mean = rows.mean(dim=0)
        centred = rows - mean
        self._grow(len(rows), mean).addmm_(centred.T, centred)

    def merge(self, part: Statistics) -> None:
        """Add the rows behind `part`, as if they had been given to `update`; ValueError when its space differs."""
        if part.space != self.space:
            raise ValueError(f"statistics of {part.space} cannot be merged into those of {self.space}")
        scatter = self._grow(part.count, part.mean)
        scatter.add_(part.scatter.to(scatter.device))

    def _grow(self, count: int, mean: Tensor) -> Tensor:
        """Take in the mean of `count` new rows; return the scatter, which still lacks their own."""
        if self._mean is None or self._scatter is None:
            self._mean = torch.zeros_like(mean)
            self._scatter = mean.new_zeros(len(mean), len(mean))
        if mean.shape != self._mean.shape:
            raise ValueError(f"features have width {len(mean)}, those before had width {len(self._mean)}")
        if count:
            total = self.count + count
            delta = mean.to(self._mean.device) - self._mean
            self._mean += delta * (count / total)
            self._scatter.addr_(delta, delta, alpha=self.count * count / total)
            self.count = total
        return self._scatter

    @property
    def statistics(self) -> Statistics:
        """What was accumulated so far, as a copy; ValueError before the first batch."""
        if self._mean is None or self._scatter is None:
            raise ValueError("no features were given: call update with features (n, d) first")
        covariance = self._scatter / max(self.count - 1, 1)
        return Statistics(self.count, self._mean.clone(), (covariance + covariance.T) / 2, self.space)


def merge(parts: Iterable[Statistics]) -> Statistics:
    """The statistics of all rows behind the parts (batches, ranks, files; empty parts allowed)."""
    accumulator: Accumulator | None = None
    for part in parts:
        accumulator = accumulator or Accumulator(part.space)
        accumulator.merge(part)
    if accumulator is None:
        raise ValueError("merge: there are no statistics to merge")
    return accumulator.statistics


def as_float64(features: Tensor) -> Tensor:
    """The features in float64, on their own device where it has float64 (Apple's has not), else on the CPU."""
    home = "cpu" if features.device.type == "mps" else features.device
    return features.detach().to(home).double()
