"""Measuring a face detector: average precision by face size, landmark error, false positives."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from models import checkpoint as checkpoints
from models.detector.decode import overlaps
from models.detector.find import MAX_SIDE, SCORE_THRESHOLD, find_faces
from models.detector.refine import SHARE, look_again
from models.faces import Face, Forward
from models.network import detector_forwards
from models.registry import UnknownArchitecture
from training.evaluation import machine
from training.evaluation.embeddings import EvaluationError, read_photo
from training.evaluation.peers import PeerError, Yunet
from training.evaluation.segmentation import confusion, face_mask, segmentation_figures
from training.evaluation.wider import WiderPhoto, read_wider, wider_average_precision

OVERLAP = 0.5
SMALLEST_FACES = (16, 32)  # pixels, the root of the box area
LOWEST_SCORE = 0.02  # where the precision-recall curve ends
_LOOKED_AT = 0.1  # by the search; looking at the many faces below would take minutes and move no figure
ERRORS = (checkpoints.CheckpointError, UnknownArchitecture, EvaluationError, PeerError)

Finder = Callable[[NDArray[np.uint8], float], list[Face]]
"""A detector: (H, W, 3) uint8 RGB and a score threshold in, faces best first out."""


@dataclass(frozen=True)
class Labels:
    """The labelled faces of one photo: boxes (N, 4) x, y, width, height; landmarks (N, 5, 2), NaN unknown."""

    image: str
    boxes: NDArray[np.float32]
    landmarks: NDArray[np.float32]


@dataclass(frozen=True)
class DetectionRun:
    """What a run measured: its JSON document, and (recall, precision) of each model for plots."""

    document: dict[str, Any]
    curves: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]


def evaluate_detection(
    images: Path,
    *,
    checkpoint: Path,
    labels: Path | None = None,
    wider: Path | None = None,
    peers: Sequence[Path] = (),
    last: int | None = None,
    max_side: int = MAX_SIDE,
) -> DetectionRun:
    """Measure a detector, and YuNet peers next to it, on the same photos.

    labels: JSON with one row a face, its "image" a path below `images`. wider: the folder of WIDER FACE's
    .mat files instead, which adds its "wider" easy, medium and hard. last: only so many photos, the last
    ones by name (what training holds out). max_side: pixels that our detector brings the longer side to.
    Raises one of ERRORS.
    """
    if (labels is None) == (wider is None):
        raise EvaluationError("detection is measured on a label file or on WIDER FACE's .mat files: give one of them")
    official = read_wider(wider) if wider is not None else []
    photos = read_labels(labels) if labels is not None else [wider_labels(photo) for photo in official]
    photos, official = photos[-last if last else 0 :], official[-last if last else 0 :]
    loaded = checkpoints.read(checkpoint)
    if loaded.metadata.task != "detection":
        raise EvaluationError(f"{checkpoint}: not a detector (task {loaded.metadata.task})")
    own = partial(find_looked_at, *detector_forwards(loaded), max_side)
    finders = {loaded.model_id: own} | {peer.name: peer_finder(peer) for peer in map(Yunet, peers)}
    measured, curves = {}, {}
    for name, find in finders.items():
        found = find_all(images, photos, find)
        measured[name] = figures(found, photos)
        if official:
            measured[name]["wider"] = wider_average_precision([faces for faces, _ in found], official)
        pairs = [(faces, photo) for (faces, _), photo in zip(found, photos, strict=True)]
        curves[name] = precision_recall(pairs, SMALLEST_FACES[0])
    document = measured.pop(loaded.model_id)
    document |= {"model": loaded.model_id, "images": len(photos), "max_side": max_side, "machine": machine.describe()}
    if measured:
        document["peer"] = measured
    return DetectionRun(document, curves)


def wider_labels(photo: WiderPhoto) -> Labels:
    """All labels of a WIDER photo, whatever their difficulty."""
    unknown = np.full((len(photo.boxes), 5, 2), np.nan, np.float32)
    return Labels(photo.image, photo.boxes.astype(np.float32), unknown)


def find_looked_at(
    search: Forward, looks: Forward, max_side: int, image: NDArray[np.uint8], score_threshold: float
) -> list[Face]:
    """As the service finds and scores faces, down to scores that it would not report."""
    faces = find_faces(image, search, score_threshold=score_threshold, max_side=max_side)
    likely = sum(face.score >= _LOOKED_AT for face in faces)  # the best come first
    rest = [replace(face, score=(1 - SHARE) * face.score) for face in faces[likely:]]
    return sorted([*look_again(image, faces[:likely], looks), *rest], key=lambda face: face.score, reverse=True)


def peer_finder(peer: Yunet) -> Finder:
    """YuNet as a Finder, at the photo's own resolution up to 640 pixels, as it is meant to be used."""
    return lambda image, score: peer.find(image, score_threshold=score)


def read_labels(path: Path) -> list[Labels]:
    """Photos of a label file, sorted by name. Raises EvaluationError."""
    unknown = [[float("nan")] * 2] * 5
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    try:
        for row in json.loads(path.read_text()):
            rows[row["image"]].append(row)
        return [
            Labels(
                image,
                np.array([row["box"] for row in faces], np.float32).reshape(-1, 4),
                np.array([row.get("landmarks", unknown) for row in faces], np.float32).reshape(-1, 5, 2),
            )
            for image, faces in sorted(rows.items())
        ]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise EvaluationError(
            f"{path}: not a list of faces with 'image', 'box' and perhaps 'landmarks' ({error!r})"
        ) from error


