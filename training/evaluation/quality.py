"""The quality of faces: fitted on how alike a face is to others of its person, judged by what rejecting the worst does.

Fitting follows Terhörst et al. 2020 ("SER-FIQ") and Hernandez-Ortega et al. 2019 ("FaceQnet") in what it aims at:
recognisability by this very network, not beauty. The judge is the error-versus-reject curve of Grother & Tabassi 2007.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.embedding import unit
from models.quality import QualityModel, encode_weights
from training.evaluation.calibration import BINS, CalibrationError, PairHistogram, count_pairs

RIDGE = 100.0
REJECTED = (0.0, 0.05, 0.1, 0.2, 0.3)
_SCALE = (0.005, 0.75)  # the quantiles of the fitted faces at which quality is 0 and 1


@dataclass(frozen=True)
class RejectPoint:
    """What is left when the worst `rejected` of the images are turned away.

    fnmr: at the threshold that keeps the FMR among the pairs left; fnmr_fixed: at the threshold of all pairs.
    """

    rejected: float
    fnmr: float
    fnmr_fixed: float
    genuine_pairs: int


def fit_quality(raw: NDArray[np.float32], identities: NDArray[np.int64], data: str) -> QualityModel:
    """Ridge regression from raw embeddings (N, D) to the mean cosine with the other images of the identity.

    Raises CalibrationError when fewer images have another of their identity than an embedding has numbers.
    """
    several = np.bincount(identities)[identities] > 1
    if several.sum() <= raw.shape[1]:
        raise CalibrationError(
            f"{data}: {int(several.sum())} images with another of their person, more than {raw.shape[1]} are needed"
        )
    vectors, people = raw[several].astype(np.float64), identities[several]
    target = likeness(vectors, people)
    mean = vectors.mean(axis=0)
    centred = vectors - mean
    gram = centred.T @ centred + RIDGE * np.eye(centred.shape[1])
    weights = np.linalg.solve(gram, centred.T @ (target - target.mean()))
    bias = float(target.mean() - mean @ weights)
    worst, best = np.quantile(vectors @ weights + bias, _SCALE)
    return QualityModel(weights=encode_weights(weights), bias=bias, worst=float(worst), best=float(best), data=data)


def likeness(vectors: NDArray[np.float64], identities: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean cosine, (N,), of each embedding with the other ones of its identity, of which there must be some."""
    units = unit(vectors.astype(np.float32)).astype(np.float64)
    sums = np.zeros((int(identities.max()) + 1, units.shape[1]))
    np.add.at(sums, identities, units)
    others = np.bincount(identities)[identities] - 1
    found: NDArray[np.float64] = np.einsum("nd,nd->n", units, sums[identities] - units) / others
    return found


def error_versus_reject(
    vectors: NDArray[np.float32],
    identities: NDArray[np.int64],
    quality: NDArray[np.float32],
    fmr: float,
    rejected: Sequence[float] = REJECTED,
) -> list[RejectPoint]:
    """The curve over all pairs of unit embeddings (N, D) with qualities (N,). Raises CalibrationError."""
    order = np.argsort(quality, kind="stable")
    points: list[RejectPoint] = []
    fixed: int | None = None
    for share in rejected:
        kept = order[round(share * len(order)) :]
        pairs = count_pairs(vectors[kept], identities[kept])
        edge = _edge(pairs, fmr)
        fixed = edge if fixed is None else fixed
        total = int(pairs.genuine.sum())
        if total == 0:
            raise CalibrationError(f"no pair of one person is left without the worst {share:.0%}")
        below, below_fixed = (float(pairs.genuine[:bound].sum() / total) for bound in (edge, fixed))
        points.append(RejectPoint(share, below, below_fixed, total))
    return points


def _edge(pairs: PairHistogram, fmr: float) -> int:
    """The first bin from which on no more than the share `fmr` of the impostor pairs lies."""
    accepted = np.r_[np.cumsum(pairs.impostor[::-1])[::-1], 0]
    return int(np.argmax(accepted <= fmr * pairs.impostor.sum())) if pairs.impostor.any() else BINS


def describe(points: Sequence[RejectPoint]) -> list[dict[str, Any]]:
    """The curve as a document, each point with its FNMR over that of the first."""
    first = points[0]
    return [
        {
            "rejected": point.rejected,
            "fnmr": point.fnmr,
            "of_all": point.fnmr / first.fnmr if first.fnmr else None,
            "fnmr_at_first_threshold": point.fnmr_fixed,
            "genuine_pairs": point.genuine_pairs,
        }
        for point in points
    ]
