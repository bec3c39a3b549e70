"""The nearest code of many latents, without the matrix of all distances."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ._types import Codebook, Rows, TokenRow

DISTANCES_AT_ONCE = 2**19
CODES_AT_ONCE = 64


@torch.no_grad()
def nearest_code(latents: Rows, codebook: Codebook) -> TokenRow:
    """`argmin_k |z - e_k|^2` for every row, the lowest index on a tie.

    Distances are computed in blocks that stay in a processor's cache, of about half a million entries, or as many as
    the codebook has where that is more; the whole n x k matrix is never held.

    Source: VQGAN quantisation
    """
    codebook = codebook.to(latents.dtype)
    k, d = codebook.shape
    size = max(1, DISTANCES_AT_ONCE // k, min(d, len(latents)))
    half_norms = 0.5 * codebook.square().sum(dim=1)
    distances = latents.new_empty(min(size, len(latents)), k)
    found = []
    for block in torch.split(latents, size):
        part = distances[: len(block)]
        torch.mm(block, codebook.T, out=part)
        torch.sub(half_norms, part, out=part)
        found.append(lowest(part))
    return torch.cat(found)


def lowest(values: Float[Tensor, "n k"]) -> TokenRow:
    """`values.argmin(dim=1)`, the lowest index on a tie; in two steps where rows are long.

    The minimum over groups of codes is a vector instruction on a CPU, an argmin is not.
    """
    k = values.shape[1]
    if values.is_cuda or k < 4 * CODES_AT_ONCE or k % CODES_AT_ONCE:
        return values.argmin(dim=1)
    groups = values.view(len(values), k // CODES_AT_ONCE, CODES_AT_ONCE)
    group = groups.amin(dim=2).argmin(dim=1)
    chosen = groups[torch.arange(len(values), device=values.device), group]
    tokens: Tensor = group * CODES_AT_ONCE + chosen.argmin(dim=1)
    return tokens
