"""One picture file to RGB pixels, or the reason why it has none."""

import io
import warnings

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 64_000_000
SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")


class BadPicture(ValueError):
    """A picture that cannot be decoded, or whose colours are not well defined."""


def decode(data: bytes) -> Image.Image:
    """Decode the bytes of a picture file to RGB: first frame, upright, transparency over white, 16 bits scaled to 8.

    Raises BadPicture, with the reason, for truncated or broken files, more than 64 million pixels, and pictures
    without a defined range (floating point, 32-bit integers).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise BadPicture(f"{image.width} x {image.height} pixels are more than {MAX_PIXELS:,}")
                image.load()
                return to_rgb(ImageOps.exif_transpose(image))
    except BadPicture:
        raise
    except UnidentifiedImageError:
        raise BadPicture("not a picture of any known format") from None
    except Exception as error:  # a decoder at odds with broken bytes may raise anything
        raise BadPicture(str(error) or type(error).__name__) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a decoded picture of any mode to RGB; raises BadPicture where there is no defined way."""
    if image.mode in SIXTEEN_BIT or (image.mode == "I" and image.format in ("PNG", "PPM")):
        scaled = (np.asarray(image).astype(np.int64) + 128) // 257
        return Image.fromarray(scaled.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise BadPicture(f"pixels of mode {image.mode!r} ({image.format or 'unknown format'}) have no defined range")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def fit(image: Image.Image, resolution: int) -> npt.NDArray[np.uint8]:
    """Scale the short side to `resolution` (antialiased bicubic) and keep the central square `(S, S, 3)`, uint8."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    square = (left, top, left + side, top + side)
    return np.asarray(image.resize((resolution, resolution), Image.Resampling.BICUBIC, box=square))
