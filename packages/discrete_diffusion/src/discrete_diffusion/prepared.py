"""A transformer made ready for sampling: what does not change over the steps is computed once."""

import torch
from torch import Tensor

from discrete_diffusion._types import Condition, Times, Tokens
from discrete_diffusion.attention import KeysValues
from discrete_diffusion.blocks import AdaptiveNorm, Block, Given
from discrete_diffusion.denoiser import Prediction, TokenTransformer


class Prepared:
    """A denoiser that predicts what the one it wraps does, up to rounding, without its gradients.

    Give it to `sample` in the other's place, guided or not. Two things are kept:

    * the modulations of every norm at all T times, and for all classes. They depend on nothing else. Being made
      together for all, they do not depend on the size of the batch either, as those of the transformer itself do in
      their last bits; so on a CPU the logits of an example are the same bytes alone and in a batch, if no layer
      convolves (the kernel of a convolution for one example rounds otherwise).
    * keys and values of the condition that came last. Sampling gives the same at every step; another, of other values,
      takes its place.

    Both are made anew when the weights have changed. The first take 2 d (2 T + classes + 1) numbers in every block.
    With `class_in_time` a modulation depends on time and class at once, and none is kept.

    Args:
        denoiser: the transformer.
    """

    def __init__(self, denoiser: TokenTransformer) -> None:
        self.denoiser = denoiser
        self._weights: list[tuple[int, int]] = []
        self._tables: list[Given] = []
        self._condition: Tensor | None = None
        self._keys_values: list[KeysValues | None] = []

    @torch.no_grad()
    def __call__(self, x_t: Tokens, t: Times, condition: Condition | None = None) -> Prediction:
        """Predict the clean tokens; see `TokenTransformer`."""
        self.denoiser.check(x_t, t, condition)
        condition = self.denoiser.completed(condition, len(x_t))
        self._follow_weights(x_t.device)
        if self.denoiser.labels is not None and condition is not None:
            label: Tensor = self.denoiser.labels(condition)
            return self.denoiser.through(x_t, lambda block, i: block.given(t, None, label))
        if self.denoiser.null is not None and condition is not None:
            self._follow(condition)
        return self.denoiser.through(x_t, lambda block, i: self._given(i, t, condition))

    def null_condition(self, b: int, l: int) -> Condition:  # noqa: E741
        """The condition that says nothing, for b examples of l states."""
        return self.denoiser.null_condition(b, l)

    def _given(self, i: int, t: Tensor, condition: Tensor | None) -> Given:
        table = self._tables[i]
        return Given(
            table.self_norm[t - 1],
            None if table.cross_norm is None else table.cross_norm[t - 1],
            None if table.last_norm is None or condition is None else table.last_norm[condition],
            self._keys_values[i],
        )

    def _follow_weights(self, device: torch.device) -> None:
        weights = [(p.data_ptr(), 0 if p.is_inference() else p._version) for p in self.denoiser.parameters()]
        if weights == self._weights:
            return
        self._weights, self._condition = weights, None
        self._keys_values = [None for _ in self.denoiser.blocks]
        times = torch.arange(1, self.denoiser.steps + 1, device=device)
        self._tables = [] if self.denoiser.labels is not None else [self._table(b, times) for b in self._blocks()]

    def _table(self, block: Block, times: Tensor) -> Given:
        table = block.given(times)
        if self.denoiser.classes is None or not isinstance(block.norm, AdaptiveNorm):
            return table
        labels = torch.arange(self.denoiser.classes + 1, device=times.device)
        return table._replace(last_norm=block.norm.modulations(labels))

    def _follow(self, condition: Tensor) -> None:
        if self._condition is None or not torch.equal(condition, self._condition):
            self._condition = condition.clone()
            self._keys_values = [block.keys_values(condition) for block in self._blocks()]

    def _blocks(self) -> list[Block]:
        return [block for block in self.denoiser.blocks if isinstance(block, Block)]
