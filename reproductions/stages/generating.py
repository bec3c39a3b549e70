"""A trained denoiser of any kind, opened to draw pictures and to fill them in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from reproductions.artefacts import Desk
from reproductions.conditioning import Conditioning
from reproductions.loop.streams import stream
from reproductions.recipes.tasks import Task
from reproductions.runner import Silence
from reproductions.stages import (
    denoising,
    filling,
    latent_denoising,
    restoring,
    scale_denoising,
    scale_editing,
    token_denoising,
)
from reproductions.stages.autoencoding import to_bytes, to_signed
from reproductions.stages.coding import Decoder
from reproductions.stages.discrete import token_mask
from reproductions.stages.scale_walks import Walk
from reproductions.text_to_image import device
from reproductions.trained_runs import TrainedRun, restored


@dataclass(frozen=True)
class Asked:
    """How to draw, where not as the run says; the last four are for ImageBART."""

    steps: int | None = None
    guidance: float | None = None
    precision: str = "no"
    temperature: tuple[float, ...] = ()
    top_k: tuple[int, ...] = ()
    top_p: tuple[float, ...] = ()
    chains: tuple[int, ...] = ()

    def check_no_scales(self) -> None:
        """Raise ValueError where something is asked of scales, and the run has none."""
        given = [name for name in ("temperature", "top_k", "top_p", "chains") if getattr(self, name)]
        if given:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise ValueError(f"{names}: only runs of ImageBART take that; leave it out")


@dataclass(frozen=True)
class Opened:
    """A trained denoiser with all that it needs.

    side: of its pictures; walk: how it draws; ways: to fill in, the first of them by default; task, restorer: what it
    was trained for if not to draw, and what does that; grid: of tokens, of which a mask has to keep some.
    """

    desk: Desk
    told: Conditioning
    module: denoising.Conditional
    coder: Decoder
    side: int
    walk: Any
    draw: denoising.Draw
    ways: Mapping[str, filling.Fill]
    precision: str
    task: Task | None = None
    restorer: restoring.Restorer | None = None
    grid: tuple[int, int] | None = None

    def check_kept(self, mask: Tensor) -> None:
        """Raise ValueError where an example of a mask (b, 1, H, W) has to keep some token, and keeps none."""
        if self.grid is not None and bool(token_mask(mask.long(), self.grid).all(1).any()):
            h, w = (self.side // each for each in self.grid)
            raise ValueError(
                f"--mask: it keeps no whole patch of {h} x {w} pixels, which are the tokens of this run, so that "
                "nothing would be kept; `conprediff sample` draws whole pictures"
            )

    def pictures(self, given: Tensor | None, which: Sequence[int], seed: int) -> Tensor:
        """Pictures (b, 3, H, W), uint8, for what is given of each; picture i depends on (seed, i) alone."""
        values = denoising.drawn(self.module, given, _streams(which, seed), self.precision, self.draw)
        with torch.inference_mode():
            return to_bytes(self.coder.floats(values)).cpu()

    def fill(
        self, way: str, images: Tensor, mask: Tensor, given: Tensor | None, which: Sequence[int], seed: int
    ) -> Tensor:
        """uint8 pictures (b, 3, H, W), filled in where a mask (b, 1, H, W) is true; the rest stays as it is."""
        if self.restorer is not None:
            return self.restorer.fill(images, mask, given, _streams(which, seed))
        signed, seeds, mask = to_signed(images.to(device())), _streams(which, seed), mask.to(device())
        filled = filling.filled(self.module, self.coder, self.ways[way], signed, mask, given, seeds, self.precision)
        return torch.where(mask.cpu(), filled, images)

    def enlarge(self, small: Tensor, given: Tensor | None, which: Sequence[int], seed: int, *, level: int) -> Tensor:
        """uint8 pictures (b, 3, H, W) of uint8 small ones, trusted less the higher the level of noise."""
        assert self.restorer is not None
        return self.restorer.enlarge(small, given, _streams(which, seed), level=level)


def _streams(which: Sequence[int], seed: int) -> list[torch.Generator]:
    return [stream(seed, i, 0, device()) for i in which]


def opened(run: TrainedRun, asked: Asked) -> Opened:
    """The denoiser of a run, on the GPU where there is one.

    Raises:
        ValueError: where it cannot be asked for that.
    """
    desk = Desk(run.folder, None, {**run.inputs, "model": run.folder}, Silence(), run.folder)
    kind: Callable[[Desk, Mapping[str, Any], Asked], Opened] = OPENERS[run.name.split()[0]]
    return kind(desk, run.settings, asked)


def _guidance(told: Conditioning, of_run: float, asked: Asked) -> float:
    if asked.guidance is None:
        return told.guidance(of_run)
    if told.kind == "none" and asked.guidance != 1:
        raise ValueError("--guidance: this run was trained without a condition, there is nothing to be guided by")
    if not asked.guidance > 0:
        raise ValueError(f"--guidance must be positive, got {asked.guidance}")
    return asked.guidance


def _tokens(desk: Desk, settings: Mapping[str, Any], asked: Asked) -> Opened:
    asked.check_no_scales()
    training: token_denoising.Training = restored(token_denoising.Training, settings)
    recipe, told = training.denoiser, training.told
    module, clean = token_denoising.trained(desk, training)
    steps = recipe.steps if asked.steps is None else asked.steps
    walk = token_denoising.Walk(steps, _guidance(told, recipe.guidance, asked), recipe.truncation)
    walk.check(recipe.levels, clean.shape[0])
    job = filling.Filling(training, walk.steps, walk.guidance, None, 0, 0)
    ways = filling.token_ways(job, module, clean)
    draw, coder = token_denoising.drawer(walk, clean.shape[0]), Decoder(desk.inputs)
    return Opened(desk, told, module, coder, _side(coder, clean.grid), walk, draw, ways, asked.precision)


def _latents(desk: Desk, settings: Mapping[str, Any], asked: Asked) -> Opened:
    asked.check_no_scales()
    training: latent_denoising.Training = restored(latent_denoising.Training, settings)
    recipe, told = training.denoiser, training.told
    module, shape = latent_denoising.trained(desk, training)
    steps = recipe.steps if asked.steps is None else asked.steps
    walk = latent_denoising.Walk.of(replace(recipe, steps=steps), _guidance(told, recipe.guidance, asked))
    walk.check(recipe.levels)
    most = min(2 * recipe.steps, recipe.levels) if asked.steps is None else asked.steps
    job = filling.Filling(training, most, walk.guidance, walk.clip, 0, 0)
    ways = dict(reversed(filling.latent_ways(job, module).items()))
    draw, coder = latent_denoising.drawer(walk, training, shape), Decoder(desk.inputs)
    side = _side(coder, shape[1:])
    if training.task is None:
        return Opened(desk, told, module, coder, side, walk, draw, ways, asked.precision)
    by = restoring.Restorer(module, coder, draw, shape[1:], asked.precision, training.augmented)
    return Opened(desk, told, module, coder, side, walk, draw, {}, asked.precision, training.task, by)


def _scales(desk: Desk, settings: Mapping[str, Any], asked: Asked) -> Opened:
    if asked.steps is not None or asked.guidance is not None:
        raise ValueError("--steps, --guidance: ImageBART has its scales instead of steps, and no guidance")
    training: scale_denoising.Training = restored(scale_denoising.Training, settings)
    module, clean = scale_denoising.trained(desk, training)
    walk = Walk(asked.temperature, asked.top_k, asked.top_p)
    editing = scale_editing.Editing(training, walk, 0, 0, asked.chains or (scale_editing.CHAINS,))
    ways = scale_editing.edit_ways(editing, module, clean)
    draw, coder = scale_denoising.drawer(walk, clean.shape[0]), Decoder(desk.inputs)
    side, grid = _side(coder, clean.grid), clean.grid
    return Opened(desk, training.told, module, coder, side, walk, draw, ways, asked.precision, grid=grid)


def _side(coder: Decoder, grid: Sequence[int]) -> int:
    return int(grid[0]) * (1 if coder.autoencoder is None else coder.autoencoder.factor)


OPENERS = {"discrete": _tokens, "continuous": _latents, "imagebart": _scales}
