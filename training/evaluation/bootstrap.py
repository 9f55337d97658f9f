"""Confidence intervals by bootstrap over identities.

Pairs that share a person are not independent, so drawing pairs anew would give intervals that are too
narrow. Whole identities are drawn with replacement instead (the "subsets bootstrap" of Bolle, Ratha and
Pankanti, CVIU 2004): where identity i was drawn m_i times, a pair of two people counts m_a m_b times and a
pair of one person m_a times, the product over its distinct identities. Intervals are percentiles of the
redrawn figures. A figure without any error stays so however often it is redrawn: its interval has no width,
which says that the pairs are too few, not that the figure is certain.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.evaluation.verification import FMR_POINTS

LEVEL = 0.95
SAMPLES = 1000
_CELLS = 2**20  # weights held at once: a block stays near the cache, whatever the number of samples


@dataclass(frozen=True)
class Resampling:
    """Redrawn identities of P pairs. first, second: (P,) int64 numbers of the identities, below `units`."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    units: int
    seed: int
    samples: int

    @classmethod
    def of(cls, identities_a: ArrayLike, identities_b: ArrayLike, seed: int, samples: int = SAMPLES) -> Resampling:
        """Of the identities (P,) on either side of the pairs, in any dtype that sorts."""
        first, second = np.asarray(identities_a), np.asarray(identities_b)
        names, number = np.unique(np.concatenate([first, second]), return_inverse=True)
        number = number.astype(np.int64)
        return cls(number[: len(first)], number[len(first) :], len(names), seed, samples)

    def weights(self) -> Iterator[NDArray[np.int64]]:
        """How often each pair counts, (S, P) int64, a block of samples at a time; the same for the same seed."""
        generator = np.random.default_rng(self.seed)
        block = max(1, _CELLS // max(len(self.first), 1))
        alone = self.first == self.second
        for start in range(0, self.samples, block):
            size = min(block, self.samples - start)
            drawn = generator.integers(0, self.units, (size, self.units))
            drawn += np.arange(size)[:, None] * self.units
            times = np.bincount(drawn.ravel(), minlength=size * self.units).reshape(size, self.units)
            yield times[:, self.first] * np.where(alone, 1, times[:, self.second])


@dataclass(frozen=True)
class Rates:
    """Figures of the pooled ROC for S weightings, each (S,); NaN where one kind of pair has no weight."""

    auc: NDArray[np.float64]
    eer: NDArray[np.float64]
    tar_at_fmr: dict[str, NDArray[np.float64]]


def interval(drawn: NDArray[np.float64], level: float = LEVEL) -> tuple[float, float]:
    """The central `level` of redrawn figures (S,), those that are NaN left out; NaN when all are."""
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_accuracy(
    scores: ArrayLike,
    same: ArrayLike,
    fold: ArrayLike,
    identities_a: ArrayLike,
    identities_b: ArrayLike,
    seed: int,
    samples: int = SAMPLES,
) -> tuple[float, float]:
    """95 % interval of the mean accuracy over folds of `verification.verify`, its thresholds chosen anew.

    scores (P,) with NaN for failed pairs, same (P,) bool, fold (P,), identities of either side (P,).
    """
    resampling = Resampling.of(identities_a, identities_b, seed, samples)
    return interval(np.concatenate([weighted_accuracy(scores, same, fold, w) for w in resampling.weights()]))


def bootstrap_mean(values: ArrayLike, identities: ArrayLike, seed: int, samples: int = SAMPLES) -> tuple[float, float]:
    """95 % interval of the mean of N values, such as 1 for each probe that was recognised, of N identities."""
    value = np.asarray(values, dtype=np.float64)
    drawn = []
    for weights in Resampling.of(identities, identities, seed, samples).weights():
        drawn.append((weights @ value) / weights.sum(axis=1))  # somebody is always drawn
    return interval(np.concatenate(drawn))


def intervals(
    scores: ArrayLike,
    same: ArrayLike,
    fold: ArrayLike,
    identities_a: ArrayLike,
    identities_b: ArrayLike,
    *,
    seed: int = 0,
    samples: int = SAMPLES,
) -> dict[str, Any]:
    """95 % intervals [low, high] of accuracy_mean, auc, eer and tar_at_fmr, from the same redrawn identities."""
    resampling = Resampling.of(identities_a, identities_b, seed, samples)
    accuracies, rates = [], []
    for weights in resampling.weights():
        accuracies.append(weighted_accuracy(scores, same, fold, weights))
        rates.append(weighted_rates(scores, same, weights))
    return {
        "level": LEVEL,
        "samples": samples,
        "units": resampling.units,
        "accuracy_mean": list(interval(np.concatenate(accuracies))),
        "auc": list(interval(np.concatenate([part.auc for part in rates]))),
        "eer": list(interval(np.concatenate([part.eer for part in rates]))),
        "tar_at_fmr": {
            name: list(interval(np.concatenate([part.tar_at_fmr[name] for part in rates]))) for name in FMR_POINTS
        },
    }


def weighted_accuracy(
    scores: ArrayLike, same: ArrayLike, fold: ArrayLike, weights: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean accuracy over folds (S,) where pair p occurs weights[s, p] times; NaN where no pair occurs.

    What `verification.verify` gives on the repeated pairs; folds without a pair are left out of the mean.
    """
    score, matched, folds = np.asarray(scores, np.float64), np.asarray(same, bool), np.asarray(fold)
    order = np.argsort(score, kind="stable")  # NaN comes last
    score, matched, folds, weights = score[order], matched[order], folds[order], weights[:, order]
    usable = ~np.isnan(score)
    total, counted = np.zeros(len(weights)), np.zeros(len(weights))
    for held_out in np.unique(folds):
        inside = folds == held_out
        outside = usable & ~inside
        threshold = _best_thresholds(score[outside], matched[outside], weights[:, outside])
        right = ((score[inside] >= threshold[:, None]) == matched[inside]) & usable[inside]
        occurring = weights[:, inside].sum(axis=1)
        total += (weights[:, inside] * right).sum(axis=1) / np.maximum(occurring, 1)
        counted += occurring > 0
    return np.where(counted > 0, total / np.maximum(counted, 1), np.nan)


def _best_thresholds(
    values: NDArray[np.float64], same: NDArray[np.bool_], weights: NDArray[np.int64]
) -> NDArray[np.float64]:
    """`verification.best_threshold` for every row of weights (S, n); values (n,) rise. Returns (S,).

    Cut k lies between values k - 1 and k, or rather between the nearest ones that occur.
    """
    samples, occurs = len(weights), weights > 0
    right = np.zeros((samples, len(values) + 1), np.int64)  # against accepting everything
    np.cumsum(np.where(same, -weights, weights), axis=1, out=right[:, 1:])
    below = np.full(right.shape, -np.inf)
    np.maximum.accumulate(np.where(occurs, values, -np.inf), axis=1, out=below[:, 1:])
    above = np.full(right.shape, np.inf)
    above[:, :-1] = np.minimum.accumulate(np.where(occurs, values, np.inf)[:, ::-1], axis=1)[:, ::-1]
    right[below >= above] = np.iinfo(np.int64).min  # equal scores cannot be told apart
    gap = np.where(np.isinf(below) | np.isinf(above), 0.0, above - below)
    gap[right < right.max(axis=1, keepdims=True)] = -1
    cut = np.argmax(gap, axis=1)[:, None]
    low = np.take_along_axis(below, cut, axis=1)[:, 0]
    high = np.take_along_axis(above, cut, axis=1)[:, 0]
    with np.errstate(invalid="ignore"):
        middle = (low + high) / 2
    return np.where(np.isinf(low), high, np.where(np.isinf(high), np.nextafter(low, np.inf), middle))


def weighted_rates(scores: ArrayLike, same: ArrayLike, weights: NDArray[np.int64]) -> Rates:
    """AUC, EER and TAR@FMR of `verification.roc` where pair p occurs weights[s, p] times, (S, P)."""
    score, matched = np.asarray(scores, np.float64), np.asarray(same, bool)
    values, position = np.unique(np.where(np.isnan(score), np.inf, -score), return_inverse=True)
    order = np.argsort(position, kind="stable")
    starts = np.searchsorted(position[order], np.arange(len(values)))
    tar = _cumulated(weights[:, order] * matched[order], starts)
    fmr = _cumulated(weights[:, order] * ~matched[order], starts)
    difference = fmr - (1 - tar)  # rises from -1 to 1
    after = np.argmax(difference >= 0, axis=1)[:, None]
    at = [np.take_along_axis(table, after - step, axis=1)[:, 0] for table in (difference, fmr) for step in (0, 1)]
    eer = at[3] - at[1] / (at[0] - at[1]) * (at[2] - at[3])
    missing = np.isnan(tar[:, -1]) | np.isnan(fmr[:, -1])
    return Rates(
        auc=np.asarray(np.trapezoid(tar, fmr, axis=1)),
        eer=np.where(missing, np.nan, eer),
        tar_at_fmr={
            name: np.where(missing, np.nan, np.where(fmr <= rate, tar, 0).max(axis=1))
            for name, rate in FMR_POINTS.items()
        },
    )


def _cumulated(weights: NDArray[np.int64], starts: NDArray[np.intp]) -> NDArray[np.float64]:
    """Share of the weight up to and with each distinct value, (S, V + 1) from 0 to 1; NaN without weight."""
    counts = np.cumsum(np.add.reduceat(weights, starts, axis=1), axis=1)
    total = counts[:, -1:].astype(np.float64)
    shares = counts / np.where(total > 0, total, np.nan)
    return np.concatenate([np.where(total > 0, 0.0, np.nan), shares], axis=1)
