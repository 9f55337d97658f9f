"""Which images resemble each other: all pairs of unit vectors in blocks of a matrix product."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_BLOCK = 2048


@dataclass(frozen=True)
class Resemblances:
    """count: pairs at or above the threshold. The nearest of them, best first: first, second (K,), cosine (K,)."""

    count: int
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    cosine: NDArray[np.float32]


def resembling(vectors: NDArray[np.float32], threshold: float, keep: int) -> Resemblances:
    """Pairs i < j of (N, D) unit vectors with cosine >= threshold; N^2 D operations, memory for one block."""
    count = 0
    first, second, cosine = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    for row, column in _blocks(len(vectors)):
        product = vectors[row : row + _BLOCK] @ vectors[column : column + _BLOCK].T
        if row == column:
            product[np.tril_indices(len(product))] = -2  # each pair once, and nobody with itself
        i, j = np.nonzero(product >= threshold)
        count += len(i)
        first, second = np.concatenate([first, i + row]), np.concatenate([second, j + column])
        cosine = np.concatenate([cosine, product[i, j]])
        if len(cosine) > keep:
            best = np.lexsort((second, first, -cosine))[:keep]
            first, second, cosine = first[best], second[best], cosine[best]
    order = np.lexsort((second, first, -cosine))
    return Resemblances(count, first[order], second[order], cosine[order])


def _blocks(count: int) -> Iterator[tuple[int, int]]:
    for row in range(0, count, _BLOCK):
        for column in range(row, count, _BLOCK):
            yield row, column


def perceptual_hash(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Difference hash: whether each of 17 x 16 grey cells is darker than its right neighbour.

    (H, W, 3) uint8 -> (256,) float32 of +-1/16, a unit vector; two hashes with h different bits have cosine 1 - h/128.
    """
    cells = np.asarray(Image.fromarray(image).convert("L").resize((17, 16), Image.Resampling.BOX), dtype=np.int16)
    return np.where((cells[:, 1:] > cells[:, :-1]).reshape(-1), 1 / 16, -1 / 16).astype(np.float32)
