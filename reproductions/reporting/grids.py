"""Pictures as pictures: image grids, the side-by-side comparison, PNG bytes and data URIs."""

import base64
import io
import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from reproductions.reporting.findings import Report

GAP = 2
PAPER = (255, 255, 255)
INK = (38, 38, 38)
MUTED = (110, 110, 110)
WRONG = (213, 94, 0)


def picture(image: Tensor) -> Image.Image:
    """Turn one uint8 image `(3, H, W)` into a picture."""
    return Image.fromarray(image.detach().cpu().permute(1, 2, 0).contiguous().numpy())


def enlarged(image: Tensor, scale: int) -> Image.Image:
    """Turn one uint8 image `(3, H, W)` into a picture whose pixels are `scale` by `scale` squares."""
    small = picture(image)
    return small.resize((small.width * scale, small.height * scale), Image.Resampling.NEAREST)


def grid(images: Tensor, columns: int, scale: int) -> Image.Image:
    """Lay uint8 images `(b, 3, H, W)` out row by row, with thin gaps; pixels become squares of side `scale`.

    Raises:
        ValueError: for no images, or for columns or a scale below one.
    """
    if len(images) == 0 or columns < 1 or scale < 1:
        raise ValueError(
            f"grid needs images, columns and a scale of at least 1, not {len(images)}, {columns} and {scale}"
        )
    columns = min(columns, len(images))
    height, width = (side * scale + GAP for side in images.shape[2:])
    canvas = Image.new("RGB", (columns * width - GAP, math.ceil(len(images) / columns) * height - GAP), PAPER)
    for i, image in enumerate(images):
        canvas.paste(enlarged(image, scale), (i % columns * width, i // columns * height))
    return canvas


def fitting_scale(images: Tensor, side: int) -> int:
    """Return the integer by which images are enlarged to come near `side` pixels, at least 1."""
    return max(1, round(side / max(images.shape[2:])))


def comparison_grid(report: Report, rows: int = 8, side: int = 96) -> Image.Image:
    """Draw the same captions across the models: captions along the side, real images and then models as columns.

    The first `rows` captions are shown, never a choice of the best; a cross marks what the judge reads otherwise.
    """
    columns = [("real", report.real, None)] + [
        (samples.approach, samples.images, samples.right) for samples in report.paired_samples
    ]
    rows = min(rows, len(report.captions))
    if rows == 0:
        raise ValueError("comparison_grid needs captions and images, but the report has none")
    scale = fitting_scale(report.real, side)
    height, width = (length * scale for length in report.real.shape[2:])
    margin, gap, head = max(150, int(1.6 * width)), max(6, width // 12), 30
    judged = any(samples.right is not None for samples in report.samples)
    size = (margin + len(columns) * (width + gap) + gap, head + rows * (height + gap) + (26 if judged else gap))
    canvas = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(canvas)
    heading = _font(min(_fitting_size(name, width + gap) for name, _, _ in columns))
    for j, (name, images, right) in enumerate(columns):
        left = margin + gap + j * (width + gap)
        draw.text((left + width // 2, head // 2), name, INK, heading, anchor="mm")
        for i in range(rows):
            top = head + i * (height + gap)
            canvas.paste(picture(images[i]).resize((width, height), Image.Resampling.NEAREST), (left, top))
            if right is not None and not bool(right[i]):
                _cross(draw, left + width - 14, top + height - 14)
    for i in range(rows):
        _caption(draw, report.captions[i], margin, head + i * (height + gap) + height // 2)
    if judged:
        _cross(draw, margin + gap, size[1] - 19)
        draw.text(
            (margin + gap + 18, size[1] - 13),
            "the judge reads something else than the caption",
            MUTED,
            _font(12),
            anchor="lm",
        )
    return canvas


def png(image: Image.Image) -> bytes:
    """Encode a picture as PNG; equal pictures give equal bytes."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def data_uri(image: Tensor) -> str:
    """Write one uint8 image `(3, H, W)` as a PNG data URI."""
    return uri(png(picture(image)))


def uri(content: bytes) -> str:
    """Write PNG bytes as a data URI."""
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


def labelled_rows(rows: Mapping[str, Tensor], side: int = 64) -> Image.Image:
    """Lay out rows of uint8 images `(b, 3, H, W)`, each behind its label; pixels become squares.

    Raises:
        ValueError: for no rows, or a row without images.
    """
    if not rows or not all(map(len, rows.values())):
        raise ValueError("labelled_rows needs rows, and images in each")
    scale = fitting_scale(next(iter(rows.values())), side)
    strips = {label: grid(images, len(images), scale) for label, images in rows.items()}
    font = _font(14)
    margin = 16 + max(math.ceil(font.getlength(label)) for label in rows)
    height = max(strip.height for strip in strips.values()) + 2 * GAP
    canvas = Image.new("RGB", (margin + max(s.width for s in strips.values()), height * len(rows)), PAPER)
    draw = ImageDraw.Draw(canvas)
    for i, (label, strip) in enumerate(strips.items()):
        canvas.paste(strip, (margin, i * height))
        draw.text((margin - 8, i * height + strip.height // 2), label, INK, font, anchor="rm")
    return canvas


@dataclass(frozen=True)
class Wall:
    """Pictures of one maker as data URIs, and which of them the judge reads as something else than their caption."""

    maker: str
    uris: list[str]
    wrong: list[bool]
    judged: bool

    @property
    def right(self) -> int:
        """How many are read as their caption."""
        return len(self.wrong) - sum(self.wrong)


def wall(maker: str, images: Tensor, shown: int, right: Tensor | None = None) -> Wall:
    """The first `shown` of the uint8 images `(b, 3, H, W)`, written for a page."""
    wrong = [False] * len(images) if right is None else [not bool(one) for one in right]
    return Wall(maker, [data_uri(image) for image in images[:shown]], wrong[:shown], right is not None)


def _font(size: int) -> ImageFont.FreeTypeFont:
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def _fitting_size(text: str, width: int) -> int:
    return next((size for size in range(14, 7, -1) if _font(size).getlength(text) <= width), 7)


def _caption(draw: ImageDraw.ImageDraw, caption: str, width: int, middle: int) -> None:
    font = _font(13)
    characters = max(8, int(width / font.getlength("n")) - 1)
    lines = textwrap.wrap(caption, characters, max_lines=4, placeholder=" ...") or [""]
    draw.multiline_text((width, middle), "\n".join(lines), INK, font, anchor="rm", align="right", spacing=3)


def _cross(draw: ImageDraw.ImageDraw, left: int, top: int) -> None:
    draw.rectangle((left, top, left + 12, top + 12), fill=PAPER)
    draw.line((left + 3, top + 3, left + 9, top + 9), WRONG, 2)
    draw.line((left + 3, top + 9, left + 9, top + 3), WRONG, 2)
