"""One-to-one verification: accuracy by k folds as in LFW, and the pooled ROC.

Huang et al., "Labeled Faces in the Wild" (2007), restricted View 2 protocol: the threshold used on a
fold is chosen on all the others. A pair is declared the same person when its similarity is at least the
threshold. NaN stands for a pair in which a face was not found. In the accuracy such a pair is an error,
whichever kind it is; in the ROC it counts as rejected (ISO/IEC 19795-1: a failure to acquire raises the
false rejections and cannot be a false match).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FMR_POINTS = {"1e-2": 1e-2, "1e-3": 1e-3}


class ProtocolError(ValueError):
    """The pairs do not make up a verification protocol (one fold, or one kind of pair, only)."""


@dataclass(frozen=True)
class Roc:
    """Operating points, strictest first, from "nothing matches" to "everything matches".

    thresholds (T,): +inf, then each distinct similarity, falling (failed pairs are -inf).
    fmr, tar (T,): the share of impostor and of genuine pairs with a similarity >= the threshold.
    """

    thresholds: NDArray[np.float64]
    fmr: NDArray[np.float64]
    tar: NDArray[np.float64]

    def auc(self) -> float:
        """Area under the curve: P(genuine > impostor) + P(equal) / 2."""
        return float(np.trapezoid(self.tar, self.fmr))

    def eer(self) -> float:
        """The rate at which FMR = FNMR, interpolated linearly between the two points around it."""
        difference = self.fmr - (1.0 - self.tar)  # rises from -1 to 1
        after = int(np.argmax(difference >= 0))
        share = -difference[after - 1] / (difference[after] - difference[after - 1])
        return float(self.fmr[after - 1] + share * (self.fmr[after] - self.fmr[after - 1]))

    def tar_at(self, fmr: float) -> float:
        """Highest TAR among the points whose FMR is at most `fmr`; never interpolated."""
        return float(self.tar[self.fmr <= fmr].max())


@dataclass(frozen=True)
class Verification:
    """What a verification run measured. Rates lie in [0, 1]; fold_* have one entry a fold."""

    fold_accuracy: list[float]
    fold_threshold: list[float]
    auc: float
    eer: float
    tar_at_fmr: dict[str, float]
    pairs: int
    failed_pairs: int

    def summary(self) -> dict[str, Any]:
        """The measured figures as plain JSON types; the standard deviation is over folds (n, not n - 1)."""
        return {
            "accuracy_mean": float(np.mean(self.fold_accuracy)),
            "accuracy_std": float(np.std(self.fold_accuracy)),
            "auc": self.auc,
            "eer": self.eer,
            "tar_at_fmr": self.tar_at_fmr,
            "pairs": self.pairs,
            "failed_pairs": self.failed_pairs,
            "fold_accuracy": self.fold_accuracy,
            "fold_threshold": self.fold_threshold,
        }


def verify(similarity: ArrayLike, same: ArrayLike, fold: ArrayLike) -> Verification:
    """Run the protocol on P pairs: similarity (P,) float with NaN for failed, same (P,) bool, fold (P,) int.

    Raises ProtocolError unless there are two folds and both kinds of pair outside every fold.
    """
    scores, matched = np.asarray(similarity, dtype=np.float64), np.asarray(same, dtype=bool)
    folds = np.asarray(fold)
    curve = roc(scores, matched)
    accuracies, thresholds = [], []
    for held_out in np.unique(folds):
        inside = folds == held_out
        usable = ~inside & ~np.isnan(scores)
        threshold = best_threshold(scores[usable], matched[usable])
        accuracies.append(accuracy(scores[inside], matched[inside], threshold))
        thresholds.append(threshold)
    return Verification(
        fold_accuracy=accuracies,
        fold_threshold=thresholds,
        auc=curve.auc(),
        eer=curve.eer(),
        tar_at_fmr={name: curve.tar_at(fmr) for name, fmr in FMR_POINTS.items()},
        pairs=len(scores),
        failed_pairs=int(np.isnan(scores).sum()),
    )


def accuracy(similarity: NDArray[np.float64], same: NDArray[np.bool_], threshold: float) -> float:
    """Share of pairs decided rightly at `threshold`; a failed (NaN) pair is decided wrongly."""
    right = ((similarity >= threshold) == same) & ~np.isnan(similarity)
    return float(right.mean())


def best_threshold(similarity: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    """The threshold with the highest accuracy on these pairs.

    Candidates lie midway between neighbouring similarities, below them all and above them all. Of equally
    accurate ones the one in the widest gap wins (then the lowest), since it is the least sensitive.
    """
    if same.all() or not same.any():
        raise ProtocolError("a threshold needs scored pairs of the same and of different people outside each fold")
    values, position = np.unique(similarity, return_inverse=True)
    genuine = np.bincount(position[same], minlength=len(values))
    impostor = np.bincount(position[~same], minlength=len(values))
    # Candidate i accepts the values from i on: right are the genuine pairs there and the impostors before.
    right = (genuine.sum() - np.cumsum(np.r_[0, genuine])) + np.cumsum(np.r_[0, impostor])
    candidates = np.r_[values[0], (values[:-1] + values[1:]) / 2, np.nextafter(values[-1], np.inf)]
    gaps = np.r_[0.0, np.diff(values), 0.0]
    best = np.flatnonzero(right == right.max())
    return float(candidates[best[np.argmax(gaps[best])]])


def roc(similarity: ArrayLike, same: ArrayLike) -> Roc:
    """ROC over all pairs at once: similarity (P,), NaN for failed; same (P,) bool. Raises ProtocolError."""
    scores = np.asarray(similarity, dtype=np.float64)
    scores = np.where(np.isnan(scores), -np.inf, scores)
    matched = np.asarray(same, dtype=bool)
    if matched.all() or not matched.any():
        raise ProtocolError("verification needs pairs of the same and of different people")
    values, position = np.unique(-scores, return_inverse=True)
    genuine = np.cumsum(np.bincount(position[matched], minlength=len(values)))
    impostor = np.cumsum(np.bincount(position[~matched], minlength=len(values)))
    return Roc(
        thresholds=np.r_[np.inf, -values],
        fmr=np.r_[0.0, impostor / impostor[-1]],
        tar=np.r_[0.0, genuine / genuine[-1]],
    )
