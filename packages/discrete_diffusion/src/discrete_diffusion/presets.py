"""The published denoisers by name, with how they were trained, and small ones for 32, 64 and 128 pixels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from discrete_diffusion.denoiser import Denoiser, TokenTransformer
from discrete_diffusion.forward_process import ForwardProcess
from discrete_diffusion.objective import Objective
from discrete_diffusion.schedule import Schedule
from discrete_diffusion.time_sampling import ImportanceTimes, UniformTimes


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a denoiser was trained: AdamW, a linear warm-up, then `factor` times less when the loss stays on a plateau.

    Attributes:
        batch: images a step on each device.
        epochs: passes over the images; 0 where it is not known.
        learning_rate: after the warm-up.
        warmup: its steps.
        patience: steps without a gain of `threshold` (relative) before the rate falls.
        threshold: see `patience`.
        factor: by which the rate falls, not below `least_rate`.
        least_rate: see `factor`.
        betas: of AdamW.
        weight_decay: of AdamW, on all parameters.
        clip: largest norm of the gradient.
        ema: decay of the averaged weights.
        ema_interval: steps between two updates of these.
        auxiliary_weight: of the auxiliary loss.
        condition_dropout: share of examples without their condition.
        importance: whether t is drawn by importance, or evenly.

    Source: VQ-Diffusion training recipe
    """

    batch: int
    epochs: int = 0
    learning_rate: float = 4.5e-4
    warmup: int = 5_000
    patience: int = 60_000
    threshold: float = 0.1
    factor: float = 0.5
    least_rate: float = 1e-6
    betas: tuple[float, float] = (0.9, 0.96)
    weight_decay: float = 4.5e-2
    clip: float = 0.5
    ema: float = 0.99
    ema_interval: int = 25
    auxiliary_weight: float = 5e-4
    condition_dropout: float = 0.0
    importance: bool = True


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A denoiser, its noise, and how it was trained and is sampled from.

    Attributes:
        name: under which it stands in `PRESETS`.
        arguments: of `TokenTransformer`.
        recipe: how it was trained.
        schedule: of the noise, from T and the number of codes.
        guidance: scale of classifier-free guidance in sampling; 1 is none.
        truncation: in sampling, see `truncate`.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    recipe: Recipe
    schedule: Callable[[int, int], Schedule] = Schedule.released
    guidance: float = 1.0
    truncation: float | None = None

    def build(self, **changes: Any) -> TokenTransformer:  # noqa: ANN401
        """A fresh denoiser, with other arguments where given; under `torch.device("meta")` one without memory."""
        return TokenTransformer(**{**self.arguments, **changes})

    def process(self) -> ForwardProcess:
        """Its forward process."""
        return ForwardProcess(self.schedule(self.arguments["steps"], self.arguments["codes"]))

    def objective(self, denoiser: Denoiser, process: ForwardProcess | None = None) -> Objective:
        """The objective it was trained with; `process` where the codes or the steps are others."""
        process = self.process() if process is None else process
        return Objective(
            denoiser,
            process,
            condition_dropout=self.recipe.condition_dropout,
            auxiliary_weight=self.recipe.auxiliary_weight,
            times=ImportanceTimes(process.T) if self.recipe.importance else UniformTimes(process.T),
        )


def _text() -> tuple[Preset, ...]:
    """The models of captions: CLIP's 512 states of the 77 tokens of a caption, 32 x 32 tokens of images of 256 pixels.

    The papers count parameters in 2^20 and 2^30: 34 M, 370 M and 1.27 G are 35.9, 388.8 and 1,359 million.

    Those to be guided have 77 null states more; the others have none, as released.

    Source: VQ-Diffusion model sizes, training recipe
    """
    grid = {"grid": (32, 32), "steps": 100, "condition_width": 512, "null_length": 0, "heads": 16}
    base = {**grid, "codes": 2887, "width": 1024, "depth": 19, "feedforward": 4}
    small = {
        **grid,
        "codes": 2887,
        "width": 192,
        "depth": 18,
        "feedforward": 2,
        "convolutional_feedforward": True,
    }
    birds = Recipe(batch=4, epochs=400, warmup=1_000, patience=25_000)
    return (
        Preset(name="s", arguments=small, recipe=replace(birds, epochs=800), truncation=0.86),
        Preset(
            name="b",
            arguments=base,
            recipe=Recipe(batch=4, epochs=100, learning_rate=2e-4, warmup=1_000),
            truncation=0.86,
        ),
        Preset(name="b-birds", arguments=base, recipe=birds, truncation=0.86),
        Preset(name="f", arguments=base, recipe=Recipe(batch=4, epochs=100), truncation=0.86),
        *_ithq(grid),
        _guided(base),
    )


