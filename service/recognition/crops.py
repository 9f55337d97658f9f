"""Aligned crops as they are kept: lossless, because an embedding made again from one must be the same."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def encode_crop(crop: NDArray[np.uint8]) -> bytes:
    """Lossless WebP of an aligned face, uint8 (112, 112, 3) RGB."""
    data = BytesIO()
    # Method 2 takes 3 ms; the most thorough takes 26 to save a tenth of the bytes.
    Image.fromarray(crop).save(data, "WEBP", lossless=True, method=2)
    return data.getvalue()


def decode_crop(data: bytes) -> NDArray[np.uint8]:
    """The crop, uint8 (112, 112, 3) RGB, that `encode_crop` wrote."""
    with Image.open(BytesIO(data), formats=["WEBP"]) as image:
        return np.asarray(image.convert("RGB"))
