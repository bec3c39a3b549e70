"""Pictures of every kind, made here, against the colours that were put into them."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from reproductions.gathering import pictures
from reproductions.gathering.pictures import BadPicture, decode, fit

RED = (200, 30, 40)


def encoded(image: Image.Image, form: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def colours(data: bytes) -> np.ndarray:
    image = decode(data)
    assert image.mode == "RGB"
    return np.asarray(image)


def test_rgb_pixels_are_untouched():
    pixels = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    assert np.array_equal(colours(encoded(Image.fromarray(pixels))), pixels)


def test_greyscale_is_spread_over_the_channels():
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert np.array_equal(colours(encoded(Image.fromarray(pixels))), np.repeat(pixels[..., None], 3, axis=2))


def test_one_bit_is_black_and_white():
    assert np.array_equal(np.unique(colours(encoded(Image.new("1", (4, 4), 1)))), [255])


def test_a_palette_gives_its_colours():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, *RED])
    assert (colours(encoded(image)) == RED).all()


def test_a_transparent_palette_entry_is_white():
    image = Image.new("P", (2, 1), 0)
    image.putpalette([0, 0, 0, *RED])
    image.putpixel((1, 0), 1)
    assert colours(encoded(image, transparency=0)).tolist() == [[[255, 255, 255], list(RED)]]


@pytest.mark.parametrize("alpha", [0, 51, 128, 255])
def test_alpha_is_over_white(alpha):
    expected = np.array(RED) * alpha / 255 + 255 * (1 - alpha / 255)
    assert np.abs(colours(encoded(Image.new("RGBA", (3, 3), (*RED, alpha)))) - expected).max() <= 1
    grey = 100 * alpha / 255 + 255 * (1 - alpha / 255)
    assert np.abs(colours(encoded(Image.new("LA", (3, 3), (100, alpha)))) - grey).max() <= 1


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled(form):
    values = np.array([[0, 128, 257, 32_768, 65_407, 65_535]], dtype=np.uint16)
    assert colours(encoded(Image.fromarray(values), form))[0, :, 0].tolist() == [0, 0, 1, 128, 255, 255]


def test_sixteen_bit_colour_keeps_its_range():
    rows = b"\0" + np.array([[65_535, 0, 32_768]], dtype=">u2").tobytes()

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert colours(data).tolist() == [[[255, 0, 128]]]


def test_cmyk_is_converted():
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert np.abs(colours(encoded(image, "TIFF")).astype(int) - (255, 0, 0)).max() <= 2
    assert np.abs(colours(encoded(image, "JPEG", quality=95)).astype(int) - (255, 0, 0)).max() <= 12


def test_an_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, (0, 255, 0), (0, 0, 255))]
    data = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert Image.open(io.BytesIO(data)).n_frames == 3
    assert (colours(data) == RED).all()
    gif = colours(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert np.abs(gif.astype(int) - RED).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = np.zeros((16, 32, 3), dtype=np.uint8)
    upright[:8, :16] = 255
    image = Image.fromarray(upright)
    stored = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = image.transpose(stored[orientation]) if orientation in stored else image
    assert np.array_equal(colours(encoded(turned, exif=exif)), upright)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF"])
def test_a_truncated_file_is_bad(form):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, form)
    with pytest.raises(BadPicture):
        decode(data[: len(data) // 2])


@pytest.mark.parametrize("data", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"])
def test_something_else_is_bad(data):
    with pytest.raises(BadPicture):
        decode(data)


def test_a_decompression_bomb_is_bad_and_never_decoded():
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    for side in (9_000, 60_000):
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        with pytest.raises(BadPicture, match="pixels|exceeds"):
            decode(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


def test_the_limit_on_pixels_is_inclusive(monkeypatch):
    monkeypatch.setattr(pictures, "MAX_PIXELS", 16)
    decode(encoded(Image.new("RGB", (4, 4))))
    with pytest.raises(BadPicture, match="5 x 4"):
        decode(encoded(Image.new("RGB", (5, 4))))


def test_floating_point_has_no_defined_range():
    with pytest.raises(BadPicture, match="no defined range"):
        decode(encoded(Image.new("F", (4, 4), 0.5), "TIFF"))


@pytest.mark.parametrize(("width", "height"), [(64, 32), (32, 64), (33, 32), (16, 16), (1, 40), (300, 7)])
def test_fitting_gives_a_square(width, height):
    fitted = fit(Image.new("RGB", (width, height), RED), 16)
    assert fitted.shape == (16, 16, 3) and fitted.dtype == np.uint8
    assert (fitted == RED).all()


@pytest.mark.parametrize("across", [True, False])
def test_fitting_keeps_the_centre(across):
    thirds = np.repeat(np.array([10, 120, 250], dtype=np.uint8), 32)
    band = np.broadcast_to(thirds[None, :, None], (32, 96, 3))
    fitted = fit(Image.fromarray(np.ascontiguousarray(band if across else band.transpose(1, 0, 2))), 32)
    assert (fitted[4:-4, 4:-4] == 120).all()


def test_fitting_is_antialiased():
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(fit(Image.fromarray(stripes), 8)[:, 1:-1].astype(float) - 127.5).max() < 8


def test_fitting_at_its_own_size_changes_nothing():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert np.array_equal(fit(Image.fromarray(pixels), 16), pixels)
