"""Images in: arrays, tensors and generators to uint8 batches, of a stated range and layout, nothing guessed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ._types import Images

AnyImages = Tensor | npt.NDArray[np.generic]


class Range(Enum):
    """What the values of images mean: the value of black, and that of white."""

    BYTES = (0.0, 255.0)
    SIGNED = (-1.0, 1.0)
    UNIT = (0.0, 1.0)


class Layout(Enum):
    """Where the three channels of an image lie."""

    CHANNELS_FIRST = "(3, H, W)"
    CHANNELS_LAST = "(H, W, 3)"


def to_bytes(
    images: object, *, values: Range | None = None, layout: Layout | None = None, argument: str = "images"
) -> Images:
    """Uint8 images `(b, 3, H, W)` of images `(b, 3, H, W)` or `(b, H, W, 3)`, or of one image without the first axis.

    Bytes are taken as they are, and need no range. Floats need `values`: they are scaled to 0..255 and rounded, and
    refused where one lies more than a thousandth of the range outside it. The layout is read off the axis of length
    3; it must be given where both have it.

    Raises TypeError for floats without a range, for integers wider than bytes, and for what is no array; ValueError
    for values out of range or not finite, and for grey images, images with transparency and shapes of other kinds.
    """
    tensor = images.detach() if isinstance(images, Tensor) else _from_numpy(images, argument)
    batch = _channels_first(tensor[None] if tensor.ndim == 3 else tensor, layout, argument)
    if batch.dtype == torch.uint8:
        if values not in (None, Range.BYTES):
            raise TypeError(f"{argument}: uint8 images hold bytes, values={values} is for floats: leave it out")
        return batch
    if not batch.is_floating_point():
        raise TypeError(
            f"{argument}: images are uint8 or floats, got {batch.dtype}: scale 16-bit images to bytes first, "
            "(x + 128) // 257"
        )
    if values is None:
        raise TypeError(
            f"{argument}: floats may mean anything, these lie in [{batch.min():g}, {batch.max():g}]: say "
            "values=Range.SIGNED for [-1, 1], Range.UNIT for [0, 1], Range.BYTES for [0, 255]"
        )
    return _scaled(batch, values, argument)


def image_batches(
    source: AnyImages | Iterable[AnyImages],
    batch_size: int,
    *,
    values: Range | None = None,
    layout: Layout | None = None,
) -> Iterator[Images]:
    """Uint8 batches `(batch_size, 3, H, W)`, the last perhaps smaller, of an array or of what yields arrays.

    What is yielded may be single images or batches of any size, all of one height and width. Arguments and errors are
    those of `to_bytes`; errors name the number of the item, and of the first image of another size.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    items: Iterable[AnyImages] = [source] if isinstance(source, (Tensor, np.ndarray)) else source
    waiting: list[Tensor] = []
    size: torch.Size | None = None
    for number, item in enumerate(items):
        batch = to_bytes(item, values=values, layout=layout, argument=f"images[{number}]")
        size = size or batch.shape[-2:]
        if batch.shape[-2:] != size:
            raise ValueError(
                f"images[{number}] is {tuple(batch.shape[-2:])}, those before are {tuple(size)}: bring all images to "
                "one size first, with centre_square or resize_bytes, and say so beside the score"
            )
        waiting.extend(batch)
        while len(waiting) >= batch_size:
            yield torch.stack(waiting[:batch_size])
            del waiting[:batch_size]
    if waiting:
        yield torch.stack(waiting)


def _from_numpy(images: object, argument: str) -> Tensor:
    if not isinstance(images, np.ndarray):
        raise TypeError(f"{argument}: images are torch tensors or NumPy arrays, got {type(images).__name__}")
    if images.dtype.kind not in "fui" or images.dtype in (np.uint16, np.uint32, np.uint64):
        raise TypeError(f"{argument}: images are uint8 or floats, got {images.dtype}: scale them to bytes first")
    return torch.from_numpy(images.astype(images.dtype.newbyteorder("="), order="C"))


def _channels_first(batch: Tensor, layout: Layout | None, argument: str) -> Tensor:
    if batch.ndim != 4 or 0 in batch.shape[1:]:
        raise ValueError(f"{argument}: images are (b, 3, H, W) or (b, H, W, 3), got {tuple(batch.shape)}")
    first, last = batch.shape[1] == 3, batch.shape[3] == 3
    if layout is None and first and last:
        raise ValueError(
            f"{argument}: {tuple(batch.shape)} may be either layout: give layout=Layout.CHANNELS_FIRST or _LAST"
        )
    chosen = layout or (Layout.CHANNELS_LAST if last else Layout.CHANNELS_FIRST)
    channels = batch.shape[1 if chosen is Layout.CHANNELS_FIRST else 3]
    if channels != 3:
        advice = {1: "repeat a grey channel three times", 4: "lay transparency over a background"}
        fitting = [text for n, text in advice.items() if n in (batch.shape[1], batch.shape[3])]
        raise ValueError(
            f"{argument}: images have 3 channels, got {tuple(batch.shape)}: {', '.join(fitting) or 'RGB is wanted'}"
        )
    return batch if chosen is Layout.CHANNELS_FIRST else batch.permute(0, 3, 1, 2).contiguous()


def _scaled(batch: Tensor, values: Range, argument: str) -> Tensor:
    black, white = values.value
    unit = (batch.double() - black) / (white - black)
    if not unit.isfinite().all():
        bad = (~unit.isfinite()).flatten(1).any(dim=1).nonzero().flatten()
        raise ValueError(f"{argument}: {len(bad)} images are not finite, the first is image {bad[0].item()}")
    if unit.numel() and (unit.min() < -1e-3 or unit.max() > 1 + 1e-3):
        raise ValueError(
            f"{argument}: values lie in [{batch.min():g}, {batch.max():g}], outside [{black:g}, {white:g}] "
            f"({values}): choose their range, or clamp them first"
        )
    whole: Tensor = (unit * 255).round().clamp_(0, 255).to(torch.uint8)
    return whole
