"""Random draws from explicit generators: one for a batch, or one per example."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from discrete_diffusion._types import Generators, LogStates, Tokens


def uniform(shape: tuple[int, ...], *, device: torch.device, generator: Generators = None) -> Float[Tensor, "..."]:
    """Draw from U[0, 1) in float64; with a sequence of generators, row i comes from generator i alone.

    Raises:
        ValueError: if the sequence has not one generator per row.
    """
    if not isinstance(generator, Sequence):
        source = device if generator is None else generator.device
        return torch.rand(shape, dtype=torch.float64, device=source, generator=generator).to(device)
    if len(generator) != shape[0]:
        raise ValueError(f"generator: {len(generator)} generators for a batch of {shape[0]}; give one per example")
    rows = [torch.rand(shape[1:], dtype=torch.float64, device=one.device, generator=one) for one in generator]
    return torch.stack([row.to(device) for row in rows])


def gumbel_max(log_p: LogStates, *, generator: Generators = None) -> Tokens:
    """Draw `argmax_j (log p_j - log(-log u_j))`, one state per token, from log-probabilities (b, n, m).

    It is computed as `argmin_j -log(u_j) / p_j`, with one logarithm less. The noise is float64: in float32 the largest
    Gumbel value is 16.6, which makes rare states rarer than they are.
    """
    u = uniform(tuple(log_p.shape), device=log_p.device, generator=generator)
    return u.log().neg_().div_(log_p.exp()).argmin(-1)


def categorical(law: Float[Tensor, "r k"], u: Float[Tensor, " r"]) -> Int64[Tensor, " r"]:
    """Draw one of k from every row of weights by inverting its cumulative sum at u in [0, 1), both float64.

    The weights need not sum to 1; one of weight 0 is never drawn, unless all of a row are.
    """
    cumulative = law.cumsum(-1)
    total = cumulative[:, -1]
    below = torch.minimum(u * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, below[:, None], right=True).squeeze(-1).clamp_max(law.shape[-1] - 1)
