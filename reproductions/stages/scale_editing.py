"""Edits by ImageBART: what is inside a mask is drawn again, as the picture's class or as another; no training knew."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from reproductions.artefacts import Desk
from reproductions.conditioning import Kind
from reproductions.data import Split
from reproductions.drawn.edit_masks import UpperHalf, Window
from reproductions.gathering.splits import HELD_OUT
from reproductions.loop.streams import stream
from reproductions.stages import conditions, denoising, scale_denoising
from reproductions.stages.autoencoding import to_signed
from reproductions.stages.coding import Decoder, Tokens
from reproductions.stages.discrete import Filter, edit, token_mask
from reproductions.stages.evaluating import EXPAND, WIDE, MaskKind, draw_masks
from reproductions.stages.filling import Fill, Job, fill, filled
from reproductions.stages.scale_denoising import Training, Walk
from reproductions.text_to_image import device, in_parts, part

MASKS: tuple[MaskKind, ...] = (UpperHalf(), Window(), EXPAND, WIDE)
CHAINS = 3
OWN, OTHER, AGAIN = "its class", "the next class", "drawn again"
CAPTION, OTHER_CAPTION = "its caption", "the next picture's caption"


@dataclass(frozen=True)
class Editing:
    """How many held-out pictures are edited, how often each scale runs (one number, or one for each), which seed."""

    training: Training
    walk: Walk
    number: int
    seed: int
    chains: tuple[int, ...] = (CHAINS,)
    batch: int = 100

    def runs(self, scales: int) -> list[int]:
        """How often each scale runs.

        Raises:
            ValueError: if a scale does not run, or there are other numbers than 1 and that of the scales.
        """
        if len(self.chains) not in (1, scales) or min(self.chains) < 1:
            given = " ".join(map(str, self.chains))
            raise ValueError(f"--chains: give a number from 1, or one for each of {scales} scales; got {given}")
        return list(self.chains) * (scales // len(self.chains))


def edit_ways(settings: Editing, module: denoising.Conditional, clean: Tokens) -> Mapping[str, Fill]:
    """The ways to edit: as the picture's own class or caption, and as another: the next class, the next picture's."""
    model, told = scale_denoising.chain_of(module), settings.training.told
    runs, filters = settings.runs(model.process.scales), settings.walk.filters(model.process.scales)

    def same(condition: Any) -> Any:
        return condition

    def next_class(condition: Any) -> Any:
        return (condition + 1) % len(told.classes)

    def next_caption(condition: Any) -> Any:
        return condition.roll(-1, 0)

    ways = {
        Kind.NONE: {AGAIN: same},
        Kind.CLASS: {OWN: same, OTHER: next_class},
        Kind.CAPTION: {CAPTION: same, OTHER_CAPTION: next_caption},
    }
    by = partial(by_scales, module, clean, chains=runs, filters=filters)
    return {name: by(other=other) for name, other in ways[told.kind].items()}


def by_scales(
    module: denoising.Conditional,
    clean: Tokens,
    *,
    chains: int | Sequence[int],
    filters: Filter | Sequence[Filter],
    other: Callable[[Any], Any] = lambda condition: condition,
) -> Fill:
    """What draws tokens again scale by scale, each several times, for a condition or another that is made of it."""
    model = scale_denoising.chain_of(module)

    def way(known: Tensor, mask: Tensor, condition: Any, generators: list[torch.Generator]) -> Tensor:
        return edit(
            model.denoisers,
            known,
            token_mask(mask, clean.grid),
            other(condition),
            process=model.process,
            chains=chains,
            filters=filters,
            generator=generators,
        )

    return way


def edits(desk: Desk) -> None:
    """Edit the first held-out pictures behind every mask of which some tokens are kept: see `filling.fill`."""
    settings: Editing = desk.settings
    training = settings.training
    module, clean = scale_denoising.trained(desk, training)
    side = Split.load(desk.inputs["data"] / HELD_OUT).images.shape[-1]
    kinds = [kind for kind in MASKS if keeps(kind, settings, side, clean.grid)]
    job = Job(training.told, training.chain.training.precision, settings.number, settings.seed, kinds)
    fill(desk, job, module, edit_ways(settings, module, clean))


def keeps(kind: MaskKind, settings: Editing, side: int, grid: tuple[int, int]) -> bool:
    """Whether the masks of a kind keep some token in each picture; a token is drawn again where any pixel of it is."""
    masks = draw_masks(kind, settings.number, side, side, seed=settings.seed)
    return not bool(token_mask(masks.long(), grid).all(1).any())


def upper_halves(desk: Desk) -> None:
    """Held-out pictures whose upper half is drawn again as their own class or caption: `images.safetensors`, uint8.

    An interrupted stage goes on after its last batch.
    """
    settings: Editing = desk.settings
    training = settings.training
    module, clean = scale_denoising.trained(desk, training)
    way = next(iter(edit_ways(settings, module, clean).values()))
    held_out, coder = Split.load(desk.inputs["data"] / HELD_OUT), Decoder(desk.inputs)
    images = held_out.images[: settings.number]
    told = conditions.of_pictures(desk, training.told, len(images))

    def make(mine: range) -> Tensor:
        given = None if told is None else told[mine.start : mine.stop]
        signed = to_signed(images[mine.start : mine.stop]).to(device())
        mask = draw_masks(UpperHalf(), len(mine), *signed.shape[2:]).to(device())
        generators = [stream(settings.seed, i, 0, device()) for i in mine]
        return filled(module, coder, way, signed, mask, given, generators, training.chain.training.precision)

    in_parts(desk, len(images), settings.batch, make)
    starts = range(0, len(images), settings.batch)
    done = [load_file(part(desk.folder, start))["samples"] for start in starts]
    save_file({"images": torch.cat(done).contiguous()}, desk.folder / "images.safetensors")
