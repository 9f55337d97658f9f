"""Decoding: every format upright and RGB, every bad file one of four errors, no pixel before its limit."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pillow_heif import HeifFile, from_pillow

from service.recognition.decoding import ImageLimits, decode
from service.recognition.errors import (
    ImageError,
    MalformedImage,
    TooManyBytes,
    TooManyPixels,
    UnsupportedFormat,
)

LIMITS = ImageLimits(max_bytes=4 * 2**20, max_pixels=2_000_000)


def scene(width: int = 96, height: int = 64) -> Image.Image:
    """Smooth, asymmetric in both axes: red grows to the right, green downwards."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, np.full_like(x, 60)], axis=-1).astype(np.uint8))


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    """The image as a file of that format."""
    file = BytesIO()
    if form == "HEIC":
        heif: HeifFile = from_pillow(image)
        heif.save(file, quality=95, **options)
    else:
        image.save(file, form, **options)
    return file.getvalue()


FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "HEIC")


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_upright_rgb(form: str) -> None:
    photo = decode(saved(scene(), form), LIMITS)

    assert photo.pixels.shape == (64, 96, 3)
    assert photo.pixels.dtype == np.uint8
    assert (photo.width, photo.height) == (96, 64)
    assert np.abs(photo.pixels.astype(int) - np.asarray(scene())).mean() < 6


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_frames_the_first_counts(form: str) -> None:
    white = Image.new("RGB", (96, 64), "white")
    data = saved(scene(), form, save_all=True, append_images=[white, white])

    assert np.abs(decode(data, LIMITS).pixels.astype(int) - np.asarray(scene())).mean() < 6


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(form: str, orientation: int) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = scene()
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation

    photo = decode(saved(stored, form, exif=exif), LIMITS)

    assert (photo.width, photo.height) == upright.size
    assert np.abs(photo.pixels.astype(int) - np.asarray(upright)).mean() < 6


def test_heic_rotation_is_applied_once() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = scene().transpose(Image.Transpose.ROTATE_90)

    photo = decode(saved(stored, "HEIC", exif=exif.tobytes()), LIMITS)

    assert (photo.width, photo.height) == (96, 64)
    assert np.abs(photo.pixels.astype(int) - np.asarray(scene())).mean() < 6


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_keep_their_brightness(form: str) -> None:
    ramp = np.linspace(0, 65535, 96 * 64).reshape(64, 96).astype(np.uint16)

    grey = decode(saved(Image.fromarray(ramp), form), LIMITS).pixels

    assert np.array_equal(grey, np.repeat((ramp >> 8).astype(np.uint8)[:, :, None], 3, axis=2))


@pytest.mark.parametrize("values", [np.float32(3.5), np.float32(np.nan), np.int32(7)])
def test_thirty_two_bit_grey_without_contrast_is_still_a_photo(values: np.generic) -> None:
    flat = Image.fromarray(np.full((8, 8), values))

    assert decode(saved(flat, "TIFF"), LIMITS).pixels.shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        ("L", "JPEG"),
        ("1", "PNG"),
        ("P", "PNG"),
        ("CMYK", "JPEG"),
        ("CMYK", "TIFF"),
        ("YCbCr", "TIFF"),
        ("L", "WEBP"),
    ],
)
def test_every_colour_mode_becomes_rgb(mode: str, form: str) -> None:
    photo = decode(saved(scene().convert(mode), form), LIMITS)

    # A grey or two-level picture keeps the brightness, the others keep the colours.
    expected = scene().convert("L").convert("RGB") if mode in ("L", "1") else scene()
    assert abs(photo.pixels.mean() - np.asarray(expected).mean()) < 12


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_lies_over_white(mode: str) -> None:
    clear = Image.new("RGBA", (16, 16), (0, 0, 0, 0)).convert(mode)
    form = "TIFF" if mode == "PA" else "PNG"

    assert decode(saved(clear, form), LIMITS).pixels.min() == 255


def test_transparent_palette_entry_lies_over_white() -> None:
    image = Image.new("P", (16, 16), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])

    assert decode(saved(image, "PNG", transparency=0), LIMITS).pixels.min() == 255


