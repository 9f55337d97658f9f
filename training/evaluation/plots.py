"""Plots of verification: ROC and score histograms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training.evaluation.verification import roc

_LOWEST_FMR = 1e-4


def plot_verification(path: Path, similarity: Mapping[str, NDArray[np.float64]], same: NDArray[np.bool_]) -> None:
    """Write a PNG: the ROC of every model over FMR on a log axis, and the first model's score histogram.

    similarity: model name -> (P,) cosines, NaN where a face was not found; same: (P,) bool.
    """
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, scores in similarity.items():
        curve = roc(scores, same)
        left.step(
            np.maximum(curve.fmr, _LOWEST_FMR),
            curve.tar,
            where="post",
            label=f"{name}, EER {curve.eer():.2%}",
        )
    left.set(xscale="log", xlim=(_LOWEST_FMR, 1), ylim=(0, 1.01), title="ROC", xlabel="false match rate")
    left.set_ylabel("true accept rate")
    left.grid(visible=True, which="both", alpha=0.3)
    left.legend(loc="lower right")
    name, scores = next(iter(similarity.items()))
    bins = np.linspace(-1, 1, 81)
    for label, chosen in (("same person", same), ("different people", ~same)):
        right.hist(scores[chosen & ~np.isnan(scores)], bins=bins, alpha=0.6, label=label)
    right.set(title=f"cosines of {name}", xlabel="cosine", ylabel="pairs")
    right.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=120)
