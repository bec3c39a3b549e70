"""Local editing: the tokens inside a mask are drawn again, those outside stay, and no training knew of the mask."""

from collections.abc import Sequence

import torch

from discrete_diffusion._types import Generators, Tokens
from discrete_diffusion.imagebart._types import Codes, GivenMask, Labels, Mask, Prefix
from discrete_diffusion.imagebart.denoiser import ScaleDenoiser
from discrete_diffusion.imagebart.forward_process import Multinomial
from discrete_diffusion.imagebart.sampler import ALL_CODES, Filter, check_scales, draw_scale


@torch.no_grad()
def edit(
    denoisers: Sequence[ScaleDenoiser],
    clean: Tokens,
    mask: GivenMask,
    condition: Labels | Prefix | None = None,
    *,
    process: Multinomial,
    chains: int | Sequence[int] = 3,
    filters: Filter | Sequence[Filter] = ALL_CODES,
    generator: Generators = None,
) -> Tokens:
    """Draw the tokens inside the mask again, (b, n); all others are those of `clean`, always.

    It starts from noise inside the mask and clean tokens outside. Each scale runs as many times as `chains` says; run
    k = 1, 2, .. of m first draws every token of the result again with probability `(1 - k / m) beta_t`. So what is
    drawn early in raster order also sees what is kept later. With one chain an edit costs as much as a sample.

    Args:
        denoisers: that of scale t at t - 1.
        clean: tokens (b, n) of the image.
        mask: True where tokens are drawn again, (b, n); any shape: half, window, outpainting, free-form.
        condition: labels (b,) or prefixes (b, p): what the inside of the mask is to become.
        process: the forward process that is reversed.
        chains: runs of every scale, or of each, that of scale t at t - 1; the released code takes 3, and for schedules
            that are not geometric 5, and 1 at the last scale.
        filters: one for all scales, or one for each.
        generator: one for the batch, or a sequence of one per example, which then depends on its own alone.

    Raises:
        ValueError: if a mask keeps nothing or everything, shapes differ, or there are not as many denoisers, chains or
            filters as scales.

    Source: ImageBART local editing
    """
    chosen = check_scales(denoisers, process, filters)
    runs = [chains] * process.scales if isinstance(chains, int) else list(chains)
    if len(runs) != process.scales or min(runs) < 1:
        raise ValueError(f"chains: expected a number from 1, or one for each of {process.scales} scales, got {chains}")
    check_mask(mask, clean)
    guide = keeping(clean, mask, process.codes)
    x = torch.where(mask, process.prior((clean.shape[0], clean.shape[1]), generator=generator), clean)
    for t in range(process.scales, 0, -1):
        times = torch.full((len(x),), t, device=x.device)
        for k in range(runs[t - 1]):
            if k > 0:
                x = process.redraw(x, (1 - k / runs[t - 1]) * process.beta(times), generator=generator)
            x = draw_scale(
                denoisers[t - 1], x, times, condition, filter=chosen[t - 1], guide=guide, generator=generator
            )
    return x


def keeping(clean: Tokens, mask: Mask, codes: int) -> Codes:
    """The guide that keeps: `log v(clean)` outside the mask, 0 inside, (b, n, k).

    Source: ImageBART local editing
    """
    forbidden = torch.full((*clean.shape, codes), -torch.inf, device=clean.device)
    kept = forbidden.scatter(-1, clean[..., None], 0.0)
    return torch.where(mask[..., None], 0.0, kept)


def check_mask(mask: GivenMask, clean: Tokens) -> None:
    """Whether a mask fits the tokens, and leaves in each example something to keep and something to draw.

    Raises:
        ValueError: if not.
    """
    if mask.dtype != torch.bool:
        raise ValueError(f"mask must be boolean, true where tokens are drawn again, got {mask.dtype}")
    if mask.shape != clean.shape:
        raise ValueError(f"mask: expected {tuple(clean.shape)}, as the tokens, got {tuple(mask.shape)}")
    everything, nothing = mask.all(1).nonzero().flatten().tolist(), (~mask).all(1).nonzero().flatten().tolist()
    if everything:
        raise ValueError(f"mask: it keeps nothing in examples {everything}; call `sample` for those")
    if nothing:
        raise ValueError(f"mask: it keeps everything in examples {nothing}; True is where tokens are drawn again")
