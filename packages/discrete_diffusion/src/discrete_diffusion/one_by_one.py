"""Answers that do not depend on the batch: a denoiser that wraps a denoiser."""

import torch
from torch import Tensor, nn

from discrete_diffusion._types import Condition, Times, Tokens
from discrete_diffusion.denoiser import Denoiser, Prediction


class OneByOne(nn.Module):
    """A denoiser that asks the one it wraps about each example by itself.

    The kernels of a network choose an order of summation by the size of the batch. So the logits of an example alone
    and among eight differ in their last bits, and where a draw stands within rounding of a tie so do its tokens. Asked
    about one by one they are equal: with a generator per example, `sample` draws the same tokens in every batch and on
    any number of ranks, on one kind of machine with one number of threads. It takes what a batch would have saved: on a
    CPU little for large networks, on a GPU much.

    Give it to `sample` in the other's place, guided or not. `Prepared` does as much in whole batches, for transformers
    without convolutions on a CPU.

    Args:
        denoiser: the one that is asked.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x_t: Tokens, t: Times, condition: Condition | None = None) -> Prediction:
        """Predict the clean tokens of each example in a call of its own."""
        if not len(x_t):
            return self.denoiser(x_t, t, condition)
        predictions = [
            self.denoiser(_row(x_t, i), _row(t, i), None if condition is None else _row(condition, i))
            for i in range(len(x_t))
        ]
        return Prediction(torch.cat([p.value for p in predictions]), torch.cat([p.features for p in predictions]))

    def null_condition(self, b: int, l: int) -> Condition:  # noqa: E741
        """The condition that says nothing, for b examples of l states."""
        return self.denoiser.null_condition(b, l)


def _row(batch: Tensor, i: int) -> Tensor:
    """A batch of one in memory of its own, so that kernels find it aligned as any other."""
    return batch[i : i + 1].clone(memory_format=torch.contiguous_format)
