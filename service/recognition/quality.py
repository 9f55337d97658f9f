"""How usable a found face is for recognition: four measurements, one number, and reasons in words.

The thresholds come from real photos (LFW at full, half, third and quarter size and under Gaussian blur; CFP
frontal and profile): each flags under 2% of ordinary LFW portraits. They judge the photo, not the person, so
sharpness is taken relative to the face's own contrast: a dark or evenly lit face is not a blurred one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.alignment import TEMPLATE, similarity
from models.faces import Face

Reason = Literal["small_face", "low_detection_score", "blurred", "extreme_pose", "low_quality"]


@dataclass(frozen=True)
class Scale:
    """A measurement's scale: grade 0 at `worst`, 1 at `best`; beyond `reason` a face is rejected for it."""

    worst: float
    reason: float
    best: float


SIZE: Final = Scale(worst=6.0, reason=10.0, best=30.0)
"""Pixels between the eyes, as if frontal. The crop wants 35; LFW has 41, its quarter 10."""
SHARPNESS: Final = Scale(worst=0.004, reason=0.010, best=0.060)
"""Variance of the Laplacian over the variance of the crop. LFW 0.10; blurred by 2 px 0.011, by 3 px 0.006."""
TURN: Final = Scale(worst=1.0, reason=0.45, best=0.20)
"""Nose offset in inter-ocular distances, about tan(yaw)/2. CFP frontal 0.03, profile 0.47; LFW < 0.35."""
SCORE: Final = Scale(worst=0.51, reason=0.74, best=0.88)
"""Detection score; below 0.71 nothing is reported. Portraits score 0.91 on the average, one in twenty below 0.85."""
LOW_QUALITY: Final = 0.15
"""A face with no single fault is still rejected when its mild faults together leave less than this."""


@dataclass(frozen=True)
class Measurements:
    """size: inter-ocular pixels as if frontal; sharpness, turn: see SHARPNESS, TURN; score in [0, 1]."""

    size: float
    sharpness: float
    turn: float
    score: float


@dataclass(frozen=True)
class Assessment:
    """quality in [0, 1]; reasons to reject the face for enrolment, none when it is good."""

    quality: float
    reasons: tuple[Reason, ...]


def measure(face: Face, crop: NDArray[np.uint8]) -> Measurements:
    """Measure a face (pixels of the whole photo) and its aligned crop, uint8 (112, 112, 3).

    Raises DegenerateLandmarks.
    """
    matrix = similarity(face.landmarks)
    magnification = math.sqrt(float(np.linalg.det(matrix[:, :2])))
    frontal_distance = float(np.linalg.norm(TEMPLATE[1] - TEMPLATE[0]))
    return Measurements(
        size=frontal_distance / magnification,
        sharpness=_sharpness(crop),
        turn=_turn(face.landmarks.astype(np.float64)),
        score=face.score,
    )


def assess(measured: Measurements) -> Assessment:
    """Weigh the measurements: quality is the product of four grades in [0, 1], reasons name the bad ones."""
    reasons: list[Reason] = []
    if measured.size < SIZE.reason:
        reasons.append("small_face")
    if measured.score < SCORE.reason:
        reasons.append("low_detection_score")
    if measured.sharpness < SHARPNESS.reason:
        reasons.append("blurred")
    if measured.turn > TURN.reason:
        reasons.append("extreme_pose")
    quality = (
        _grade(math.log(max(measured.size, 1e-9)), math.log(SIZE.worst), math.log(SIZE.best))
        * _grade(math.log(max(measured.sharpness, 1e-9)), math.log(SHARPNESS.worst), math.log(SHARPNESS.best))
        * _grade(measured.turn, TURN.worst, TURN.best)
        * _grade(measured.score, SCORE.worst, SCORE.best)
    )
    if quality < LOW_QUALITY and not reasons:
        reasons.append("low_quality")
    return Assessment(quality, tuple(reasons))


def _grade(value: float, worst: float, best: float) -> float:
    """Linear from 0 at `worst` to 1 at `best`, whichever is larger."""
    return min(1.0, max(0.0, (value - worst) / (best - worst)))


def _sharpness(crop: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian over the variance, on the grey inner face (no hair, no border)."""
    grey = crop[24:104, 24:88].astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    centre = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * centre
    # 10 grey levels squared: below that, variance is sensor noise and compression.
    return float(laplacian.var() / (grey.var() + 10.0))


def _turn(landmarks: NDArray[np.float64]) -> float:
    """How far the nose lies off the line from mid-eyes to mid-mouth, in inter-ocular distances."""
    left_eye, right_eye, nose, mouth_left, mouth_right = landmarks
    eyes, mouth = (left_eye + right_eye) / 2, (mouth_left + mouth_right) / 2
    axis = mouth - eyes
    length = float(np.linalg.norm(axis))
    distance = float(np.linalg.norm(right_eye - left_eye))
    if length < 1e-6 or distance < 1e-6:
        return math.inf
    offset = nose - eyes
    return abs(float(axis[0] * offset[1] - axis[1] * offset[0])) / length / distance
