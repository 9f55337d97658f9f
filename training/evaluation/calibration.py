"""Calibration: what FMR a cosine stands for, measured on all pairs of a folder of identities or on listed ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from models.calibration import Calibration, CalibrationRow
from training.evaluation.pairs import SUFFIXES

FMR_ROWS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
EXPECTED_ERRORS = 30
PRIOR = 0.5
BINS = 2**18  # cosines to 2/BINS = 7.6e-6, whatever the number of pairs


class CalibrationError(ValueError):
    """The images cannot calibrate this model; the message says what is missing."""


@dataclass(frozen=True)
class PairHistogram:
    """How many genuine and impostor pairs fall into each of BINS equal bins of cosine over [-1, 1]."""

    genuine: NDArray[np.int64]
    impostor: NDArray[np.int64]


def identity_images(folder: Path) -> tuple[list[Path], NDArray[np.int64]]:
    """Images of FOLDER/IDENTITY/NAME.(webp|jpg|png) and the identity number of each, (N,) int64.

    Raises CalibrationError for fewer than two identities.
    """
    if not folder.is_dir():
        raise CalibrationError(f"{folder}: no such folder")
    images = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in SUFFIXES)
    names, identities = np.unique([path.parent.name for path in images], return_inverse=True)
    if len(names) < 2:
        raise CalibrationError(f"{folder}: needs two or more IDENTITY/NAME.webp folders, holds {len(names)}")
    return images, identities.astype(np.int64)


def count_pairs(vectors: NDArray[np.float32], identities: NDArray[np.int64], *, block: int = 1024) -> PairHistogram:
    """Histogram all N(N-1)/2 pairs of (N, D) unit embeddings, a block of rows at a time."""
    genuine = np.zeros(BINS, dtype=np.int64)
    impostor = np.zeros(BINS, dtype=np.int64)
    for start in range(0, len(vectors), block):
        rows = slice(start, start + block)
        cosines = vectors[rows] @ vectors[start:].T
        bins = np.clip((cosines.astype(np.float64) + 1) * (BINS / 2), 0, BINS - 1).astype(np.int64)
        later = np.triu(np.ones(cosines.shape, dtype=bool), k=1)  # each pair once, nobody with themselves
        same = identities[rows, None] == identities[None, start:]
        genuine += np.bincount(bins[later & same], minlength=BINS)
        impostor += np.bincount(bins[later & ~same], minlength=BINS)
    return PairHistogram(genuine, impostor)


def pair_histogram(cosines: NDArray[np.float64], same: NDArray[np.bool_]) -> PairHistogram:
    """Histogram of listed pairs: cosines (P,), NaN (a face not found) left out, same (P,) bool."""
    known = ~np.isnan(cosines)
    bins = np.clip((cosines[known] + 1) * (BINS / 2), 0, BINS - 1).astype(np.int64)
    return PairHistogram(
        np.bincount(bins[same[known]], minlength=BINS), np.bincount(bins[~same[known]], minlength=BINS)
    )


def calibrate(vectors: NDArray[np.float32], identities: NDArray[np.int64], data: str) -> Calibration:
    """Calibrate on all pairs of unit embeddings (N, D) of known identities (N,); see `calibrate_pairs`."""
    return calibrate_pairs(count_pairs(vectors, identities), data)


def calibrate_pairs(histogram: PairHistogram, data: str) -> Calibration:
    """Calibrate on counted pairs; `data` says what they are.

    Raises CalibrationError when there are too few pairs, or no relation between cosine and identity.
    """
    genuine, impostor = int(histogram.genuine.sum()), int(histogram.impostor.sum())
    if genuine < EXPECTED_ERRORS:
        raise CalibrationError(
            f"{data}: too few pairs of the same person: {genuine}, at least {EXPECTED_ERRORS} are needed"
        )
    rows = fmr_rows(histogram.impostor, data)
    slope, intercept = fit_logistic(histogram)
    if slope <= 0:
        raise CalibrationError(f"{data}: pairs of one person are no more alike than others: the model is untrained")
    return Calibration(
        rows=rows,
        impostor_pairs=impostor,
        genuine_pairs=genuine,
        slope=slope,
        intercept=intercept,
        prior=PRIOR,
        data=data,
    )


def fmr_rows(impostor: NDArray[np.int64], data: str) -> list[CalibrationRow]:
    """For each FMR that the impostor pairs support, the lowest bin edge that keeps it.

    Supported is a rate with at least 30 expected errors; the share of impostors at or above the edge is
    at most the rate. Raises CalibrationError when fewer than two rates are supported.
    """
    total = int(impostor.sum())
    accepted = np.r_[np.cumsum(impostor[::-1])[::-1], 0]  # entry i: pairs at or above edge i
    edges = np.linspace(-1.0, 1.0, BINS + 1)
    supported = [fmr for fmr in FMR_ROWS if fmr * total >= EXPECTED_ERRORS * (1 - 1e-9)]
    if len(supported) < 2:
        needed = round(EXPECTED_ERRORS / FMR_ROWS[1])
        raise CalibrationError(f"{data}: too few pairs of different people: {total}, at least {needed} are needed")
    # `accepted` falls from total to 0, so the first entry within the budget is the lowest such edge.
    return [CalibrationRow(fmr=fmr, threshold=float(edges[np.argmax(accepted <= fmr * total)])) for fmr in supported]


def fit_logistic(histogram: PairHistogram) -> tuple[float, float]:
    """Slope and intercept of P(same | cosine) by maximum likelihood, both classes weighing 1/2 (prior 0.5).

    Platt (1999): the targets are (n + 1) / (n + 2) and 1 / (n + 2) instead of 1 and 0, which keeps the
    slope finite where the classes do not overlap and vanishes as pairs grow.
    """
    occupied = np.flatnonzero(histogram.genuine + histogram.impostor)
    cosine = (occupied + 0.5) * (2 / BINS) - 1
    genuine_share = histogram.genuine[occupied] / histogram.genuine.sum() * PRIOR
    impostor_share = histogram.impostor[occupied] / histogram.impostor.sum() * (1 - PRIOR)
    genuine_target = 1 - 1 / (histogram.genuine.sum() + 2)
    impostor_target = 1 / (histogram.impostor.sum() + 2)
    weight = genuine_share + impostor_share
    positive = genuine_share * genuine_target + impostor_share * impostor_target

    def loss_and_gradient(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = parameters[0] * cosine + parameters[1]
        loss = np.sum(weight * np.logaddexp(0, logits) - positive * logits)
        residual = weight * (0.5 * (1 + np.tanh(0.5 * logits))) - positive
        return float(loss), np.array([residual @ cosine, residual.sum()])

    fitted = minimize(loss_and_gradient, np.array([1.0, 0.0]), jac=True, method="BFGS", options={"gtol": 1e-9})
    return float(fitted.x[0]), float(fitted.x[1])
