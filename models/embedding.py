"""From aligned crops to unit embeddings, under any engine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.faces import Forward


def normalise(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, H, W, 3) uint8 RGB -> (N, 3, H, W) float32 in [-1, 1]: (x - 127.5) / 127.5."""
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)
    planes -= 127.5
    planes /= 127.5
    return planes


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale each row of (N, D) to length one; a zero row stays zero rather than becoming NaN."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = vectors / np.maximum(lengths, 1e-12)
    return scaled


def embed(crops: NDArray[np.uint8], forward: Forward, flip_average: bool) -> NDArray[np.float32]:
    """Aligned crops (N, 112, 112, 3) uint8 RGB -> embeddings (N, D) float32 of unit length."""
    return unit(embed_raw(crops, forward, flip_average))


def embed_raw(crops: NDArray[np.uint8], forward: Forward, flip_average: bool) -> NDArray[np.float32]:
    """Aligned crops (N, 112, 112, 3) uint8 RGB -> embeddings (N, D) float32 as long as the network made them.

    With `flip_average` those of a crop and of its mirror image are averaged, as the checkpoint asks: the two views
    share one embedding. They share a batch too, which takes less time than two. `models.quality` reads from the length,
    among others.
    """
    planes = normalise(crops)
    if flip_average:
        planes = np.concatenate([planes, planes[:, :, :, ::-1]])
    (raw,) = forward(planes)
    averaged: NDArray[np.float32] = (raw[: len(crops)] + raw[len(crops) :]) * np.float32(0.5) if flip_average else raw
    return averaged