Found = tuple[list[Face], NDArray[np.int64]]
"""The faces of one photo at LOWEST_SCORE, and the confusion of its face mask at the default threshold."""


def measure(images: Path, photos: Sequence[Labels], find: Finder) -> dict[str, Any]:
    """Find the faces of the photos and measure them: see `figures`."""
    return figures(find_all(images, photos, find), photos)


def find_all(images: Path, photos: Sequence[Labels], find: Finder) -> list[Found]:
    """Run a detector over photos, one at a time: only faces and counts are kept."""
    found = []
    for photo in tqdm(photos, desc="detecting", unit="image", disable=None):
        pixels = read_photo(images / photo.image)
        faces = find(pixels, LOWEST_SCORE)
        confident = [face.box for face in faces if face.score >= SCORE_THRESHOLD]
        masks = [face_mask(boxes, *pixels.shape[:2]) for boxes in (photo.boxes, confident)]
        found.append((faces, confusion(*masks)))
    return found


def figures(found: Sequence[Found], photos: Sequence[Labels]) -> dict[str, Any]:
    """ap50 by smallest face; median landmark_error in inter-ocular distances (None without landmarks);
    faces: labelled, of at least the smallest size; false_positives_per_image and segmentation (pa, mpa,
    miou, fwiou of the face mask) at the default threshold."""
    paired = [(faces, photo) for (faces, _), photo in zip(found, photos, strict=True)]
    errors = [error for faces, photo in paired for error in landmark_errors(faces, photo)]
    wrong = sum(false_positives(faces, photo, SMALLEST_FACES[0]) for faces, photo in paired)
    return {
        "ap50": {str(least): average_precision(paired, least) for least in SMALLEST_FACES},
        "landmark_error": float(np.median(errors)) if errors else None,
        "faces": int(sum((sides(photo.boxes) >= SMALLEST_FACES[0]).sum() for photo in photos)),
        "false_positives_per_image": wrong / max(len(photos), 1),
        "segmentation": segmentation_figures(sum((counts for _, counts in found), np.zeros((2, 2), np.int64))),
    }


def sides(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 4) -> (N,): the root of the area, a size that does not depend on the aspect."""
    side: NDArray[np.float32] = np.sqrt(boxes[:, 2] * boxes[:, 3])
    return side


def average_precision(paired: Sequence[tuple[Sequence[Face], Labels]], least: float) -> float:
    """Area under `precision_recall`; 0 where no face is wanted or found."""
    recall, precision = precision_recall(paired, least)
    return float((precision * np.diff(recall, prepend=0.0)).sum())


def precision_recall(
    paired: Sequence[tuple[Sequence[Face], Labels]], least: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Recall and precision (made monotone) at each counted detection, best score first, at IoU 0.5.

    Faces smaller than `least` are neither wanted nor wrong: a detection on one does not count. One that
    fits no label at all is wrong, however small it is. Both are empty where no face is wanted or found.
    """
    scores: list[float] = []
    correct: list[bool] = []
    wanted = 0
    for faces, photo in paired:
        large = sides(photo.boxes) >= least
        wanted += int(large.sum())
        for face, label in zip(faces, assign(faces, photo.boxes, large), strict=True):
            if label is None or large[label]:
                scores.append(face.score)
                correct.append(label is not None)
    if not wanted:
        return np.zeros(0), np.zeros(0)
    hits = np.cumsum(np.array(correct, bool)[np.argsort(-np.array(scores), kind="stable")])
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    return hits / wanted, precision


def assign(faces: Sequence[Face], boxes: NDArray[np.float32], wanted: NDArray[np.bool_]) -> list[int | None]:
    """The label of each face (best first), or None: its best free one with IoU >= 0.5, wanted ones first.

    A label is taken by one face only; an unwanted one may be shared, since it counts for nothing.
    """
    free = np.ones(len(boxes), bool)
    labels: list[int | None] = []
    for face in faces:
        overlap = overlaps(np.asarray(face.box, np.float32), boxes) * free
        fits = overlap >= OVERLAP
        candidates = np.flatnonzero(fits & wanted) if (fits & wanted).any() else np.flatnonzero(fits)
        if len(candidates):
            label = int(candidates[overlap[candidates].argmax()])
            free[label] = not wanted[label]
            labels.append(label)
        else:
            labels.append(None)
    return labels


def landmark_errors(faces: Sequence[Face], photo: Labels) -> list[float]:
    """Mean distance of the five points over the labelled inter-ocular distance, for each found face."""
    confident = [face for face in faces if face.score >= SCORE_THRESHOLD]
    everyone = np.ones(len(photo.boxes), bool)
    errors = []
    for face, label in zip(confident, assign(confident, photo.boxes, everyone), strict=True):
        if label is not None and np.isfinite(photo.landmarks[label]).all():
            truth = photo.landmarks[label]
            distances = np.linalg.norm(face.landmarks - truth, axis=1)
            errors.append(float(distances.mean() / max(np.linalg.norm(truth[0] - truth[1]), 1e-6)))
    return errors


def false_positives(faces: Sequence[Face], photo: Labels, least: float) -> int:
    """Detections at the default threshold, of at least `least` pixels, that fit no labelled face."""
    confident = [
        face for face in faces if face.score >= SCORE_THRESHOLD and np.sqrt(face.box[2] * face.box[3]) >= least
    ]
    return assign(confident, photo.boxes, np.ones(len(photo.boxes), bool)).count(None)