def test_a_lab_photo_is_refused_as_a_colour_space() -> None:
    with pytest.raises(UnsupportedFormat, match="LAB"):
        decode(saved(Image.new("LAB", (8, 8)), "TIFF"), LIMITS)


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file from its header and chunks."""
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    parts = [b"\x89PNG\r\n\x1a\n"]
    for name, body in (header, *chunks, (b"IEND", b"")):
        parts.append(struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)))
    return b"".join(parts)


def test_a_huge_header_is_refused_before_any_pixel() -> None:
    bomb = png(50_000, 50_000, (b"IDAT", zlib.compress(bytes(1 << 20), 9)))
    tracemalloc.start()
    try:
        with pytest.raises(TooManyPixels):
            decode(bomb, LIMITS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 4 * 2**20


def test_a_huge_webp_canvas_is_refused_before_libwebp_allocates_it() -> None:
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + b"\xff\x3f\0" * 2
    with pytest.raises(TooManyPixels, match="16384x16384"):
        decode(b"RIFF" + struct.pack("<I", len(body)) + body, LIMITS)


def test_text_that_inflates_without_end_is_refused() -> None:
    text = zlib.compress(bytes(64 << 20), 9)
    bomb = png(8, 8, (b"zTXt", b"k\0\0" + text), (b"IDAT", zlib.compress(bytes(8 * 25))))
    with pytest.raises(MalformedImage):
        decode(bomb, LIMITS)


@pytest.mark.parametrize("form", FORMATS)
def test_a_photo_over_the_pixel_limit_is_refused(form: str) -> None:
    with pytest.raises(TooManyPixels, match="96x64"):
        decode(saved(scene(), form), ImageLimits(max_bytes=2**20, max_pixels=96 * 64 - 1))


def test_a_file_over_the_byte_limit_is_refused() -> None:
    with pytest.raises(TooManyBytes):
        decode(saved(scene(), "BMP"), ImageLimits(max_bytes=1000, max_pixels=10**6))


@pytest.mark.parametrize(
    "data",
    [
        b"%PDF-1.7\n1 0 obj",
        b"plain text " * 1000,
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"8BPS\0\1" + bytes(40),
        b"\0",
    ],
    ids=["pdf", "text", "eps", "psd", "byte"],
)
def test_other_formats_are_unsupported(data: bytes) -> None:
    with pytest.raises(UnsupportedFormat, match="HEIC"):
        decode(data, LIMITS)


def test_nothing_is_malformed() -> None:
    with pytest.raises(MalformedImage, match="empty"):
        decode(b"", LIMITS)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_truncated_file_is_malformed(form: str, share: float) -> None:
    data = saved(scene(), form)
    with pytest.raises((MalformedImage, UnsupportedFormat)) as caught:
        decode(data[: max(1, int(len(data) * share))], LIMITS)
    # With less than a signature left nobody can tell the format.
    assert share == 0.02 or caught.type is MalformedImage


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    form=st.sampled_from(FORMATS),
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=12),
    cut=st.integers(0, 10**6),
    header=st.booleans(),
)
def test_mutated_bytes_raise_image_errors_only(form: str, edits: list[tuple[int, int]], cut: int, header: bool) -> None:
    data = bytearray(saved(scene(24, 16), form))
    for place, value in edits:
        data[place % min(len(data), 64 if header else len(data))] = value
    del data[max(len(data) - cut % (2 * len(data)), 1) :]
    with suppress(ImageError):
        assert decode(bytes(data), LIMITS).pixels.shape[2] == 3


def test_a_large_jpeg_may_be_decoded_smaller_while_boxes_keep_their_frame(demo: Path) -> None:
    data = (demo / "002_A.jpg").read_bytes()
    limits = ImageLimits()

    full, reduced = decode(data, limits), decode(data, limits, enough=640)

    assert (reduced.width, reduced.height) == (full.width, full.height)
    assert max(reduced.pixels.shape) >= 640
    assert reduced.pixels.size <= full.pixels.size / 4
    scale = reduced.scale
    assert scale[0] == pytest.approx(scale[1], rel=0.01)


def test_a_reduced_sideways_jpeg_keeps_its_upright_frame() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = scene(960, 640).transpose(Image.Transpose.ROTATE_90)

    photo = decode(saved(stored, "JPEG", exif=exif), LIMITS, enough=400)

    assert (photo.width, photo.height) == (960, 640)
    assert photo.pixels.shape == (320, 480, 3)
