"""Filling in: some tokens are kept, the others drawn."""

from torch import Tensor

from discrete_diffusion._types import Condition, Generators, Tokens
from discrete_diffusion.denoiser import Denoiser
from discrete_diffusion.forward_process import ForwardProcess
from discrete_diffusion.masks import Kept
from discrete_diffusion.routes import Route
from discrete_diffusion.sampler import State, sample


def inpaint(
    denoiser: Denoiser,
    known: Tokens,
    mask: Tensor,
    condition: Condition | None = None,
    *,
    process: ForwardProcess,
    steps: int | None = None,
    guidance: float = 1.0,
    truncation: float | None = None,
    temperature: float = 1.0,
    route: Route | None = None,
    start: State | None = None,
    generator: Generators = None,
) -> Tokens:
    """Draw the tokens (b, n) where `mask` (b, n) is true, given the others; see `trajectory` for the options.

    For a mask of pixels see `token_mask`; for the states on the way, give `trajectory` what is `Kept`.

    Source: VQ-Diffusion reverse process
    Source: VQ-Diffusion inpainting
    """
    return sample(
        denoiser,
        (known.shape[0], known.shape[1]),
        condition,
        process=process,
        steps=steps,
        guidance=guidance,
        truncation=truncation,
        temperature=temperature,
        route=route,
        start=start,
        kept=Kept(known, mask),
        generator=generator,
    )
