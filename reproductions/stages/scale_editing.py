"""Edits by ImageBART: what is inside a mask is drawn again, as the picture's class or as another; no training knew."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from reproductions.artefacts import Desk
from reproductions.conditioning import Kind
from reproductions.data import Split
from reproductions.edit_masks import UpperHalf, Window
from reproductions.stages import conditions, denoising, scale_denoising
from reproductions.stages.autoencoding import to_signed
from reproductions.stages.coding import Decoder, Tokens
from reproductions.stages.discrete import edit, token_mask
from reproductions.stages.evaluating import EXPAND, WIDE, MaskKind, draw_masks
from reproductions.stages.filling import Fill, Job, fill, filled
from reproductions.stages.scale_denoising import Training, Walk
from reproductions.text_to_image import device, part
from reproductions.training import stream

MASKS: tuple[MaskKind, ...] = (UpperHalf(), Window(), EXPAND, WIDE)
CHAINS = 3
OWN, OTHER = "its class", "the next class"


@dataclass(frozen=True)
class Editing:
    """How many held-out pictures are edited, how often each scale runs, from which seed."""

    training: Training
    walk: Walk
    number: int
    seed: int
    chains: int = CHAINS
    batch: int = 100


def edit_ways(settings: Editing, module: denoising.Conditional, clean: Tokens) -> Mapping[str, Fill]:
    """The ways to edit: as the picture's own class, and where there are classes as the next one."""
    model, classes = scale_denoising.chain_of(module), len(settings.training.told.classes)

    def by(step: int) -> Fill:
        def way(known: Tensor, mask: Tensor, condition: Any, generators: list[torch.Generator]) -> Tensor:
            return edit(
                model.denoisers,
                known,
                token_mask(mask, clean.grid),
                (condition + step) % classes if classes else None,
                process=model.process,
                chains=settings.chains,
                filters=settings.walk.filter(),
                generator=generators,
            )

        return way

    return {OWN: by(0), OTHER: by(1)} if classes else {"drawn again": by(0)}


def edits(desk: Desk) -> None:
    """Edit the first held-out pictures behind every mask of which some tokens are kept: see `filling.fill`."""
    settings: Editing = desk.settings
    training = settings.training
    module, clean = scale_denoising.trained(desk, training)
    side = Split.load(desk.inputs["data"] / conditions.HELD_OUT).images.shape[-1]
    kinds = [kind for kind in MASKS if keeps(kind, settings, side, clean.grid)]
    job = Job(training.told, training.chain.training.precision, settings.number, settings.seed, kinds)
    fill(desk, job, module, edit_ways(settings, module, clean))


def keeps(kind: MaskKind, settings: Editing, side: int, grid: tuple[int, int]) -> bool:
    """Whether the masks of a kind keep some token in each picture; a token is drawn again where any pixel of it is."""
    masks = draw_masks(kind, settings.number, side, side, seed=settings.seed)
    return not bool(token_mask(masks.long(), grid).all(1).any())


def upper_halves(desk: Desk) -> None:
    """Held-out pictures whose upper half is drawn again as their own class: `images.safetensors`, uint8.

    An interrupted stage goes on after its last batch.
    """
    settings: Editing = desk.settings
    training = settings.training
    module, clean = scale_denoising.trained(desk, training)
    way = next(iter(edit_ways(settings, module, clean).values()))
    held_out, coder = Split.load(desk.inputs["data"] / conditions.HELD_OUT), Decoder(desk.inputs)
    images = held_out.images[: settings.number]
    labels = None
    if training.told.kind is Kind.CLASS:
        assert held_out.attributes is not None
        labels = held_out.attributes[:, 0]
    starts = range(0, len(images), settings.batch)
    missing = [start for start in starts if not part(desk.folder, start).exists()]
    for start in desk.track(missing, len(starts), len(starts) - len(missing)):
        mine = range(start, min(start + settings.batch, len(images)))
        given = None if labels is None else labels[mine.start : mine.stop]
        signed = to_signed(images[mine.start : mine.stop]).to(device())
        mask = draw_masks(UpperHalf(), len(mine), *signed.shape[2:]).to(device())
        generators = [stream(settings.seed, i, 0, device()) for i in mine]
        edited = filled(module, coder, way, signed, mask, given, generators, training.chain.training.precision)
        partial = part(desk.folder, start).with_suffix(".partial")
        save_file({"images": edited.contiguous()}, partial)
        partial.rename(part(desk.folder, start))
    done = [load_file(part(desk.folder, start))["images"] for start in starts]
    save_file({"images": torch.cat(done).contiguous()}, desk.folder / "images.safetensors")
