"""Scores as CompreFace's clients read them, in [0, 1].

similarity: CompreFace says of its own that most right answers lie above 0.5 and most wrong ones below, and its
clients choose thresholds from there upwards. Ours keeps that promise by the calibration: it is P(same person)
at the prior for which the service's own threshold is the point of even odds. So `similarity >= 0.5` is exactly
what /v1/verify calls a match and /v1/identify calls known, with the error rate that the operator promised, and
a higher threshold is stricter. It tightens with the number of subjects, as the threshold does.

probability (of a box): CompreFace's detector takes faces from 0.8 on, and clients send such numbers. Ours takes
them from another score on, so the odds of the score are scaled to make the two meet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from models.detector.find import SCORE_THRESHOLD

_TAKEN_FROM = 0.8
_STEPS = 10**5


@dataclass(frozen=True)
class Scale:
    """From cosines to similarities. slope: of the calibration's log odds; threshold: the cosine of even odds."""

    EVEN: ClassVar[float] = 0.5

    slope: float
    threshold: float

    def similarity(self, cosine: float) -> float:
        """In [0, 1]; 0.5 or more exactly if the cosine reaches the threshold."""
        # Down, never up: what rounds to 0.5 without reaching it would be a match here and nowhere else.
        return math.floor(_logistic(self.slope * (cosine - self.threshold)) * _STEPS) / _STEPS


def box_probability(score: float) -> float:
    """A detection score in [0, 1] on the scale of CompreFace's detector."""
    inside = min(1 - 1e-6, max(1e-6, score))
    return round(_logistic(_log_odds(inside) - _log_odds(SCORE_THRESHOLD) + _log_odds(_TAKEN_FROM)), 5)


def _logistic(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds)) if log_odds >= 0 else 1 - 1 / (1 + math.exp(log_odds))


def _log_odds(share: float) -> float:
    return math.log(share / (1 - share))
