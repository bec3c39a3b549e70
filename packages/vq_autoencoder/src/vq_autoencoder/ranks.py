"""What the bottlenecks ask of the other ranks; alone, each of these gives back its argument."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from ._types import Grid


def together() -> bool:
    """Whether `torch.distributed` is initialised."""
    return dist.is_available() and dist.is_initialized()


def sum_over(values: Tensor) -> Tensor:
    """Sum over ranks, in place."""
    if together():
        dist.all_reduce(values)
    return values


def examples_of_all(latents: Grid) -> Grid:
    """The examples of all ranks in the order of the batch that they were dealt from: one to each rank, in turn.

    Where ranks have different numbers of them, those of one rank follow those of another.
    """
    if not together():
        return latents
    counts = [torch.zeros((), dtype=torch.int64, device=latents.device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor(len(latents), device=latents.device))
    numbers = [int(count) for count in counts]
    padded = latents.new_zeros(max(numbers), *latents.shape[1:])
    padded[: len(latents)] = latents
    gathered = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(gathered, padded)
    if len(set(numbers)) == 1:
        return torch.stack(gathered, dim=1).flatten(0, 1)
    return torch.cat([part[:number] for part, number in zip(gathered, numbers, strict=True)])


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
