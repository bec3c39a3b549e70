"""Many held-out pictures filled in behind one kind of mask, by a denoiser of any kind that was trained for none."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from reproductions.artefacts import Desk, write_json
from reproductions.data import Split
from reproductions.gathering.splits import HELD_OUT
from reproductions.located import Located
from reproductions.loop.streams import stream
from reproductions.stages import (
    conditions,
    denoising,
    filling,
    latent_denoising,
    scale_denoising,
    scale_editing,
    token_denoising,
)
from reproductions.stages.autoencoding import to_signed
from reproductions.stages.coding import Decoder
from reproductions.stages.continuous import Jump, Resampling, latent_mask
from reproductions.stages.discrete import FewerTokens, Filter
from reproductions.stages.evaluating import MaskKind, draw_masks
from reproductions.stages.measuring import alex_distance, mean_score, plain
from reproductions.stages.restoring import IDENTICAL as IDENTICAL
from reproductions.stages.restoring import hidden_psnr as hidden_psnr
from reproductions.stages.scoring import Space
from reproductions.table_profiles import Repainting
from reproductions.text_to_image import device

MASK_SEED = 0
HIDDEN = "hidden PSNR"


@dataclass(frozen=True)
class Painting:
    """What fills pictures in, behind which masks, how, from which seed, in what batches.

    jumps: whether RePaint's are made; without them known latents are mixed in at every step.
    """

    training: Any
    mask: MaskKind
    how: Repainting
    guidance: float
    seed: int
    batch: int
    jumps: bool = False

    @property
    def resampling(self) -> Resampling | None:
        """RePaint's jumps, where they are made."""
        return Resampling((Jump(self.how.length, self.how.passes),)) if self.jumps else None

    def token_steps(self, tokens: int) -> int:
        """Steps in which so many tokens are filled in."""
        return min(int(self.training.denoiser.steps), tokens)

    def calls(self, tokens: int | None) -> int:
        """Calls of a denoiser of so many tokens, or of latents (None), for one picture: one at every step down."""
        steps = self.how.steps if tokens is None else self.token_steps(tokens)
        if self.resampling is not None:
            steps = sum(one > next_ for one, next_ in pairwise(self.resampling.path(steps)))
        return steps * (1 if self.guidance == 1 else 2)


def by_latents(desk: Desk) -> None:
    """Fill in by a denoiser of latents or pixels, with or without RePaint's jumps: `images.safetensors`."""
    settings: Painting = desk.settings
    module, _ = latent_denoising.trained(desk, settings.training)
    recipe, how = settings.training.denoiser, settings.how
    way = filling.by_latents(
        module,
        recipe.target,
        steps=how.steps,
        guidance=settings.guidance,
        clip=recipe.clip,
        resampling=settings.resampling,
    )
    _fill(desk, module, way, recipe.training.precision)


def by_tokens(desk: Desk) -> None:
    """Fill masked tokens in by VQ-Diffusion, the most certain ones first: `images.safetensors`."""
    settings: Painting = desk.settings
    module, clean = token_denoising.trained(desk, settings.training)
    steps = settings.token_steps(clean.shape[0])
    way = filling.by_tokens(module, clean, steps=steps, guidance=settings.guidance, route=FewerTokens())
    _fill(desk, module, way, settings.training.denoiser.training.precision)


def by_scales(desk: Desk) -> None:
    """Draw masked tokens again by ImageBART, each scale several times: `images.safetensors`."""
    settings: Painting = desk.settings
    module, clean = scale_denoising.trained(desk, settings.training)
    way = scale_editing.by_scales(module, clean, chains=settings.how.chains, filters=Filter())
    _fill(desk, module, way, settings.training.chain.training.precision)


def _fill(desk: Desk, module: denoising.Conditional, way: filling.Fill, precision: str) -> None:
    """Fill the first held-out pictures in, in batches; picture i depends on (seed, i) alone."""
    settings: Painting = desk.settings
    images, coder = originals(desk, settings.how.number), Decoder(desk.inputs)
    masks = masks_of(settings.mask, images)
    told = conditions.of_pictures(desk, settings.training.told, len(images))
    found: list[Tensor] = []
    for start in desk.track(range(0, len(images), settings.batch)):
        part = slice(start, start + settings.batch)
        signed, mask = to_signed(images[part].to(device())), masks[part].to(device())
        generators = [stream(settings.seed, i, 0, device()) for i in range(start, start + len(signed))]
        given = None if told is None else told[part]
        found.append(filling.filled(module, coder, way, signed, mask, given, generators, precision))
    save_file({"images": torch.cat(found).contiguous()}, desk.folder / "images.safetensors")


def originals(desk: Desk, number: int) -> Tensor:
    """The first held-out pictures."""
    return Split.load(desk.inputs["data"] / HELD_OUT).images[:number]


def masks_of(kind: MaskKind, images: Tensor) -> Tensor:
    """A mask (b, 1, H, W) for each picture, the same for every model and seed."""
    return draw_masks(kind, len(images), *images.shape[2:], seed=MASK_SEED)


@lru_cache
def keeps_some(kind: MaskKind, number: int, side: int, grid: int) -> bool:
    """Whether something is kept in each picture's `grid` by `grid` latents, hidden where any of their pixels is."""
    masks = draw_masks(kind, number, side, side, seed=MASK_SEED)
    return not bool(latent_mask(masks.long(), (grid, grid)).flatten(1).all(1).any())


@dataclass(frozen=True)
class Comparing:
    """Filled-in pictures beside their originals: in which space, or by LPIPS where its weights are given."""

    space: Space
    lpips: tuple[Located, ...]
    masks: tuple[MaskKind, ...]
    number: int


def compare(desk: Desk) -> None:
    """Distances of the pictures of each mask, inputs "filled NAME", from their originals: `scores.json`, by name."""
    settings: Comparing = desk.settings
    real = originals(desk, settings.number)
    name, distance = _distance(desk, settings)
    found: dict[str, Any] = {}
    hidden: list[Tensor] = []
    for kind in settings.masks:
        fake = load_file(desk.inputs[f"filled {kind.name}"] / "images.safetensors")["images"]
        masks = masks_of(kind, real)
        with torch.inference_mode():
            apart = torch.cat([distance(x, y) for x, y in zip(real.split(64), fake.split(64), strict=True)])
        found[f"{name} {kind.name}"] = plain(mean_score(apart.double(), f"{name} {kind.name}", n_real=len(real)))
        hidden.append(hidden_psnr(real, fake, masks))
    mean = mean_score(torch.stack(hidden).mean(0), HIDDEN, n_real=len(real))
    write_json(desk.folder / "scores.json", {**found, HIDDEN: plain(mean)})


def _distance(desk: Desk, settings: Comparing) -> tuple[str, Callable[[Tensor, Tensor], Tensor]]:
    if settings.lpips:
        network = alex_distance([str(each.path) for each in settings.lpips])
        return "LPIPS[alex]", lambda x, y: network(to_signed(x), to_signed(y))
    space = settings.space.open(desk.inputs)

    def apart(x: Tensor, y: Tensor) -> Tensor:
        first, second = (torch.nn.functional.normalize(space(images).double(), dim=1) for images in (x, y))
        return (first - second).square().sum(1)

    return f"distance[{space.name}]", apart
