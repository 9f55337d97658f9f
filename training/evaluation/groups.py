"""Error rates by group of people, at one threshold for all: who pays for it.

As NIST's FRVT part 3 (IR 8280) does: the false matches of a group are those between two of its people, and
its false non-matches those of its people's own pairs, both at a threshold chosen on all pairs together.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.evaluation.bootstrap import LEVEL, Resampling, interval
from training.evaluation.embeddings import EvaluationError
from training.evaluation.pairs import SUFFIXES
from training.evaluation.verification import FMR_POINTS, roc

COLUMNS = ["image", "group"]
Kind = tuple[str, NDArray[np.bool_], NDArray[np.bool_]]


@dataclass(frozen=True)
class Groups:
    """names: of G groups; codes: (N,) int64, the group of each image, -1 where it has no label."""

    names: list[str]
    codes: NDArray[np.int64]


def read_groups(file: Path, images: Sequence[Path]) -> Groups:
    """Groups of images from a CSV with the header image,group.

    An image is named as in SUBJECT/IMAGE.jpg, with or without the suffix. Raises EvaluationError for a
    malformed file, an image in two groups, or when fewer than two groups have images here.
    """
    labels = _read_labels(file)
    found = [labels.get(f"{path.parent.name}/{path.stem}") for path in images]
    names = sorted({group for group in found if group is not None})
    if len(names) < 2:
        example = f"{images[0].parent.name}/{images[0].stem}"
        raise EvaluationError(
            f"{file}: labels images of {len(names)} groups among these; two are needed (images are named as {example})"
        )
    number = {name: position for position, name in enumerate(names)}
    return Groups(names, np.array([-1 if group is None else number[group] for group in found], dtype=np.int64))


def _read_labels(file: Path) -> dict[str, str]:
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.reader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EvaluationError(f"{file}: not a readable CSV ({error})") from error
    if not rows or [cell.strip() for cell in rows[0]] != COLUMNS:
        raise EvaluationError(f"{file}:1: the header must be {','.join(COLUMNS)}")
    labels: dict[str, str] = {}
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != 2 or not row[1].strip():
            raise EvaluationError(f"{file}:{line}: expected an image and its group, found {','.join(row)!r}")
        image, group = row[0].strip(), row[1].strip()
        suffix = next((ending for ending in SUFFIXES if image.lower().endswith(ending)), "")
        key = image[: len(image) - len(suffix)]
        if labels.setdefault(key, group) != group:
            raise EvaluationError(f"{file}:{line}: {image} is in two groups, {labels[key]} and {group}")
    return labels


def group_rates(
    scores: ArrayLike,
    same: ArrayLike,
    groups_a: NDArray[np.int64],
    groups_b: NDArray[np.int64],
    names: Sequence[str],
    resampling: Resampling,
) -> dict[str, Any]:
    """FMR and FNMR of each group at the thresholds that give all pairs their FMR_POINTS.

    scores (P,), NaN (a failed pair) counting as rejected; groups_a, groups_b (P,): the group on either
    side, -1 unknown. Each point holds "threshold" (None: none accepts so few, everything is rejected),
    "groups" with rates and 95 % intervals (the threshold kept), "between" (the FMR of pairs across groups),
    and for "fmr" and "fnmr" the differential: worst and best group, and the ratio of their rates (None:
    unbounded, the best group has no error). Rates are None where a group has no such pair.
    """
    score, matched = np.asarray(scores, np.float64), np.asarray(same, bool)
    score = np.where(np.isnan(score), -np.inf, score)
    curve = roc(score, matched)
    known = (groups_a >= 0) & (groups_b >= 0)
    within = known & (groups_a == groups_b)
    points = {}
    for name, rate in FMR_POINTS.items():
        threshold = float(curve.thresholds[np.flatnonzero(curve.fmr <= rate)[-1]])
        accepted = score >= threshold
        kinds: dict[str, list[Kind]] = {"fmr": [], "fnmr": []}
        for code, group in enumerate(names):
            inside = within & (groups_a == code)
            kinds["fmr"].append((group, inside & ~matched, accepted))
            kinds["fnmr"].append((group, inside & matched, ~accepted))
        across = known & ~within & ~matched
        points[name] = {
            "threshold": threshold if math.isfinite(threshold) else None,
            **_compared(kinds, resampling),
            "between": {"fmr": _rate(accepted, across), "impostor_pairs": int(across.sum())},
        }
    return {"level": LEVEL, "at_fmr": points, "unlabelled_pairs": int((~known).sum())}


def _compared(kinds: dict[str, list[Kind]], resampling: Resampling) -> dict[str, Any]:
    """Rates, intervals and differentials of both kinds of error."""
    groups: dict[str, dict[str, Any]] = {group: {} for group, _, _ in kinds["fmr"]}
    document: dict[str, Any] = {"groups": groups}
    for kind, members in kinds.items():
        redrawn = _redrawn_rates(members, resampling)
        pairs = "impostor_pairs" if kind == "fmr" else "genuine_pairs"
        measured: dict[str, float] = {}
        for (group, inside, errors), drawn in zip(members, redrawn.T, strict=True):
            rate = _rate(errors, inside)
            groups[group][kind] = rate
            groups[group][pairs] = int(inside.sum())
            groups[group][f"{kind}_interval"] = (
                None if rate is None else _rate_interval(rate, drawn, inside, resampling)
            )
            if rate is not None:
                measured[group] = rate
        document[kind] = _differential(measured, redrawn)
    return document


def _rate(errors: NDArray[np.bool_], inside: NDArray[np.bool_]) -> float | None:
    return float(errors[inside].mean()) if inside.any() else None


def _redrawn_rates(members: Sequence[Kind], resampling: Resampling) -> NDArray[np.float64]:
    """(S, G): the rate of each group among redrawn identities, NaN where it has no pair."""
    pairs = np.stack([inside for _, inside, _ in members], axis=1).astype(np.float64)
    wrong = np.stack([inside & errors for _, inside, errors in members], axis=1).astype(np.float64)
    rates = []
    for weights in resampling.weights():
        total = weights @ pairs
        rates.append((weights @ wrong) / np.where(total > 0, total, np.nan))
    return np.concatenate(rates)


def _rate_interval(
    rate: float, drawn: NDArray[np.float64], inside: NDArray[np.bool_], resampling: Resampling
) -> list[float]:
    """Percentiles of the redrawn rates; without any error the exact binomial bound, one trial a person."""
    if rate == 0:
        people = len(np.unique(np.concatenate([resampling.first[inside], resampling.second[inside]])))
        return [0.0, 1 - ((1 - LEVEL) / 2) ** (1 / people)]
    return list(interval(drawn))


def _differential(rates: dict[str, float], redrawn: NDArray[np.float64]) -> dict[str, Any]:
    """Worst and best group, and the ratio of their rates with its interval."""
    if len(rates) < 2:
        return {"worst": None, "best": None, "ratio": None, "ratio_interval": None}
    worst, best = max(rates, key=rates.__getitem__), min(rates, key=rates.__getitem__)
    complete = redrawn[~np.isnan(redrawn).any(axis=1)]
    low, high = complete.min(axis=1), complete.max(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(high > 0, high / low, 1.0)
    # Some redrawn ratios are unbounded: only a quantile that never interpolates is defined among them.
    levels = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    ends = np.quantile(ratios, levels, method="inverted_cdf").tolist() if len(ratios) else []
    return {
        "worst": worst,
        "best": best,
        "ratio": rates[worst] / rates[best] if rates[best] > 0 else (1.0 if rates[worst] == 0 else None),
        "ratio_interval": [end if math.isfinite(end) else None for end in ends] or None,
    }
