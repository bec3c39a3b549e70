"""Statistics of all ranks of a distributed run, merged alike on every one of them."""

from __future__ import annotations

import hashlib
from dataclasses import astuple

import torch
from torch import Tensor, distributed

from .statistics import Accumulator, Statistics, merge


def merge_ranks(accumulator: Accumulator, *, group: distributed.ProcessGroup | None = None) -> Statistics:
    """The statistics of the rows of all ranks, the same to the last bit on each; ranks without rows take part too.

    Every rank of `group` (default: all) must call it. It gathers one mean and one covariance a rank, in float64, and
    merges them in order of rank. Raises ValueError, on every rank, when widths or feature spaces differ or no rank
    has rows; RuntimeError when torch.distributed is not initialised.
    """
    if not distributed.is_initialized():
        raise RuntimeError("merge_ranks: torch.distributed is not initialised; with one process, read .statistics")
    own = accumulator.statistics if accumulator.count else None
    device = _device(own, group)
    digest = hashlib.sha256(repr(astuple(accumulator.space)).encode()).digest()[:7]
    heads = _gathered(
        torch.tensor(
            [accumulator.count, 0 if own is None else len(own.mean), int.from_bytes(digest, "big")], device=device
        ),
        group,
    )
    counts, widths, spaces = torch.stack(heads).cpu().T.tolist()
    if len(set(spaces)) > 1:
        raise ValueError(f"ranks measure in different feature spaces; this one in {accumulator.space}: use one")
    if len({width for width in widths if width}) != 1:
        raise ValueError(f"the ranks' features have widths {widths}, their counts are {counts}: nothing can be merged")
    width = max(widths)
    if own is None:
        zeros = torch.zeros(width, dtype=torch.float64, device=device)
        own = Statistics(0, zeros, zeros.new_zeros(width, width), accumulator.space)
    means = _gathered(own.mean.to(device), group)
    covariances = _gathered(own.covariance.to(device), group)
    parts = zip(counts, means, covariances, strict=True)
    return merge(Statistics(count, mean, covariance, accumulator.space) for count, mean, covariance in parts)


def _device(own: Statistics | None, group: distributed.ProcessGroup | None) -> torch.device:
    if distributed.get_backend(group) == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu") if own is None or own.mean.device.type != "cpu" else own.mean.device


def _gathered(tensor: Tensor, group: distributed.ProcessGroup | None) -> list[Tensor]:
    held = [torch.empty_like(tensor) for _ in range(distributed.get_world_size(group))]
    distributed.all_gather(held, tensor.contiguous(), group=group)
    return held
