"""What a denoiser is: a function of the noisy state, the time and the condition."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from continuous_diffusion._types import Condition, Features, Images, Times


@dataclass(frozen=True)
class Prediction:
    """What a denoiser answers: `value` in the coordinates of its target, and the `features` its last layer read."""

    value: Images
    features: Features


@runtime_checkable
class Denoiser(Protocol):
    """Anything that can be called so; `t` counts 1..T, one step per example, and `condition` is (b, l, d_c) or None."""

    def __call__(self, x_t: Images, t: Times, condition: Condition | None = None) -> Prediction:
        """The prediction for each noisy state."""


@runtime_checkable
class ConditionalDenoiser(Denoiser, Protocol):
    """A denoiser that also knows what to read where there is no condition."""

    def null_condition(self, b: int, l: int) -> Condition:  # noqa: E741
        """The states of "no condition", (b, l, d_c)."""


def null_condition(denoiser: Denoiser, condition: Condition) -> Condition:
    """The denoiser's own null states, shaped as `condition`.

    Raises TypeError when the denoiser has none.
    """
    if not isinstance(denoiser, ConditionalDenoiser):
        raise TypeError(
            f"{type(denoiser).__name__} has no null_condition(b, l): pass null= to Guided, or condition_dropout=0"
        )
    return denoiser.null_condition(condition.shape[0], condition.shape[1]).to(condition)
