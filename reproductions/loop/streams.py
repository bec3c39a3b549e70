"""The random numbers and the order of examples of a training: functions of the seed, the step and the rank alone."""

import hashlib
from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=2)
def permutation(length: int, epoch: int, seed: int) -> Tensor:
    """The order of one pass over the data."""
    return torch.randperm(length, generator=stream(seed, epoch, -1, torch.device("cpu")))


def shuffled(length: int, batch: int, step: int, seed: int) -> Tensor:
    """The indices (batch,) of step `step`: consecutive places of one shuffled pass after the other."""
    places = range(step * batch, (step + 1) * batch)
    epochs = torch.tensor([place // length for place in places])
    within = torch.tensor([place % length for place in places])
    pieces = [permutation(length, int(e), seed)[within[epochs == e]] for e in epochs.unique()]
    return torch.cat(pieces)


def stream(seed: int, step: int, rank: int, device: torch.device) -> torch.Generator:
    """The random numbers of one step on one rank; torch's global generator is set to the same place."""
    key = stream_key(seed, step, rank)
    if rank >= 0:
        torch.manual_seed(key)
    return torch.Generator(device).manual_seed(key)


def stream_key(seed: int, step: int, rank: int) -> int:
    """The seed of a stream."""
    return int.from_bytes(hashlib.sha256(f"{seed},{step},{rank}".encode()).digest()[:7], "big")
