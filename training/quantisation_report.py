"""What int8 costs and gains: the same images through the float32 graph and the int8 one, in one run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.detector.decode import overlaps
from models.detector.find import find_faces
from models.embedding import embed, normalise
from models.faces import Forward
from training.evaluation.embeddings import embed_images, read_aligned, read_photo, similarities
from training.evaluation.pairs import read_pairs
from training.evaluation.verification import verify

_SAME_FACE = 0.5  # IoU
_ROUNDS = 15


def measure_recogniser(float32: Forward, int8: Forward, flip_average: bool, crops: Sequence[Path]) -> dict[str, Any]:
    """Cosines between the two engines' embeddings of `crops`, and the time. Raises EvaluationError."""
    stacked = np.stack([read_aligned(path) for path in crops])
    parts = np.array_split(stacked, -(-len(stacked) // 16))
    first, second = (
        np.concatenate([embed(part, engine, flip_average) for part in parts]) for engine in (float32, int8)
    )
    cosines = np.einsum("nd,nd->n", first, second, dtype=np.float64)
    return {
        "cosine_mean": float(cosines.mean()),
        "cosine_min": float(cosines.min()),
        **time_both(float32, int8, normalise(stacked[:1])),
    }


def measure_detector(float32: Forward, int8: Forward, photos: Sequence[Path]) -> dict[str, Any]:
    """How many of float32's faces int8 finds too (IoU from 0.5), how many it adds, how far its landmarks are."""
    faces = found = added = 0
    shifts: list[float] = []
    fitted: list[NDArray[np.float32]] = []

    def remember(planes: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        fitted[:] = [planes]
        return float32(planes)

    for path in photos:
        photo = read_photo(path)
        expected, given = find_faces(photo, remember), find_faces(photo, int8)
        boxes = np.array([face.box for face in given], np.float32).reshape(-1, 4)
        matched: set[int] = set()
        for face in expected:
            shared = overlaps(np.array(face.box, np.float32), boxes)
            best = int(shared.argmax()) if len(shared) else -1
            if best >= 0 and shared[best] >= _SAME_FACE and best not in matched:
                matched.add(best)
                size = np.sqrt(face.box[2] * face.box[3])
                shifts.append(float(np.linalg.norm(face.landmarks - given[best].landmarks, axis=1).mean() / size))
        faces, found, added = faces + len(expected), found + len(matched), added + len(given) - len(matched)
    return {
        "faces": faces,
        "found_share": found / faces if faces else 0.0,
        "added": added,
        "landmark_shift": float(np.mean(shifts)) if shifts else None,
        **time_both(float32, int8, fitted[0]),
    }


def time_both(float32: Forward, int8: Forward, planes: NDArray[np.float32]) -> dict[str, Any]:
    """Milliseconds of both engines on one input, in turns; the best of 15, since others only ever add to it."""
    best = [np.inf, np.inf]
    for round_ in range(_ROUNDS + 1):
        for place, engine in enumerate((float32, int8)):
            started = time.perf_counter()
            engine(planes)
            elapsed = (time.perf_counter() - started) * 1e3
            if round_:  # the first run of an engine prepares it
                best[place] = min(best[place], elapsed)
    return {"milliseconds": {"float32": best[0], "int8": best[1]}, "time_ratio": best[1] / best[0]}


def measure_pairs(
    float32: Forward, int8: Forward, flip_average: bool, images: Path, file: Path, calibrated: Sequence[Path]
) -> dict[str, Any]:
    """Verification accuracy of both engines on pairs of `images`, and how many of those images calibrated int8.

    Raises EvaluationError, PairsError, ProtocolError.
    """
    pairs = read_pairs(images, file)
    known = {path.resolve() for path in calibrated}
    result: dict[str, Any] = {
        "pairs": len(pairs),
        "images": len(pairs.images),
        "images_calibrated_on": sum(path.resolve() in known for path in pairs.images),
    }
    for name, engine in (("float32", float32), ("int8", int8)):
        embedded = embed_images(pairs.images, read_aligned, partial(embed, forward=engine, flip_average=flip_average))
        outcome = verify(similarities(embedded, pairs), pairs.same, pairs.fold)
        result[name] = {"accuracy": float(np.mean(outcome.fold_accuracy)), "auc": float(outcome.auc)}
    result["accuracy_difference"] = result["int8"]["accuracy"] - result["float32"]["accuracy"]
    return result
