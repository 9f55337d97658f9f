"""Five-point alignment: the similarity transform that takes a face's landmarks to a fixed template."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

TEMPLATE_NAME = "five-point-112"
SIZE = 112
TEMPLATE: NDArray[np.float32] = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]],
    dtype=np.float32,
)
"""(5, 2) pixels in a 112x112 crop: eyes, nose, mouth corners, image-left first (the InsightFace template)."""


class DegenerateLandmarks(ValueError):
    """The landmarks coincide or are not finite, so they fix no similarity transform."""


def similarity(landmarks: ArrayLike, template: ArrayLike = TEMPLATE) -> NDArray[np.float64]:
    """Least-squares similarity from `landmarks` to `template`, both (N, 2): a (2, 3) float64 matrix.

    Rotation, uniform scale and translation, never a reflection (Umeyama, PAMI 1991, eq. 40-43).
    Raises DegenerateLandmarks.
    """
    source = np.asarray(landmarks, dtype=np.float64)
    target = np.asarray(template, dtype=np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 2:
        raise DegenerateLandmarks(f"landmarks have shape {source.shape}, the template {target.shape}")
    if not np.isfinite(source).all():
        raise DegenerateLandmarks("landmarks are not finite numbers")
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    source_centred, target_centred = source - source_mean, target - target_mean
    variance = (source_centred**2).sum() / len(source)
    if variance < 1e-6:
        raise DegenerateLandmarks("landmarks coincide")
    u, d, vt = np.linalg.svd(target_centred.T @ source_centred / len(source))
    signs = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt)) or 1.0])
    rotation = u @ np.diag(signs) @ vt
    scale = (d * signs).sum() / variance
    if scale < 1e-9:
        raise DegenerateLandmarks("landmarks fix no orientation")
    matrix = np.empty((2, 3))
    matrix[:, :2] = scale * rotation
    matrix[:, 2] = target_mean - scale * rotation @ source_mean
    return matrix


def align(image: NDArray[np.uint8], landmarks: ArrayLike, size: int = SIZE) -> NDArray[np.uint8]:
    """Crop a face to the template: (H, W, 3) uint8 RGB -> (size, size, 3) uint8, black beyond the photo.

    A face larger than the crop is first shrunk by box averaging, since sampling it point by point
    would alias. Raises DegenerateLandmarks.
    """
    matrix = similarity(landmarks, TEMPLATE * (size / SIZE))
    inverse = _invert(matrix)
    corners = np.array([[0, 0, 1], [size, 0, 1], [0, size, 1], [size, size, 1]]) @ inverse.T
    height, width = image.shape[:2]
    left, top = np.floor(corners.min(axis=0)).astype(int) - 2
    right, bottom = np.ceil(corners.max(axis=0)).astype(int) + 3
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    if right <= left or bottom <= top:
        return np.zeros((size, size, 3), dtype=np.uint8)
    region = Image.fromarray(np.ascontiguousarray(image[top:bottom, left:right]))
    shrink = max(int(math.sqrt(abs(np.linalg.det(inverse[:, :2])))), 1)
    if shrink > 1:
        region = region.reduce(shrink)
    # Landmarks and template have pixel centres at whole numbers; Pillow has pixel corners there.
    inverse[:, 2] += 0.5 - inverse[:, :2] @ (0.5, 0.5) - (left, top)
    inverse /= shrink
    crop = region.transform((size, size), Image.Transform.AFFINE, tuple(inverse.ravel()), Image.Resampling.BILINEAR)
    return np.asarray(crop)


def _invert(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    linear = np.linalg.inv(matrix[:, :2])
    return np.hstack([linear, -linear @ matrix[:, 2:]])
