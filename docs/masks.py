"""Writes docs/pictures/masks.png: four masks of every kind, white where pixels are to be filled in."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from diffusion_evaluation import REPAINT_MASKS, draw_masks

SIDE, GAP, COUNT, SEED = 128, 6, 4, 1


def picture() -> Image.Image:
    """One row for each mask of one seed, one column for each kind, in the order of REPAINT_MASKS."""
    sheet = np.full((COUNT * (SIDE + GAP) - GAP, len(REPAINT_MASKS) * (SIDE + GAP) - GAP), 128, dtype=np.uint8)
    for column, kind in enumerate(REPAINT_MASKS):
        for row, mask in enumerate(draw_masks(kind, COUNT, SIDE, SIDE, seed=SEED)[:, 0].numpy()):
            top, left = row * (SIDE + GAP), column * (SIDE + GAP)
            sheet[top : top + SIDE, left : left + SIDE] = np.where(mask, 255, 0)
    return Image.fromarray(sheet)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("pictures") / "masks.png"
    picture().save(target, optimize=True)
    print(f"wrote {target}: {', '.join(kind.name for kind in REPAINT_MASKS)}")