def _ithq(grid: Mapping[str, Any]) -> tuple[Preset, Preset]:
    """The largest; the released recipe is that of its last training, from the weights of one before.

    Source: VQ-Diffusion model sizes, training recipe
    Unstated: how the guided one was trained; as the other, with a tenth of the captions left out
        [Objective.condition_dropout].
    """
    large = {**grid, "codes": 4096, "width": 1408, "depth": 36, "feedforward": 4}
    recipe = Recipe(batch=8, epochs=50, learning_rate=1e-4, warmup=7_000, patience=50_000, threshold=0.05)
    return (
        Preset(name="ithq", arguments=large, recipe=recipe, truncation=0.86),
        Preset(
            name="ithq-guided",
            arguments={**large, "null_length": 77},
            recipe=replace(recipe, condition_dropout=0.1),
            guidance=5.0,
            truncation=1.0,
        ),
    )


def _guided(base: Mapping[str, Any]) -> Preset:
    """`b` trained on with 77 learnable null states for a tenth of the captions.

    Source: Improved VQ-Diffusion learnable null condition
    """
    return Preset(
        name="b-guided",
        arguments={**base, "null_length": 77},
        recipe=Recipe(batch=4, epochs=100, learning_rate=2e-4, warmup=1_000, condition_dropout=0.1),
        guidance=3.0,
        truncation=1.0,
    )


def _classes() -> tuple[Preset, ...]:
    """The models of faces, unconditional, and of ImageNet's classes, on 16 x 16 tokens.

    Source: VQ-Diffusion model sizes, training recipe
    Deviation: positions for 16 x 16 tokens; the released ones have 32 x 32, of which they use the first 256. For these
        give `build(position_grid=(32, 32))` [TokenTransformer.position_grid].
    """
    grid = {
        "grid": (16, 16),
        "steps": 100,
        "width": 512,
        "heads": 16,
        "feedforward": 4,
        "convolutional_feedforward": True,
    }
    faces = Recipe(batch=32, epochs=300, warmup=2_000, patience=5_000, ema_interval=10, auxiliary_weight=1e-3)
    labels = Recipe(batch=32, epochs=100, patience=100_000, auxiliary_weight=1e-3)
    return (
        Preset(name="ffhq", arguments={**grid, "codes": 1024, "depth": 20}, recipe=faces),
        Preset(
            name="imagenet",
            arguments={**grid, "codes": 974, "depth": 24, "classes": 1000},
            recipe=labels,
            guidance=1.5,
            truncation=0.94,
        ),
    )


def _small() -> tuple[Preset, ...]:
    """Minutes on a processor: for tokens of a quarter or an eighth of the side, unconditional unless built otherwise.

    Unstated: models for small machines; everything [TokenTransformer].
    """
    recipe = Recipe(batch=32, learning_rate=1e-3, warmup=200, auxiliary_weight=0.02, condition_dropout=0.1)
    presets = []
    for factor, resolution, codes in ((4, 32, 256), (4, 64, 512), (8, 64, 1024), (8, 128, 1024)):
        arguments = {
            "codes": codes,
            "grid": (resolution // factor,) * 2,
            "steps": 100,
            "width": 128,
            "depth": 4,
            "heads": 4,
            "feedforward": 2,
            "convolution": True,
            "positions_in_every_block": True,
        }
        presets.append(
            Preset(
                name=f"small-f{factor}-{resolution}",
                arguments=arguments,
                recipe=recipe,
                schedule=Schedule.paper,
            )
        )
    return tuple(presets)


PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in (*_text(), *_classes(), *_small())}
