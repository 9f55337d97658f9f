"""Plots of what was measured: error trade-offs, scores, searches, detections, calibration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import ndtri

from models.calibration import Calibration
from training.evaluation.calibration import PairHistogram
from training.evaluation.identification import Search, cumulative_match, open_set
from training.evaluation.reliability import reliability
from training.evaluation.verification import Roc, roc

_LOWEST_RATE = 1e-4
_DET_TICKS = (1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95)
_LONGEST_CMC = 20


def verification_figure(similarity: Mapping[str, NDArray[np.float64]], same: NDArray[np.bool_]) -> Figure:
    """ROC and DET of every model, and the first model's score histogram.

    similarity: model name -> (P,) cosines, NaN where a face was not found; same: (P,) bool.
    """
    figure = Figure(figsize=(16, 4.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    curves = {name: roc(scores, same) for name, scores in similarity.items()}
    _draw_roc(left, curves)
    _draw_det(middle, {name: (curve.fmr, 1 - curve.tar) for name, curve in curves.items()})
    middle.set(title="DET", xlabel="false match rate", ylabel="false non-match rate")
    name, scores = next(iter(similarity.items()))
    bins = np.linspace(-1, 1, 81)
    for label, chosen in (("same person", same), ("different people", ~same)):
        right.hist(scores[chosen & ~np.isnan(scores)], bins=bins, alpha=0.6, label=label)
    right.set(title=f"cosines of {name}", xlabel="cosine", ylabel="pairs")
    right.legend()
    return figure


def _draw_roc(axes: Axes, curves: Mapping[str, Roc]) -> None:
    for name, curve in curves.items():
        axes.step(np.maximum(curve.fmr, _LOWEST_RATE), curve.tar, where="post", label=f"{name}, EER {curve.eer():.2%}")
    axes.set(xscale="log", xlim=(_LOWEST_RATE, 1), ylim=(0, 1.01), title="ROC", xlabel="false match rate")
    axes.set_ylabel("true accept rate")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(loc="lower right")


def _draw_det(axes: Axes, curves: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]) -> None:
    """Both error rates on normal-deviate axes (Martin et al. 1997): normal scores give a straight line."""
    for name, rates in curves.items():
        across, up = (ndtri(np.clip(rate, _LOWEST_RATE, 1 - _LOWEST_RATE)) for rate in rates)
        axes.plot(across, up, label=name)
    places = ndtri(np.array(_DET_TICKS))
    names = [f"{tick * 100:g} %" for tick in _DET_TICKS]
    axes.set_xticks(places, names, rotation=45)
    axes.set_yticks(places, names)
    axes.set(xlim=(places[0], places[-1]), ylim=(places[0], places[-1]))
    axes.grid(visible=True, alpha=0.3)
    axes.legend(loc="upper right")


def identification_figure(searches: Mapping[str, Search]) -> Figure:
    """CMC of every model; with unmated probes also FNIR over FPIR."""
    is_open = [bool(found.mated.any() and not found.mated.all()) for found in searches.values()]
    figure = Figure(figsize=(11 if any(is_open) else 6, 4.8), layout="constrained")
    panels = figure.subplots(1, 2 if any(is_open) else 1, squeeze=False)[0]
    for name, found in searches.items():
        rates = cumulative_match(found.rank, found.mated, _LONGEST_CMC)
        panels[0].plot(np.arange(1, _LONGEST_CMC + 1), rates, marker=".", label=name)
    panels[0].set(title="CMC", xlabel="rank", ylabel="share of mated probes", xlim=(1, _LONGEST_CMC), ylim=(0, 1.01))
    panels[0].set_xticks([1, 5, 10, 15, 20])
    panels[0].grid(visible=True, alpha=0.3)
    panels[0].legend(loc="lower right")
    if any(is_open):
        curves = {
            name: open_set(found) for (name, found), drawn in zip(searches.items(), is_open, strict=True) if drawn
        }
        _draw_det(panels[1], {name: (curve.fpir, curve.fnir) for name, curve in curves.items()})
        panels[1].set(title="open set", xlabel="false positive identification rate")
        panels[1].set_ylabel("false negative identification rate")
    return figure


def detection_figure(curves: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]], least: float) -> Figure:
    """Precision over recall of every model: name -> (recall, precision), faces of at least `least` pixels."""
    figure = Figure(figsize=(6, 4.8), layout="constrained")
    axes = figure.subplots()
    for name, (recall, precision) in curves.items():
        area = float((precision * np.diff(recall, prepend=0.0)).sum())
        axes.step(np.r_[0.0, recall], np.r_[1.0, precision], where="pre", label=f"{name}, AP {area:.3f}")
    axes.set(title=f"faces of at least {least:g} pixels", xlabel="recall", ylabel="precision")
    axes.set(xlim=(0, 1), ylim=(0, 1.01))
    axes.grid(visible=True, alpha=0.3)
    axes.legend(loc="lower left")
    return figure


def calibration_figure(histogram: PairHistogram, table: Calibration) -> Figure:
    """How probabilities fit the pairs they were fitted on, and the measured thresholds over the cosines."""
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    measured = reliability(histogram, table)
    left.plot([0, 1], [0, 1], color="grey", linewidth=1)
    left.plot(measured.predicted, measured.observed, marker="o")
    left.set(
        title=f"reliability at prior {table.prior:g}: expected error {measured.error:.3f}",
        xlabel="probability told",
        ylabel="share of pairs of one person",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    left.grid(visible=True, alpha=0.3)
    coarse = 2 ** (len(histogram.genuine).bit_length() - 8)  # 128 bars
    edges = np.linspace(-1, 1, len(histogram.genuine) // coarse + 1)
    for label, counts in (("same person", histogram.genuine), ("different people", histogram.impostor)):
        bars = counts.reshape(-1, coarse).sum(axis=1)
        right.stairs(bars / max(bars.sum(), 1), edges, fill=True, alpha=0.6, label=label)
    for row in table.rows:
        right.axvline(row.threshold, color="black", linewidth=0.8)
        right.text(row.threshold, 1, f" FMR {row.fmr:g}", rotation=90, va="top", transform=right.get_xaxis_transform())
    right.set(title="thresholds", xlabel="cosine", ylabel="share of pairs")
    right.legend(loc="upper left")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=120)
