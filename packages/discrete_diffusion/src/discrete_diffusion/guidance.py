"""Classifier-free guidance, as a denoiser that wraps a denoiser."""

import torch
from torch import Tensor, nn

from discrete_diffusion._types import Condition, Times, Tokens
from discrete_diffusion.denoiser import Denoiser, Prediction


class Guided(nn.Module):
    r"""A denoiser whose log-probabilities are `log p(x_0) + scale (log p(x_0 | y) - log p(x_0))`, renormalised.

    Both are computed in one batch of twice the size. `features` are those of the conditional half.

    Args:
        denoiser: the conditional denoiser.
        scale: 1 is no guidance, and calls the denoiser once on the batch as it is; the paper's `s` is `scale - 1`.
        null: condition that says nothing, (1 or b, 1 or l, d_c) or labels (1 or b,). `denoiser.null_condition` unless
            given: what training learnt. The states of the empty caption guide a model that learnt none (zero-shot).

    Source: Improved VQ-Diffusion discrete classifier-free guidance
    """

    def __init__(self, denoiser: Denoiser, scale: float, *, null: Condition | None = None) -> None:
        super().__init__()
        self.denoiser, self.scale, self.null = denoiser, scale, null

    def forward(self, x_t: Tokens, t: Times, condition: Condition | None = None) -> Prediction:
        """Predict the clean tokens; `value` holds normalised log-probabilities (b, n, k).

        Raises:
            ValueError: if there is no condition to guide towards.
        """
        if self.scale == 1:
            return self.denoiser(x_t, t, condition)
        if condition is None:
            raise ValueError("condition: guidance needs one; give it, or use scale 1")
        both = self.denoiser(x_t.repeat(2, 1), t.repeat(2), torch.cat([condition, self._null(condition)]))
        conditional, unconditional = both.value.float().log_softmax(-1).chunk(2)
        value = torch.lerp(unconditional, conditional, self.scale).log_softmax(-1)
        return Prediction(value, both.features.chunk(2)[0])

    def null_condition(self, b: int, l: int) -> Condition:  # noqa: E741
        """The condition that says nothing, for b examples of l states.

        Raises:
            ValueError: if there is none, or the one given has other numbers of examples or states than these or 1.
        """
        if self.null is None:
            return self.denoiser.null_condition(b, l)
        if len(self.null) not in (1, b) or (self.null.ndim == 3 and self.null.shape[1] not in (1, l)):
            raise ValueError(
                f"null: {tuple(self.null.shape)} does not fit {b} examples of {l} states; give 1 or as many of either"
            )
        return self.null.expand(b, l, -1) if self.null.ndim == 3 else self.null.expand(b)

    def _null(self, condition: Tensor) -> Tensor:
        return self.null_condition(len(condition), condition.shape[1] if condition.ndim == 3 else 1).to(condition)
