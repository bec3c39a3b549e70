"""What a denoiser is: a function of the noisy state, the time and the condition."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from continuous_diffusion._types import Images, Labels, LastFeatures, Rows, States, Times


@dataclass(frozen=True)
class Prediction:
    """What a denoiser answers: `value` in the coordinates of its target, and the `features` its last layer read."""

    value: Images
    features: LastFeatures


@dataclass(frozen=True)
class PredictionWithVariance(Prediction):
    r"""The answer of a denoiser that learned its variance too: `variance`, of the shape of `value`.

    Its values $v$ in -1..1 stand between the two bounds: $\log \sigma^2 = f \log \beta_t + (1 - f) \log
    \tilde\beta_t$ with $f = (v + 1) / 2$.
    """

    variance: Images


@dataclass(frozen=True)
class Condition:
    """All that an image may be made for; a part that is None is not there. States alone may be given as a tensor.

    * `context`: states (b, l, d_c), read by cross-attention: a caption, a layout, an embedded class.
    * `classes`: labels (b,), added to the time; the denoiser's `null_class` means none.
    * `concat`: (b, c, h, w), put beside the channels of the noisy state: a mask and a masked image, a map, a smaller
      image.
    * `level`: (b,), the step 0..T to which the image in `concat` was noised; 0 is clean.

    Guidance and condition dropout replace `context` and `classes`, and leave the other two as they are.

    Raises ValueError for parts of another batch.
    """

    context: States | None = None
    classes: Labels | None = None
    concat: Images | None = None
    level: Labels | None = None

    def __post_init__(self) -> None:
        sizes = {field.name: len(part) for field in fields(self) if (part := getattr(self, field.name)) is not None}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"condition: its parts are of different batches: {sizes}")

    @classmethod
    def of(cls, given: "Given | None") -> "Condition":
        """The same as a condition: states are its context, None is nothing."""
        return given if isinstance(given, Condition) else cls(context=given)


Given: TypeAlias = States | Condition


@runtime_checkable
class Denoiser(Protocol):
    """Anything that can be called so; `t` counts 1..T, one step per example."""

    def __call__(self, x_t: Images, t: Times, condition: Given | None = None) -> Prediction:
        """The prediction for each noisy state."""


@runtime_checkable
class ConditionalDenoiser(Denoiser, Protocol):
    """A denoiser that also knows what to read where there is no condition.

    One that reads classes has an attribute `null_class` too, the label of "no class".
    """

    def null_condition(self, b: int, l: int) -> States:  # noqa: E741
        """The states of "no condition", (b, l, d_c)."""


def present(part: Tensor | None, expected: bool, name: str, option: str, instead: str) -> None:
    """Check that a part of the condition is there if and only if the network, by its `option`, reads it.

    Raises ValueError that says which.
    """
    if part is None and expected:
        raise ValueError(f"{name} is missing: this network was built with {option}; {instead}")
    if part is not None and not expected:
        raise ValueError(f"{name} was given to a network that does not read it: build it with {option}")


def check_labels(classes: Labels | None, highest: int) -> None:
    """Check that labels are in 0..highest, on the CPU alone, where that costs nothing.

    Raises ValueError that says which are there.
    """
    if classes is None or classes.device.type != "cpu" or not classes.numel() or torch.compiler.is_compiling():
        return
    if not 0 <= classes.min() <= classes.max() <= highest:
        raise ValueError(f"condition.classes: {classes.min()} to {classes.max()}, expected 0..{highest}")


def guides(given: Given) -> bool:
    """Whether there is a part that guidance and dropout replace."""
    return isinstance(given, Tensor) or given.context is not None or given.classes is not None


def null_condition(denoiser: Denoiser, given: Given) -> Given:
    """The same condition with the denoiser's own null states and null class in place of context and classes.

    Raises TypeError when the denoiser has no null states, ValueError when it has no null class, and they are needed.
    """
    if isinstance(given, Tensor):
        return _null_states(denoiser, given)
    context = None if given.context is None else _null_states(denoiser, given.context)
    classes = None if given.classes is None else _null_classes(denoiser, given.classes)
    return replace(given, context=context, classes=classes)


def joined(first: Given, second: Given) -> Tensor | Condition:
    """One batch of two: the rows of the first, then those of the second."""
    return _part_by_part(lambda one, other: torch.cat([one, other]), first, second)


def replaced(rows: Rows, given: Given, by: Given) -> Tensor | Condition:
    """The condition with the chosen rows taken from another."""
    return _part_by_part(lambda one, other: torch.where(rows.view(-1, *[1] * (one.ndim - 1)), other, one), given, by)


def _part_by_part(combine: Callable[[Tensor, Tensor], Tensor], first: Given, second: Given) -> Tensor | Condition:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return combine(first, second)
    one, other = Condition.of(first), Condition.of(second)
    parts = {field.name: (getattr(one, field.name), getattr(other, field.name)) for field in fields(Condition)}
    if alone := [name for name, (a, b) in parts.items() if (a is None) != (b is None)]:
        raise ValueError(f"condition: {', '.join(alone)} is there in one of two conditions that go into one batch")
    return Condition(**{name: combine(a, b) for name, (a, b) in parts.items() if a is not None})


def _null_states(denoiser: Denoiser, states: States) -> States:
    if not isinstance(denoiser, ConditionalDenoiser):
        raise TypeError(
            f"{type(denoiser).__name__} has no null_condition(b, l): pass null= to Guided, or condition_dropout=0"
        )
    return denoiser.null_condition(states.shape[0], states.shape[1]).to(states)


def _null_classes(denoiser: Denoiser, classes: Labels) -> Labels:
    label = null_class(denoiser)
    if label is None:
        raise ValueError(f"{type(denoiser).__name__} has no null_class: guide it with 1, or set condition_dropout=0")
    return torch.full_like(classes, label)


def null_class(denoiser: Denoiser) -> int | None:
    """The denoiser's label of "no class", None where it has none."""
    label: int | None = getattr(denoiser, "null_class", None)
    return label
