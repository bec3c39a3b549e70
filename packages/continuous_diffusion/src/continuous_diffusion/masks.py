"""Masks, 1 = fill in and 0 = keep: checked, and carried from pixels to latents."""

from jaxtyping import Bool
from torch import Tensor
from torch.nn import functional as F

from continuous_diffusion._types import Images


def holes(mask: Tensor, known: Images) -> Bool[Tensor, "b _ h w"]:
    """Where to fill in, checked: of shape (b, 1, h, w) or that of `known`.

    Raises ValueError for a mask of another size, or with values other than 0 and 1.
    """
    b, c, *grid = known.shape
    if mask.ndim != 4 or mask.shape[0] != b or mask.shape[1] not in (1, c) or list(mask.shape[2:]) != grid:
        expected = f"(b, 1, h, w) = {(b, 1, *grid)}"
        raise ValueError(f"mask: shape {tuple(mask.shape)} beside an image {tuple(known.shape)}; expected {expected}")
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError("mask: values other than 0 (keep) and 1 (fill in); compare it with a threshold first")
    return mask == 1


def latent_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """The mask (b, 1, H, W) of pixels on a grid of latents (h, w): filled in where any of its pixels is.

    Raises ValueError where the grid does not divide the pixels.
    """
    (H, W), (h, w) = mask.shape[2:], size
    if H % h or W % w:
        raise ValueError(f"mask: {H} x {W} pixels are no multiple of {h} x {w} latents")
    return F.max_pool2d(mask.float(), (H // h, W // w)).to(mask.dtype)
