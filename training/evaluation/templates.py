"""Templates of several images, as in IJB-B and IJB-C (Whitelam et al. 2017, Maze et al. 2018).

The images of one medium (a still, or the frames of one video) are averaged first, so that a long video does
not outvote the stills; a template is the mean of its media, brought to unit length. Each image can weigh by
the length of its embedding, by its detection score, or by both, as the published IJB figures of InsightFace
do; the weighted embeddings are summed and divided by their number, within a medium and over media.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.embedding import unit
from training.evaluation.identification import Vectors
from training.evaluation.verification import roc

FAR_POINTS = {"1e-6": 1e-6, "1e-5": 1e-5, "1e-4": 1e-4, "1e-3": 1e-3, "1e-2": 1e-2, "1e-1": 1e-1}
_BLOCK = 2**16  # pairs compared at once


class Weighting(enum.Enum):
    """What an image's embedding weighs within its template."""

    NONE = "none"
    """All the same: embeddings of unit length."""
    NORM = "norm"
    """The length of its raw embedding."""
    SCORE = "score"
    """Its detection score."""
    NORM_SCORE = "norm-score"
    """The product of both."""

    @property
    def by_norm(self) -> bool:
        """Whether raw embeddings are wanted."""
        return self in (Weighting.NORM, Weighting.NORM_SCORE)

    @property
    def by_score(self) -> bool:
        """Whether detection scores are wanted."""
        return self in (Weighting.SCORE, Weighting.NORM_SCORE)


@dataclass(frozen=True)
class Templates:
    """ids: (T,) int64, rising. vectors: (T, D) float32 of unit length. found: (T,) bool, any face at all."""

    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]
    found: NDArray[np.bool_]

    def positions(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of template ids (N,). Raises KeyError with the first unknown id."""
        rows = np.searchsorted(self.ids, ids).clip(max=len(self.ids) - 1)
        unknown = self.ids[rows] != ids
        if unknown.any():
            raise KeyError(int(ids[unknown][0]))
        return rows.astype(np.int64)


def pool(
    vectors: NDArray[np.float32],
    found: NDArray[np.bool_],
    templates: NDArray[np.int64],
    media: NDArray[np.int64],
    weights: NDArray[np.float32] | None = None,
) -> Templates:
    """Templates of N images: embeddings (N, D), unit or raw, found (N,), template and medium ids (N,).

    Images without a face take no part; a template of none but these is zero and not found.
    """
    ids, row = np.unique(templates, return_inverse=True)
    pairs, inverse = np.unique(np.stack([row[found], media[found]], axis=1), axis=0, return_inverse=True)
    weighted = vectors[found] if weights is None else vectors[found] * weights[found, None]
    averages = _group_means(weighted, inverse.ravel())
    known, template = np.unique(pairs[:, 0], return_inverse=True)
    pooled = np.zeros((len(ids), vectors.shape[1]), np.float32)
    pooled[known] = unit(_group_means(averages, template))
    holds = np.zeros(len(ids), bool)
    holds[known] = True
    return Templates(ids.astype(np.int64), pooled, holds)


def _group_means(vectors: NDArray[np.float32], group: NDArray[np.intp]) -> NDArray[np.float32]:
    """Mean of the rows (N, D) of each group 0 … G - 1, none of them empty: (G, D)."""
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(group.max() + 1))
    counts = np.bincount(group)[:, None]
    means: NDArray[np.float32] = (np.add.reduceat(vectors[order], starts, axis=0) / counts).astype(np.float32)
    return means


def template_cosines(templates: Templates, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cosine of the templates in rows first[p] and second[p], (P,), a block at a time; NaN where one is not found."""
    scores = np.empty(len(first))
    for start in range(0, len(first), _BLOCK):
        part = slice(start, start + _BLOCK)
        left, right = templates.vectors[first[part]], templates.vectors[second[part]]
        scores[part] = np.einsum("pd,pd->p", left, right)
    scores[~(templates.found[first] & templates.found[second])] = np.nan
    return scores


def template_verification(scores: NDArray[np.float64], same: NDArray[np.bool_]) -> dict[str, object]:
    """TAR at fixed FAR, never interpolated, AUC and EER of P pairs of templates. Raises ProtocolError."""
    curve = roc(scores, same)
    return {
        "tar_at_far": {name: curve.tar_at(rate) for name, rate in FAR_POINTS.items()},
        "auc": curve.auc(),
        "eer": curve.eer(),
        "genuine_pairs": int(same.sum()),
        "impostor_pairs": int((~same).sum()),
        "failed_pairs": int(np.isnan(scores).sum()),
    }


def enrolled(templates: Templates, ids: NDArray[np.int64], subjects: NDArray[np.int64]) -> Vectors:
    """The named templates with their subjects, as a gallery or as probes. Raises KeyError."""
    rows = templates.positions(ids)
    return Vectors(templates.vectors[rows], subjects, templates.found[rows])
