"""When two faces are the same person: thresholds that keep a promised error rate."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from models.calibration import Calibration, fpir_to_fmr
from service.gallery.errors import InvalidEmbedding, ThresholdUnknown


class ThresholdSource(StrEnum):
    """Who chose the threshold."""

    CALIBRATION = "calibration"
    REQUEST = "request"


@dataclass(frozen=True)
class Threshold:
    """The cosine from which on a comparison is a match, and what it promises.

    far: the error rate it keeps (FMR of a verification, FPIR of an identification), None when the caller
    named the cosine itself. extrapolated: the calibration's data do not reach this rate; a guess.
    """

    similarity: float
    far: float | None
    source: ThresholdSource
    extrapolated: bool


class Matcher:
    """Turns error rates into thresholds and cosines into probabilities, by the checkpoint's calibration."""

    def __init__(self, calibration: Calibration | None, default_far: float, default_fpir: float) -> None:
        self._calibration = calibration
        self._default_far = default_far
        self._default_fpir = default_fpir

    def verification(self, far: float | None = None, threshold: float | None = None) -> Threshold:
        """Threshold of a 1:1 comparison at false match rate `far` in (0, 1), or the caller's own.

        Without either: the default rate, or the strictest that the calibration supports if that is looser.
        Raises ThresholdUnknown without a calibration.
        """
        if threshold is not None:
            return Threshold(threshold, None, ThresholdSource.REQUEST, False)
        calibration = self._required()
        chosen = max(self._default_far, calibration.strictest_fmr) if far is None else far
        return self._at(calibration, chosen, chosen)

    def identification(self, subjects: int, far: float | None = None, threshold: float | None = None) -> Threshold:
        """Threshold of a search among `subjects` at false positive identification rate `far` in (0, 1).

        The rate of a single comparison must be the lower the more subjects there are, so the threshold
        tightens as the gallery grows. Raises ThresholdUnknown without a calibration.
        """
        if threshold is not None:
            return Threshold(threshold, None, ThresholdSource.REQUEST, False)
        chosen = self._default_fpir if far is None else far
        return self._at(self._required(), chosen, fpir_to_fmr(chosen, max(1, subjects)))

    def probability(self, similarity: float) -> float | None:
        """P(same person) in [0, 1] at the calibration's prior; None without a calibration."""
        return None if self._calibration is None else self._calibration.probability(similarity)

    def _required(self) -> Calibration:
        if self._calibration is None:
            raise ThresholdUnknown(
                "this checkpoint has no calibration, so no error rate can be promised: "
                "name a `threshold`, or calibrate it with `facemargin calibrate`"
            )
        return self._calibration

    def _at(self, calibration: Calibration, promised: float, fmr: float) -> Threshold:
        choice = calibration.threshold(fmr)
        return Threshold(choice.threshold, promised, ThresholdSource.CALIBRATION, choice.extrapolated)


def similarity(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Cosine in [-1, 1] of two unit vectors (D,)."""
    return float(np.clip(np.dot(first, second), -1.0, 1.0))


def unit_embedding(values: NDArray[np.float32], dimension: int) -> NDArray[np.float32]:
    """A caller's embedding as a unit vector float32 (D,).

    Raises InvalidEmbedding unless it has `dimension` finite numbers that are not all zero.
    """
    wide = np.asarray(values, np.float64)
    if wide.shape != (dimension,):
        raise InvalidEmbedding(f"an embedding of this model has {dimension} numbers, not {wide.size}")
    norm = float(np.linalg.norm(wide))
    if not np.isfinite(norm) or norm < 1e-6:
        raise InvalidEmbedding("an embedding has finite numbers that are not all zero")
    return np.asarray(wide / norm, np.float32)
