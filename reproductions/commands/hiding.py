"""Masks from the command line: one of the kinds by name, or a picture in black and white. True = fill in."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reproductions.drawn.edit_masks import UpperHalf, Window
from reproductions.gathering.pictures import BadPicture, decode
from reproductions.stages.evaluating import REPAINT_MASKS, MaskKind, draw_masks

KINDS: dict[str, MaskKind] = {kind.name.replace(" ", "-"): kind for kind in (*REPAINT_MASKS, UpperHalf(), Window())}


def check_mask(mask: str, side: int) -> None:
    """Find out, before any work, whether `masks` can be had.

    Raises:
        ValueError: for an unknown name, a picture of another size, greys, or nothing to fill in or to keep.
    """
    if mask.replace(" ", "-") not in KINDS:
        picture_mask(Path(mask), side)


def masks(mask: str, which: list[int], side: int, seed: int) -> Tensor:
    """Masks (b, 1, side, side), bool, of these pictures; a random kind gives each its own, by seed and place."""
    kind = KINDS.get(mask.replace(" ", "-"))
    if kind is None:
        return picture_mask(Path(mask), side).expand(len(which), -1, -1, -1)
    return torch.cat([draw_masks(kind, 1, side, side, seed=seed, first=i) for i in which])


def picture_mask(path: Path, side: int) -> Tensor:
    """A mask (1, 1, side, side) from a picture: white, or 1, is to be filled in, black is kept.

    Raises:
        ValueError: for a missing or broken file, another size, other values, or nothing to fill in or to keep.
    """
    path = path.expanduser()
    if not path.is_file():
        raise ValueError(f"--mask: {path} is no file, and none of the kinds {', '.join(KINDS)}")
    try:
        image = decode(path.read_bytes())
    except BadPicture as reason:
        raise ValueError(f"--mask: {path}: {reason}") from None
    if image.size != (side, side):
        raise ValueError(
            f"--mask: {path} has {image.width} x {image.height} pixels, and the run draws {side} x {side}, to which "
            "pictures are brought; give the mask in that size, without smoothing"
        )
    values = np.asarray(image)
    other = sorted(set(np.unique(values).tolist()) - ({0, 255} if values.max() > 1 else {0, 1}))
    if other or (values != values[..., :1]).any():
        what = f"the values {', '.join(map(str, other[:5]))}" if other else "colours"
        raise ValueError(
            f"--mask: {path} holds {what}; only black (keep) and white (fill in) say something: threshold it"
        )
    mask = torch.from_numpy(values[..., 0] > 0)[None, None]
    if not bool(mask.any()):
        raise ValueError(
            f"--mask: {path} is black everywhere, so there is nothing to fill in; white is to be filled in"
        )
    if bool(mask.all()):
        raise ValueError(
            f"--mask: {path} is white everywhere and keeps nothing; `conprediff sample` draws whole pictures"
        )
    return mask
