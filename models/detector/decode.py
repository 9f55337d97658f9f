"""From maps to faces: peaks of the heat map, then the box and the landmarks regressed at each peak."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.faces import Face

STRIDES = (8, 16, 32)
CHANNELS = 15  # heat logit, 2 centre offsets, 2 log sizes, 5 x 2 landmark offsets
UNIT = 4.0  # sizes are told in units of this many strides, so that they are near 1
VOTE_OVERLAP = 0.6  # IoU from which the cells around a peak speak of the peak's face
_AROUND = np.mgrid[-1:2, -1:2].reshape(2, 9)  # row and column offsets of a 3x3 neighbourhood
_MIDDLE = 4
MAX_LOG_SIZE = 4.0  # exp(4) * 4 * 32 px is beyond any input; keeps damaged maps finite


def decode(outputs: Sequence[NDArray[np.float32]], score_threshold: float, overlap_limit: float = 0.45) -> list[Face]:
    """Faces of one image, best first, in pixels of the network's input.

    outputs: one (1, 15, H/s, W/s) float32 map for each stride s of 8, 16, 32. The cell (c, r) says:
    score sigmoid(heat), centre ((c, r) + 1/2 + offset) s, size 4 s exp(log size), landmarks
    ((c, r) + 1/2) s + offset size. Only cells that are the maximum of their 3x3 neighbourhood speak
    (CenterNet, Zhou et al. 2019); the cells around it that tell much the same box vote on box and
    landmarks, weighted by their scores, since each is a guess of its own. A face between two scales
    peaks on both, so of two boxes with IoU above `overlap_limit` the weaker is dropped.
    """
    levels = [_peaks(level[0], stride, score_threshold) for level, stride in zip(outputs, STRIDES, strict=True)]
    scores, boxes, landmarks = (np.concatenate(parts) for parts in zip(*levels, strict=True))
    return [
        Face(box=tuple(boxes[i].tolist()), landmarks=landmarks[i], score=float(scores[i]))
        for i in distinct(boxes, scores, overlap_limit)
    ]


def _peaks(
    maps: NDArray[np.float32], stride: int, score_threshold: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """One level (15, H, W) -> scores (N,), boxes (N, 4) as x, y, width, height, landmarks (N, 5, 2)."""
    heat = maps[0]
    # Thresholding the logit spares a sigmoid over the whole map.
    lowest = np.log(score_threshold / (1 - score_threshold)) if score_threshold > 0 else -np.inf
    if heat.max() < lowest:  # as in most levels of most photos
        return np.zeros(0, np.float32), np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32)
    rows, columns = np.nonzero((heat >= lowest) & (heat >= _highest_around(heat)))
    scores, boxes, landmarks = _told(maps, rows[:, None] + _AROUND[0], columns[:, None] + _AROUND[1], stride)
    weights = scores * (overlaps(boxes[:, _MIDDLE, None], boxes) >= VOTE_OVERLAP)
    weights /= weights.sum(axis=1, keepdims=True)
    return (
        scores[:, _MIDDLE],
        np.einsum("nk,nkc->nc", weights, boxes),
        np.einsum("nk,nkpc->npc", weights, landmarks),
    )


def _told(
    maps: NDArray[np.float32], rows: NDArray[np.intp], columns: NDArray[np.intp], stride: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """What cells (N, K) say: scores (N, K), boxes (N, K, 4), landmarks (N, K, 5, 2).

    Places beyond the map repeat its border, with score 0.
    """
    inside = (rows >= 0) & (rows < maps.shape[1]) & (columns >= 0) & (columns < maps.shape[2])
    rows, columns = rows.clip(0, maps.shape[1] - 1), columns.clip(0, maps.shape[2] - 1)
    told = np.moveaxis(maps[:, rows, columns], 0, -1)
    scores = inside / (1 + np.exp(-told[..., 0]))
    cells = np.stack([columns, rows], axis=-1).astype(np.float32) + 0.5
    sizes = UNIT * stride * np.exp(np.clip(told[..., 3:5], -MAX_LOG_SIZE, MAX_LOG_SIZE))
    centres = (cells + told[..., 1:3]) * stride
    landmarks = cells[..., None, :] * stride + told[..., 5:].reshape(*rows.shape, 5, 2) * sizes[..., None, :]
    boxes = np.concatenate([centres - sizes / 2, sizes], axis=-1)
    return scores.astype(np.float32), boxes.astype(np.float32), landmarks.astype(np.float32)


def _highest_around(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W) -> the maximum of each 3x3 neighbourhood, by two passes of three."""
    padded = np.pad(heat, 1, constant_values=-np.inf)
    across = np.maximum(np.maximum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
    highest: NDArray[np.float32] = np.maximum(np.maximum(across[:-2], across[1:-1]), across[2:])
    return highest


def distinct(boxes: NDArray[np.float32], scores: NDArray[np.float32], overlap_limit: float) -> list[int]:
    """Indices of the boxes (N, 4) to keep, best first: none overlaps a better one beyond the limit."""
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(int(best))
        order = rest[overlaps(boxes[best], boxes[rest]) <= overlap_limit]
    return kept


def overlaps(box: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of boxes (..., 4), x, y, width, height, that broadcast -> (...)."""
    start = np.maximum(box[..., :2], others[..., :2])
    end = np.minimum(box[..., :2] + box[..., 2:], others[..., :2] + others[..., 2:])
    shared = np.prod(np.clip(end - start, 0, None), axis=-1)
    union = np.prod(box[..., 2:], axis=-1) + np.prod(others[..., 2:], axis=-1) - shared
    overlap: NDArray[np.float32] = shared / np.maximum(union, 1e-9)
    return overlap
