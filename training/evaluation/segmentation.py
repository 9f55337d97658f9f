"""The detector as a segmentation of the photo into face and background.

Both masks are drawn on a grid of 8x8-pixel cells of the photo, the cells of the detector's finest heat
map. A cell is face when its centre lies within the ellipse that a box circumscribes, for any of the boxes:
labelled ones for the truth, decoded ones for the prediction. Figures of Long et al. (CVPR 2015), with n_ij
cells of class i called j, t_i = sum_j n_ij, over both classes and all photos together:

    PA     sum_i n_ii / sum_i t_i
    MPA    mean_i n_ii / t_i
    MIoU   mean_i n_ii / (t_i + sum_j n_ji - n_ii)
    FWIoU  sum_i t_i / sum_k t_k  n_ii / (t_i + sum_j n_ji - n_ii)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.detector.decode import STRIDES

CELL = STRIDES[0]


def face_mask(boxes: ArrayLike, height: int, width: int) -> NDArray[np.bool_]:
    """Cells of a photo that faces cover: boxes (N, 4) x, y, width, height -> (ceil(H/8), ceil(W/8)) bool."""
    rows, columns = -(-height // CELL), -(-width // CELL)
    across = (np.arange(columns) + 0.5) * CELL
    down = (np.arange(rows) + 0.5) * CELL
    mask = np.zeros((rows, columns), dtype=bool)
    for x, y, box_width, box_height in np.asarray(boxes, np.float64).reshape(-1, 4):
        if box_width > 0 and box_height > 0:
            horizontal = (across - x - box_width / 2) / (box_width / 2)
            vertical = (down - y - box_height / 2) / (box_height / 2)
            mask |= vertical[:, None] ** 2 + horizontal[None, :] ** 2 <= 1
    return mask


def confusion(truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(2, 2) int64 counts of cells: row the true class, column the predicted one; 0 background, 1 face."""
    counts = np.bincount((2 * truth + predicted).ravel(), minlength=4).reshape(2, 2)
    return counts.astype(np.int64)


def segmentation_figures(counts: NDArray[np.int64]) -> dict[str, float]:
    """pa, mpa, miou and fwiou of a (C, C) confusion; a class that neither mask holds is left out."""
    right = np.diag(counts).astype(np.float64)
    true, called = counts.sum(axis=1), counts.sum(axis=0)
    union = true + called - right
    present, labelled = union > 0, true > 0
    overlap = np.where(present, right / np.maximum(union, 1), 0)
    total = max(int(true.sum()), 1)
    return {
        "pa": float(right.sum() / total),
        "mpa": float((right[labelled] / true[labelled]).mean()) if labelled.any() else 0.0,
        "miou": float(overlap[present].mean()) if present.any() else 0.0,
        "fwiou": float((true * overlap).sum() / total),
    }
