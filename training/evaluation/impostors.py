"""How alike strangers of one group look to a recogniser: false matches by group, without knowing who anybody is.

NIST IR 8280 (2019) finds the largest differences between groups in false matches among people of the same sex, age
and origin. Those need group labels and no identities, where every image shows another person.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.calibration import Calibration
from training.evaluation.bootstrap import LEVEL
from training.evaluation.embeddings import EvaluationError

DRAWS = 200


def choose(groups: Sequence[str], most: int, seed: int) -> dict[str, NDArray[np.int64]]:
    """At most `most` images of each group, drawn at random: group -> their positions, (M,) int64 ascending.

    Raises EvaluationError for fewer than two groups, or a group of one image.
    """
    names, codes = np.unique(np.array(groups), return_inverse=True)
    if len(names) < 2:
        raise EvaluationError(f"{len(names)} group among these images; two are needed")
    random = np.random.default_rng(seed)
    chosen = {}
    for code, name in enumerate(names.tolist()):
        members = np.flatnonzero(codes == code)
        if len(members) < 2:
            raise EvaluationError(f"group {name}: one image has no pair")
        chosen[name] = np.sort(random.permutation(members)[:most])
    return chosen


def impostor_rates(
    vectors: dict[str, NDArray[np.float32]], calibration: Calibration, fmrs: Sequence[float], seed: int
) -> dict[str, Any]:
    """For each group of unit embeddings (M, D): mean cosine of its pairs, and the FMR at calibrated thresholds.

    Intervals are percentiles over DRAWS redrawn sets of images. "ratio" is the worst group's rate over the best's,
    None where the best has no false match.
    """
    random = np.random.default_rng(seed)
    groups: dict[str, dict[str, Any]] = {}
    for name, units in vectors.items():
        cosines = units @ units.T
        apart = ~np.eye(len(units), dtype=bool)
        groups[name] = {
            "images": len(units),
            "pairs": len(units) * (len(units) - 1) // 2,
            "mean_cosine": float(cosines[apart].mean()),
            "fmr": {},
        }
        draws = random.multinomial(len(units), np.full(len(units), 1 / len(units)), DRAWS).astype(np.float32)
        for fmr in fmrs:
            matched = (cosines >= calibration.threshold(fmr).threshold) & apart
            groups[name]["fmr"][f"{fmr:g}"] = _rate(matched, draws)
    document: dict[str, Any] = {"level": LEVEL, "groups": groups, "ratio": {}}
    for fmr in fmrs:
        rates = [group["fmr"][f"{fmr:g}"]["rate"] for group in groups.values()]
        document["ratio"][f"{fmr:g}"] = max(rates) / min(rates) if min(rates) else None
    return document


def _rate(matched: NDArray[np.bool_], draws: NDArray[np.float32]) -> dict[str, Any]:
    """The share of matched pairs with its interval; a redrawn image makes no pair with itself."""
    count = len(matched)
    rate = float(matched.sum()) / (count * (count - 1))
    wrong = np.einsum("sm,sm->s", draws @ matched.astype(np.float32), draws)
    pairs = draws.sum(axis=1) ** 2 - (draws**2).sum(axis=1)
    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    return {
        "rate": rate,
        "interval": np.quantile(wrong / pairs, ends).tolist(),
        "pairs_matched": int(matched.sum()) // 2,
    }
