"""Bytes of a photo -> upright RGB pixels, with every limit checked before a pixel is decoded."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from pillow_heif import HeifImageFile

from service.recognition.errors import MalformedImage, TooManyBytes, TooManyPixels, UnsupportedFormat

# The only parsers a stranger's bytes reach: no Ghostscript, no PDF, no PSD.
FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
SUPPORTED: Final = "JPEG, PNG, WebP, BMP, GIF, TIFF, HEIC"

_SIGNATURES: Final = (b"\xff\xd8", b"\x89PNG", b"BM", b"GIF8", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEIF_BRANDS: Final = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_ORIENTATION_TAG: Final = 0x0112
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS: Final = (5, 6, 7, 8)
# What Pillow's and libheif's parsers raise on damaged bytes, found by mutation (test_decoding.py).
# MemoryError: a damaged header may ask for an absurd buffer, which is refused before it is had.
_DAMAGED: Final = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    EOFError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class ImageLimits:
    """The largest file (`max_bytes`) and the largest photo (`max_pixels`, width times height) accepted."""

    max_bytes: int = 20 * 1024 * 1024
    max_pixels: int = 50_000_000


@dataclass(frozen=True)
class Photo:
    """A decoded photo. pixels: uint8 (H, W, 3) RGB, upright, perhaps reduced (see `scale`).

    width, height: of the whole upright photo, the frame in which boxes are reported.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the photo per decoded pixel, in x and y; (1, 1) unless the decoder reduced it."""
        return self.width / self.pixels.shape[1], self.height / self.pixels.shape[0]


def decode(data: bytes, limits: ImageLimits, enough: int | None = None) -> Photo:
    """Decode JPEG, PNG, WebP, BMP, GIF, TIFF (first frame of each) or HEIC.

    The EXIF orientation is applied, transparency laid over white; 16-bit, CMYK, grey and palette become
    8-bit RGB. `enough`: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size (the DCT makes that cheap
    and free of aliasing) as long as its longer side keeps this many pixels.
    Raises MalformedImage, UnsupportedFormat, TooManyBytes, TooManyPixels, and nothing else.
    """
    if not data:
        raise MalformedImage("the image is empty (zero bytes)")
    if len(data) > limits.max_bytes:
        raise TooManyBytes(f"the image has {len(data)} bytes; at most {limits.max_bytes} are accepted")
    _check_pixels(_webp_canvas(data), limits)
    with _open(data) as image:
        _check_pixels(image.size, limits)
        try:
            return _load(image, limits, enough)
        except (TooManyPixels, UnsupportedFormat):
            raise
        except _DAMAGED as error:
            raise MalformedImage(f"the image is truncated or damaged ({error})") from error


def _load(image: ImageFile.ImageFile, limits: ImageLimits, enough: int | None) -> Photo:
    """Decode the pixels of an opened image, turn them upright, make them RGB."""
    reduced_from = None
    if enough is not None and isinstance(image, JpegImageFile) and max(image.size) >= 2 * enough:
        reduced_from = image.size
        shrink = max(image.size) / enough
        image.draft(None, (int(image.width / shrink), int(image.height / shrink)))
    image.load()
    _check_pixels(image.size, limits)  # some HEIC learn their size only here
    orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    turn = _UPRIGHT.get(orientation)
    pixels = _to_rgb(image if turn is None else image.transpose(turn))
    height, width = pixels.shape[:2]
    if reduced_from is not None:
        width, height = reduced_from[::-1] if orientation in _SIDEWAYS else reduced_from
    return Photo(pixels, width, height)


def _open(data: bytes) -> ImageFile.ImageFile:
    """Read the header alone."""
    try:
        if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
            heif: ImageFile.ImageFile = HeifImageFile(BytesIO(data))  # type: ignore[no-untyped-call]
            return heif
        return Image.open(BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise TooManyPixels(str(error)) from error
    except (UnidentifiedImageError, *_DAMAGED) as error:
        if _claims_support(data):
            raise MalformedImage(f"the image's header is truncated or damaged ({error})") from error
        raise UnsupportedFormat(f"this is no image of a supported format; supported: {SUPPORTED}") from error


def _claims_support(data: bytes) -> bool:
    if data[4:8] == b"ftyp":
        return data[8:12] in _HEIF_BRANDS
    return data.startswith(_SIGNATURES) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")


def _webp_canvas(data: bytes) -> tuple[int, int]:
    """Canvas of an extended WebP, (0, 0) of anything else: libwebp allocates it while reading the header."""
    if data[:4] != b"RIFF" or data[8:16] != b"WEBPVP8X" or len(data) < 30:
        return 0, 0
    return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")


def _check_pixels(size: tuple[int, int], limits: ImageLimits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        raise TooManyPixels(f"the image is {width}x{height}; at most {limits.max_pixels} pixels are accepted")


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Any Pillow mode -> uint8 (H, W, 3)."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        image = Image.fromarray(_stretch(np.asarray(image)))
    elif image.mode in ("LAB", "HSV"):
        raise UnsupportedFormat(f"colour space {image.mode} is not supported; convert the photo to RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    # Pillow would convert RGB to RGB by a copy, milliseconds for a photo.
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _stretch(values: NDArray[np.int32] | NDArray[np.float32]) -> NDArray[np.uint8]:
    """32-bit grey says nothing of its range: its darkest value becomes 0, its brightest 255."""
    grey = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(grey.min()), float(grey.max())
    return ((grey - low) * (255.0 / max(high - low, 1e-6))).astype(np.uint8)
