"""What a scale's denoiser is: it predicts a scale token by token, from the next coarser one and what it has drawn."""

from collections.abc import Callable
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from discrete_diffusion._types import Times
from discrete_diffusion.denoiser import Prediction
from discrete_diffusion.imagebart._types import Labels, Prefix, SourceTokens

Decoding: TypeAlias = Callable[[Tensor | None], Tensor]
"""A scale being drawn: called with the tokens (b,) just drawn, None at first, it gives the next logits, (b, k)."""


@runtime_checkable
class ScaleDenoiser(Protocol):
    """Anything that predicts `x_{t-1}`, in raster order, from `x_t`."""

    def __call__(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None, *, target: Tensor) -> Prediction:
        """Logits (b, n, k) of `target = x_{t-1}`, those of token i from `x_t` and the tokens of `target` before i."""
        ...

    def decode(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Decoding:
        """Begin to draw `x_{t-1}`: what depends on `x_t` alone is computed now, once."""
        ...


def source_tokens(
    t: Times, condition: Labels | Prefix | None, *, prefix: int, offset: int, vocabulary: int
) -> SourceTokens:
    """The tokens that stand before all others: the scale, and the prefix that conditions, (b, 1 + p).

    Args:
        t: scales (b,).
        condition: labels (b,), or tokens of a text (b, p); None where the model has no prefix.
        prefix: p, the length that the model was built for.
        offset: added to the condition.
        vocabulary: number of tokens that the model embeds.

    Raises:
        ValueError: if the condition is not as long as the model's prefix, or something is not embedded.
    """
    given = torch.zeros(len(t), 0, dtype=torch.long, device=t.device)
    if condition is not None:
        given = condition[:, None] if condition.ndim == 1 else condition
    if given.shape != (len(t), prefix):
        wanted = "none: the model is unconditional" if prefix == 0 else f"tokens ({len(t)}, {prefix}), or labels for 1"
        raise ValueError(f"condition: expected {wanted}; got {None if condition is None else tuple(condition.shape)}")
    tokens = torch.cat([t[:, None], given + offset], 1)
    if has_values(tokens) and (int(tokens.min()) < 0 or int(tokens.max()) >= vocabulary):
        raise ValueError(
            f"t and condition: the model embeds tokens 0 to {vocabulary - 1}, these reach from {int(tokens.min())} "
            f"to {int(tokens.max())} (with an offset of {offset}); build it with a larger vocabulary"
        )
    return tokens


def check_tokens(name: str, x: Tensor, grid: tuple[int, int], codes: int) -> None:
    """Whether tokens fill the grid and are codes.

    Raises:
        ValueError: if not.
    """
    h, w = grid
    if x.ndim != 2 or x.shape[1] != h * w:
        raise ValueError(f"{name}: expected tokens (b, {h * w}) for a grid of {h} x {w}, got {tuple(x.shape)}")
    if has_values(x) and (int(x.min()) < 0 or int(x.max()) >= codes):
        raise ValueError(f"{name}: tokens must be in 0 .. {codes - 1}, got {int(x.min())} to {int(x.max())}")


def has_values(x: Tensor) -> bool:
    """Whether there is something to look at: not while compiling, nor in tensors that have a shape alone."""
    return x.numel() > 0 and not x.is_meta and not torch.compiler.is_compiling()
