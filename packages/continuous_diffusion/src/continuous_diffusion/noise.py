"""Gaussian draws, from one generator for the whole batch or from one generator per image."""

from collections.abc import Sequence

import torch
from torch import Tensor

from continuous_diffusion._types import Generators


def gaussian(
    shape: Sequence[int],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    generator: Generators = None,
) -> Tensor:
    """Independent N(0, 1) numbers of the given shape.

    With a sequence of generators, one per row of the batch, row i depends on generator i alone, whatever the batch
    holds beside it. A generator draws on its own device; the numbers are then moved.

    Raises ValueError when there are not exactly `shape[0]` generators in the sequence.
    """
    if generator is None:
        return torch.randn(*shape, device=device, dtype=dtype)
    if isinstance(generator, torch.Generator):
        return torch.randn(*shape, device=generator.device, dtype=dtype, generator=generator).to(device)
    if len(generator) != shape[0]:
        raise ValueError(f"generator: {len(generator)} generators for a batch of {shape[0]}; pass one per image")
    rows = [torch.randn(*shape[1:], device=one.device, dtype=dtype, generator=one).to(device) for one in generator]
    return torch.stack(rows)
