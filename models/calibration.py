"""Thresholds as promises about error rates: what a cosine means, measured on held-out pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator


@dataclass(frozen=True)
class ThresholdChoice:
    """The cosine at or above which a comparison counts as a match, for the FMR asked for.

    extrapolated: the calibration's impostor pairs do not reach this FMR, the threshold is a guess.
    """

    threshold: float
    fmr: float
    extrapolated: bool


class CalibrationRow(BaseModel):
    """One measured point: at `threshold` a share `fmr` of the impostor pairs scored at least as high."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fmr: float = Field(gt=0, lt=1)
    threshold: float = Field(ge=-1, le=1)


class Calibration(BaseModel):
    """Measured FMR table and logistic P(same | cosine) = 1 / (1 + exp(-(slope * cosine + intercept))).

    Rows run from the most permissive FMR to the strictest, each resting on at least 30 expected errors.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: list[CalibrationRow] = Field(min_length=2)
    impostor_pairs: int = Field(gt=0)
    genuine_pairs: int = Field(gt=0)
    slope: float = Field(gt=0)
    intercept: float
    prior: float = Field(gt=0, lt=1)
    data: str

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for looser, stricter in pairwise(self.rows):
            if stricter.fmr >= looser.fmr or stricter.threshold < looser.threshold:
                raise ValueError("calibration rows must tighten: FMR falling, threshold not falling")
        return self

    @property
    def strictest_fmr(self) -> float:
        """The lowest FMR the impostor pairs support."""
        return self.rows[-1].fmr

    def threshold(self, fmr: float) -> ThresholdChoice:
        """Threshold for a false match rate in (0, 1): log-linear between rows.

        Beyond the table the nearest two rows are continued, which is honest only as a guess
        (`extrapolated`). Never above 1. Raises ValueError for a rate outside (0, 1).
        """
        if not 0 < fmr < 1:
            raise ValueError(f"a false match rate lies between 0 and 1, not {fmr}")
        rows = self.rows
        position = next((i for i, row in enumerate(rows[1:], 1) if row.fmr <= fmr), len(rows) - 1)
        looser, stricter = rows[position - 1], rows[position]
        slope = (stricter.threshold - looser.threshold) / (math.log(stricter.fmr) - math.log(looser.fmr))
        threshold = looser.threshold + slope * (math.log(fmr) - math.log(looser.fmr))
        # A tolerance, so that asking for 1e-4 is not "beyond" a row stored as 1e-4.
        inside = rows[-1].fmr * (1 - 1e-9) <= fmr <= rows[0].fmr * (1 + 1e-9)
        return ThresholdChoice(max(-1.0, min(1.0, threshold)), fmr, not inside)

    def probability(self, cosine: float) -> float:
        """P(same person) in [0, 1] for a cosine, at the calibration's prior."""
        return float(self.probabilities(np.array([cosine]))[0])

    def probabilities(self, cosines: NDArray[np.floating]) -> NDArray[np.float64]:
        """P(same person) for an array of cosines, at the calibration's prior."""
        logits = self.slope * np.asarray(cosines, dtype=np.float64) + self.intercept
        return np.asarray(np.exp(-np.logaddexp(0, -logits)))  # the logistic, without overflow


def fpir_to_fmr(fpir: float, subjects: int) -> float:
    """Per-comparison FMR that keeps the FPIR of a search among `subjects`: 1 - (1 - FPIR)^(1/N).

    Raises ValueError for a rate outside (0, 1) or fewer than one subject.
    """
    if not 0 < fpir < 1 or subjects < 1:
        raise ValueError(f"FPIR must lie in (0, 1) and subjects be at least 1, not {fpir} and {subjects}")
    return -math.expm1(math.log1p(-fpir) / subjects)
