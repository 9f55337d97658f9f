"""WIDER FACE's own measure: average precision on its easy, medium and hard faces (Yang et al., CVPR 2016).

Follows the official evaluation, peculiarities included, so that figures compare with published ones:
scores are stretched to [0, 1] over the whole set; IoU counts a box's last pixel as inside it (+ 1) and must
reach 0.5; a detection goes to the label that it overlaps most, which if it is not of the difficulty makes
the detection uncounted (and the label uncounted too), if it is already found makes the detection wrong;
photos without labels or detections count neither way; precision and recall are read at 1000 thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.faces import Face
from training.evaluation.embeddings import EvaluationError
from training.evaluation.mat_files import read_mat

DIFFICULTIES = ("easy", "medium", "hard")
THRESHOLDS = 1000
OVERLAP = 0.5


@dataclass(frozen=True)
class WiderPhoto:
    """One photo of the set. image: its path below the images' folder, EVENT/NAME.jpg.

    boxes: (N, 4) float64 x, y, width, height of all labels. wanted: (N,) bool for each difficulty.
    """

    image: str
    boxes: NDArray[np.float64]
    wanted: dict[str, NDArray[np.bool_]]


def read_wider(folder: Path) -> list[WiderPhoto]:
    """Photos of wider_face_val.mat, with the faces that wider_{easy,medium,hard}_val.mat count.

    Raises EvaluationError for a file that is missing or holds something else.
    """
    labels = read_mat(folder / "wider_face_val.mat")
    counted = {name: read_mat(folder / f"wider_{name}_val.mat") for name in DIFFICULTIES}
    photos = []
    try:
        for event, name in enumerate(labels["event_list"][:, 0]):
            for number, file in enumerate(labels["file_list"][event, 0][:, 0]):
                boxes = np.asarray(labels["face_bbx_list"][event, 0][number, 0], np.float64).reshape(-1, 4)
                wanted = {}
                for difficulty, lists in counted.items():
                    chosen = np.asarray(lists["gt_list"][event, 0][number, 0], np.int64).ravel()
                    wanted[difficulty] = np.zeros(len(boxes), bool)
                    wanted[difficulty][chosen - 1] = True  # MATLAB counts from 1
                photos.append(WiderPhoto(f"{name.item()}/{file.item()}.jpg", boxes, wanted))
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise EvaluationError(f"{folder}: not the label files of WIDER FACE's validation set ({error!r})") from error
    if not photos:
        raise EvaluationError(f"{folder}: wider_face_val.mat lists no photo")
    return photos


def wider_average_precision(found: Sequence[Sequence[Face]], photos: Sequence[WiderPhoto]) -> dict[str, float]:
    """Average precision by difficulty; found: the faces of each photo, at a low score threshold, any order."""
    scores = [face.score for faces in found for face in faces]
    lowest, highest = (min(scores), max(scores)) if scores else (0.0, 1.0)
    spread = highest - lowest or 1.0
    ordered = [sorted(faces, key=lambda face: -face.score) for faces in found]
    boxes = [np.array([face.box for face in faces], np.float64).reshape(-1, 4) for faces in ordered]
    stretched = [(np.array([face.score for face in faces]) - lowest) / spread for faces in ordered]
    figures = {}
    for difficulty in DIFFICULTIES:
        counts = np.zeros((THRESHOLDS, 2), np.int64)
        wanted = 0
        for detected, score, photo in zip(boxes, stretched, photos, strict=True):
            wanted += int(photo.wanted[difficulty].sum())
            if len(photo.boxes) and len(detected):
                counts += _at_thresholds(score, *_match(detected, photo.boxes, photo.wanted[difficulty]))
        figures[difficulty] = _area(counts, wanted)
    return figures


def _match(
    detected: NDArray[np.float64], labels: NDArray[np.float64], wanted: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """After each detection, best first: how many of them count, and how many wanted labels are found."""
    overlap = _overlaps(detected, labels)
    nearest = overlap.argmax(axis=1)
    counts = np.ones(len(detected), bool)
    hit = np.zeros(len(labels), bool)
    recalled = np.zeros(len(detected), np.int64)
    for number, label in enumerate(nearest):
        if overlap[number, label] >= OVERLAP:
            if wanted[label]:
                hit[label] = True
            else:
                counts[number] = False
        recalled[number] = hit.sum()
    return np.cumsum(counts), recalled


def _overlaps(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU (N, M) of boxes whose corners x + width and y + height are pixels inside them."""
    start = np.maximum(first[:, None, :2], second[None, :, :2])
    end = np.minimum((first[:, :2] + first[:, 2:])[:, None], (second[:, :2] + second[:, 2:])[None])
    shared = np.prod(np.clip(end - start + 1, 0, None), axis=-1)
    areas = [np.prod(boxes[:, 2:] + 1, axis=-1) for boxes in (first, second)]
    overlap: NDArray[np.float64] = shared / (areas[0][:, None] + areas[1][None] - shared)
    return overlap


def _at_thresholds(
    scores: NDArray[np.float64], counting: NDArray[np.int64], recalled: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(THRESHOLDS, 2): counting detections and found labels at scores of at least 0.999, 0.998, … 0."""
    thresholds = 1 - np.arange(1, THRESHOLDS + 1) / THRESHOLDS
    taken = np.searchsorted(-scores, -thresholds, side="right")
    return np.stack([np.r_[0, counting][taken], np.r_[0, recalled][taken]], axis=1)


def _area(counts: NDArray[np.int64], wanted: int) -> float:
    """Area under the curve of (THRESHOLDS, 2) counts, precision made monotone (VOC); 0 without wanted faces."""
    if not wanted:
        return 0.0
    precision = counts[:, 1] / np.maximum(counts[:, 0], 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(np.r_[0, counts[:, 1]]) / wanted * precision).sum())
