"""Reliability: whether pairs told a probability p are of one person a share p of the time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.calibration import Calibration
from training.evaluation.calibration import PairHistogram

STEPS = 15


@dataclass(frozen=True)
class Reliability:
    """Bins of equal width of the probability told, the empty ones left out.

    predicted, observed: mean probability and share of genuine pairs in each bin, weight: its share of all
    pairs, all (B,), both kinds of pair weighing as the prior says. error: the expected calibration error,
    sum weight |predicted - observed| (Naeini et al., AAAI 2015).
    """

    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]
    weight: NDArray[np.float64]
    error: float


def reliability(histogram: PairHistogram, table: Calibration, steps: int = STEPS) -> Reliability:
    """Compare the logistic of a calibration with counted pairs, such as those that it was fitted on."""
    bins = len(histogram.genuine)
    told = table.probabilities((np.arange(bins) + 0.5) * (2 / bins) - 1)
    genuine = histogram.genuine / histogram.genuine.sum() * table.prior
    everyone = genuine + histogram.impostor / histogram.impostor.sum() * (1 - table.prior)
    step = np.minimum((told * steps).astype(np.int64), steps - 1)
    weight = np.bincount(step, everyone, minlength=steps).astype(np.float64)
    held = weight > 0
    predicted = np.bincount(step, everyone * told, minlength=steps)[held] / weight[held]
    observed = np.bincount(step, genuine, minlength=steps)[held] / weight[held]
    error = float((weight[held] * np.abs(predicted - observed)).sum())
    return Reliability(predicted, observed, weight[held], error)
