"""Filling in: held-out pictures behind the six kinds of masks, filled by a trained denoiser in two ways."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from reproductions.artefacts import Desk, write_json
from reproductions.conditioning import Conditioning
from reproductions.data import Split
from reproductions.gathering.splits import HELD_OUT
from reproductions.loop.streams import stream
from reproductions.settings import Target
from reproductions.stages import conditions, denoising, latent_denoising, token_denoising
from reproductions.stages.autoencoding import to_bytes, to_signed
from reproductions.stages.coding import Decoder, Tokens
from reproductions.stages.continuous import TARGETS, Jump, Resampling, ancestral, latent_mask
from reproductions.stages.continuous import ForwardProcess as GaussianProcess
from reproductions.stages.continuous import inpaint as fill_latents
from reproductions.stages.discrete import FewerTokens, ForwardProcess, Route, token_mask
from reproductions.stages.discrete import inpaint as fill_tokens
from reproductions.stages.evaluating import REPAINT_MASKS, MaskKind, draw_masks
from reproductions.text_to_image import device

Fill = Callable[[Tensor, Tensor, Any, list[torch.Generator]], Tensor]
RETURNS = Jump(length=5, passes=3)


@dataclass(frozen=True)
class Filling:
    """How many held-out pictures are filled in, by which denoiser, in how many steps, from which seed."""

    training: token_denoising.Training | latent_denoising.Training
    steps: int
    guidance: float
    clip: float | None
    number: int
    seed: int


def tokens(desk: Desk) -> None:
    """Fill in tokens, by exact strides and with the purity prior: see `fill`."""
    settings: Filling = desk.settings
    assert isinstance(settings.training, token_denoising.Training)
    module, clean = token_denoising.trained(desk, settings.training)
    fill(desk, _job(settings), module, token_ways(settings, module, clean))


def token_ways(settings: Filling, module: denoising.Conditional, clean: Tokens) -> Mapping[str, Fill]:
    """The ways to fill in tokens."""
    by = partial(by_tokens, module, clean, guidance=settings.guidance)
    return {
        str(token_denoising.Way.EXACT): by(steps=min(settings.steps, settings.training.denoiser.levels), route=None),
        str(token_denoising.Way.PURITY): by(steps=min(settings.steps, clean.shape[0]), route=FewerTokens()),
    }


def by_tokens(
    module: denoising.Conditional, clean: Tokens, *, steps: int, guidance: float, route: Route | None
) -> Fill:
    """What fills in tokens along a route."""
    process = module.objective.get_submodule("process")
    assert isinstance(process, ForwardProcess)

    def fill(known: Tensor, mask: Tensor, condition: Any, generators: list[torch.Generator]) -> Tensor:
        return fill_tokens(
            module.denoiser,
            known,
            token_mask(mask, clean.grid),
            condition,
            process=process,
            steps=steps,
            guidance=guidance,
            route=route,
            generator=generators,
        )

    return fill


def latents(desk: Desk) -> None:
    """Fill in latents or pixels, by LDM's mixing and by RePaint with short returns: see `fill`."""
    settings: Filling = desk.settings
    assert isinstance(settings.training, latent_denoising.Training)
    module, _ = latent_denoising.trained(desk, settings.training)
    fill(desk, _job(settings), module, latent_ways(settings, module))


def latent_ways(settings: Filling, module: denoising.Conditional) -> Mapping[str, Fill]:
    """The ways to fill in latents or pixels."""
    assert isinstance(settings.training, latent_denoising.Training)
    target = settings.training.denoiser.target
    by = partial(by_latents, module, target, steps=settings.steps, guidance=settings.guidance, clip=settings.clip)
    return {"mixing": by(resampling=None), "RePaint": by(resampling=Resampling((RETURNS,)))}


def by_latents(
    module: denoising.Conditional,
    target: Target,
    *,
    steps: int,
    guidance: float,
    clip: float | None,
    resampling: Resampling | None,
) -> Fill:
    """What fills in latents or pixels: with RePaint's returns, or mixing known latents in."""
    process = module.objective.get_submodule("process")
    assert isinstance(process, GaussianProcess)

    def fill(known: Tensor, mask: Tensor, condition: Any, generators: list[torch.Generator]) -> Tensor:
        return fill_latents(
            module.denoiser,
            known,
            latent_mask(mask, (known.shape[2], known.shape[3])),
            condition,
            process=process,
            target=TARGETS[target],
            solver=ancestral,
            steps=steps,
            resampling=resampling,
            guidance=guidance,
            clip=clip,
            generator=generators,
        )

    return fill


@dataclass(frozen=True)
class Job:
    """What is filled in: how many held-out pictures, behind which masks, told what, in which precision."""

    told: Conditioning
    precision: str
    number: int
    seed: int
    masks: Sequence[MaskKind] = REPAINT_MASKS


def _job(settings: Filling) -> Job:
    training = settings.training
    return Job(training.told, training.denoiser.training.precision, settings.number, settings.seed)


def fill(desk: Desk, job: Job, module: denoising.Conditional, ways: Mapping[str, Fill]) -> None:
    """Fill in: `filled.safetensors` with `images`, and `facts.json`.

    A row of images for each kind of mask: the pictures behind the mask, then as each way fills them in. What a mask
    shows stays as it is in the picture.
    """
    held_out = Split.load(desk.inputs["data"] / HELD_OUT)
    images = to_signed(held_out.images[: job.number]).to(device())
    coder = Decoder(desk.inputs)
    given = conditions.of_pictures(desk, job.told, len(images))
    rows: list[Tensor] = []
    for kind in desk.track(job.masks):
        mask = draw_masks(kind, len(images), *images.shape[2:], seed=job.seed).to(device())
        rows.append(to_bytes(torch.where(mask, 0.0, images)).cpu())
        for way in ways.values():
            generators = [stream(job.seed, i, 0, device()) for i in range(len(images))]
            rows.append(filled(module, coder, way, images, mask, given, generators, job.precision))
    save_file({"images": torch.cat(rows)}, desk.folder / "filled.safetensors")
    facts = {"masks": [kind.name for kind in job.masks], "ways": list(ways), "pictures": len(images)}
    write_json(desk.folder / "facts.json", facts)


def filled(
    module: denoising.Conditional,
    coder: Decoder,
    way: Fill,
    images: Tensor,
    mask: Tensor,
    given: Tensor | None,
    generators: Sequence[torch.Generator],
    precision: str,
) -> Tensor:
    """Images in [-1, 1] (b, 3, H, W), drawn again where a mask (b, 1, H, W) is true, as uint8; the rest is theirs."""
    with torch.inference_mode():
        known = coder.encode(images)
    draw = partial(_drawn, way, known, mask.long())
    values = denoising.drawn(module, given, generators, precision, draw)
    with torch.inference_mode():
        return to_bytes(torch.where(mask, coder.floats(values), images)).cpu()


def _drawn(
    way: Fill,
    known: Tensor,
    mask: Tensor,
    module: denoising.Conditional,
    given: Tensor | None,
    generators: Sequence[torch.Generator],
) -> Tensor:
    return way(known, mask, module.condition(given), list(generators))
