"""Codes of training pictures, tokens or latents, in a file that is written a batch at a time."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from reproductions.artefacts import Desk
from reproductions.gathering.rows import Rows, forget, is_whole
from reproductions.gathering.splits import TRAIN, pictures
from reproductions.text_to_image import device

BATCH = 256
CLEAN = "clean.safetensors"


def write_codes(
    desk: Desk,
    code: Callable[[Tensor], dict[str, Tensor]],
    path: Path,
    whole: Mapping[str, Tensor] | None = None,
    *,
    views: int | None = None,
) -> None:
    """Write what `code` makes of uint8 pictures (b, 3, H, W), or go on where that was interrupted.

    whole: what the file holds besides; views: of each picture, the second one mirrored (None: no axis of views).
    """
    if is_whole(path):
        return
    images = pictures(desk.inputs["data"] / TRAIN)
    leading = (len(images),) if views is None else (views, len(images))
    batches = [(view, start) for view in range(views or 1) for start in range(0, len(images), BATCH)]
    with torch.inference_mode():
        rows = Rows(path, code(first_picture(desk)), leading, whole)
        left = [(view, start) for view, start in batches if view * len(images) + start >= rows.done]
        for view, start in desk.track(left, len(batches), len(batches) - len(left)):
            part = images[start : start + BATCH].to(device())
            first = view * len(images) + start
            rows.write(range(first, first + len(part)), **code(part.flip(-1) if view else part))
    rows.finish()
    forget(path)


def first_picture(desk: Desk) -> Tensor:
    """The first training picture (1, 3, H, W)."""
    return pictures(desk.inputs["data"] / TRAIN)[:1].to(device())


def standardise(raw: Path, clean: Path) -> None:
    """Bring `mean` (v, N, c, h, w) to mean 0 and standard deviation 1, with the `shift` and `scale` (c,) that do it.

    There is a `deviation` (v, N, 1, 1, 1) beside it, of 0. It goes on where it was interrupted.
    """
    found = load_file(raw)["mean"]
    mean = found.flatten(0, 1)
    shift, scale = mean.mean((0, 2, 3)), 1 / mean.std((0, 2, 3))
    like = {"mean": mean[:1], "deviation": torch.zeros(1, 1, 1, 1)}
    rows = Rows(clean, like, tuple(found.shape[:2]), {"shift": shift, "scale": scale})
    for start in range(rows.done, len(mean), BATCH):
        part = (mean[start : start + BATCH] - shift[:, None, None]) * scale[:, None, None]
        rows.write(range(start, start + len(part)), mean=part, deviation=torch.zeros(len(part), 1, 1, 1))
    rows.finish()
    forget(clean)
