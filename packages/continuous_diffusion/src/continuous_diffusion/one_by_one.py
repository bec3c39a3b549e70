"""Answers that do not depend on the batch: a denoiser that wraps a denoiser."""

from collections.abc import Sequence
from dataclasses import fields, replace

import torch
from torch import Tensor, nn

from continuous_diffusion._types import Images, States, Times
from continuous_diffusion.denoiser import (
    Condition,
    ConditionalDenoiser,
    Denoiser,
    Given,
    Prediction,
    null_class,
)


class OneByOne(nn.Module):
    """A denoiser that asks the one it wraps about each example by itself.

    The kernels of a network choose an order of summation by the size of the batch. So an image made alone and the same
    image made among eight differ in their last bits, and once in a while in a byte. Asked about one by one they are
    equal: with a generator per image, `sample` makes image i of the same bytes in every batch and on any number of
    ranks, on one kind of machine with one number of threads. It takes what a batch would have saved: on a CPU little
    for large networks, on a GPU much.

    Give it to `sample` in the other's place, guided or not.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x_t: Images, t: Times, condition: Given | None = None) -> Prediction:
        """The predictions, each from a call of its own."""
        if not len(x_t):
            return self.denoiser(x_t, t, condition)
        return _together(
            [self.denoiser(_row(x_t, i), _row(t, i), _condition_of(condition, i)) for i in range(len(x_t))]
        )

    def null_condition(self, b: int, l: int) -> States:  # noqa: E741
        """The states of "no condition", (b, l, d_c). Raises TypeError when the denoiser has none."""
        if not isinstance(self.denoiser, ConditionalDenoiser):
            raise TypeError(f"{type(self.denoiser).__name__} has no null_condition(b, l): pass null= to Guided")
        return self.denoiser.null_condition(b, l)

    @property
    def null_class(self) -> int | None:
        """The label of "no class"."""
        return null_class(self.denoiser)


def _row(batch: Tensor, i: int) -> Tensor:
    """A batch of one in memory of its own, so that kernels find it aligned as any other."""
    return batch[i : i + 1].clone(memory_format=torch.contiguous_format)


def _condition_of(given: Given | None, i: int) -> Tensor | Condition | None:
    if given is None or isinstance(given, Tensor):
        return None if given is None else _row(given, i)
    there = {field.name: part for field in fields(Condition) if (part := getattr(given, field.name)) is not None}
    return replace(given, **{name: _row(part, i) for name, part in there.items()})


def _together(predictions: Sequence[Prediction]) -> Prediction:
    first = predictions[0]
    return replace(
        first, **{field.name: torch.cat([getattr(p, field.name) for p in predictions]) for field in fields(first)}
    )
