"""What the bottlenecks ask of the other ranks; alone, each of these gives back its argument."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from ._types import Rows


def together() -> bool:
    """Whether `torch.distributed` is initialised."""
    return dist.is_available() and dist.is_initialized()


def sum_over(values: Tensor) -> Tensor:
    """Sum over ranks, in place."""
    if together():
        dist.all_reduce(values)
    return values


def rows_of_all(rows: Rows) -> Rows:
    """The rows of all ranks, in order of rank; ranks may have different numbers of them."""
    if not together():
        return rows
    counts = [torch.zeros((), dtype=torch.int64, device=rows.device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor(len(rows), device=rows.device))
    padded = rows.new_zeros(max(int(count) for count in counts), rows.shape[1])
    padded[: len(rows)] = rows
    gathered = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(gathered, padded)
    return torch.cat([part[: int(count)] for part, count in zip(gathered, counts, strict=True)])


def from_first(values: Tensor) -> Tensor:
    """The values of rank 0, in place."""
    if together():
        dist.broadcast(values, src=0)
    return values


def mean_over(values: Tensor) -> Tensor:
    """Mean over ranks, in place; no gradient passes."""
    if together():
        dist.all_reduce(values)
        values /= dist.get_world_size()
    return values
