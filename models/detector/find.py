"""Finding the faces of a whole photo: fit it to the network, run, decode, map back."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.detector.decode import STRIDES, decode
from models.faces import Face, Forward

SCORE_THRESHOLD = 0.71  # of a face after the further looks (models.detector.refine)
MAX_SIDE = 640
MOST_ENLARGED = 2.0  # a small photo is enlarged, so that its small faces span enough cells


def find_faces(
    image: NDArray[np.uint8],
    forward: Forward,
    *,
    score_threshold: float = SCORE_THRESHOLD,
    max_side: int = MAX_SIDE,
    max_faces: int | None = None,
) -> list[Face]:
    """Faces of an (H, W, 3) uint8 RGB image, best score first, in its pixels.

    The longer side is brought to `max_side` (shrunk with antialiasing, or enlarged at most twofold),
    then the image is padded to multiples of 32. Boxes are clipped to the image; at most `max_faces`
    are returned. Raises ValueError for an image of another shape or dtype.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"expected an (H, W, 3) uint8 image, got {image.shape} {image.dtype}")
    height, width = image.shape[:2]
    fitted = fitted_size(width, height, max_side)
    faces = decode(forward(network_input(image, fitted)), score_threshold)
    back = np.array([width / fitted[0], height / fitted[1]], np.float32)
    return [_in_photo(face, back, width, height) for face in faces[:max_faces]]


def fitted_size(width: int, height: int, max_side: int = MAX_SIDE) -> tuple[int, int]:
    """Width and height at which faces are looked for in a photo of this size, in pixels."""
    scale = min(max_side / max(height, width), MOST_ENLARGED)
    return max(1, round(width * scale)), max(1, round(height * scale))


def network_input(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
    """The (H, W, 3) uint8 image at `size` (width, height), padded with grey to multiples of 32.

    Returns (1, 3, H', W') float32 in [-1, 1].
    """
    shrink = max(image.shape[1] / size[0], image.shape[0] / size[1])
    # `reducing_gap` lets Pillow average whole pixels first and filter what is left: several times less work.
    resized = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, reducing_gap=1.0 if shrink >= 2 else None)
    cell = STRIDES[-1]
    padded_width, padded_height = (math.ceil(side / cell) * cell for side in size)
    planes = np.zeros((1, 3, padded_height, padded_width), np.float32)
    shown = planes[0, :, : size[1], : size[0]]
    for plane, band in zip(shown, resized.split(), strict=True):
        plane[:] = band  # a colour at a time and in place: nothing of the size of the photo is made besides
    shown -= 127.5
    shown /= 127.5
    return planes


def _in_photo(face: Face, back: NDArray[np.float32], width: int, height: int) -> Face:
    """The face in the photo's pixels, its box clipped to the photo."""
    x, y, box_width, box_height = face.box
    left, right = np.clip([x * back[0], (x + box_width) * back[0]], 0, width)
    top, bottom = np.clip([y * back[1], (y + box_height) * back[1]], 0, height)
    box = (float(left), float(top), float(right - left), float(bottom - top))
    return Face(box, face.landmarks * back, face.score)
