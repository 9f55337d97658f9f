"""One-to-many search: rank-k in a closed set, FPIR and FNIR in an open one, distractors as in MegaFace.

ISO/IEC 19795-1 and NIST's FRVT 1:N: a probe is mated when its subject is enrolled. It is recognised at rank
k when fewer than k other subjects score as high as its own (ties count against it). At a threshold, FPIR is
the share of unmated probes that match anybody, and FNIR the share of mated ones whose own subject is not
first or not reached; TPIR = 1 - FNIR. A probe without a face matches nobody.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

RANKS = (1, 5, 10, 20)
FPIR_POINTS = {"1e-3": 1e-3, "1e-2": 1e-2, "1e-1": 1e-1}
_CELLS = 2**24  # similarities held at once: 64 MiB
NOWHERE = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Vectors:
    """Embeddings (N, D) float32 of unit length, whose they are (N,) int64, and which were found (N,) bool."""

    vectors: NDArray[np.float32]
    subjects: NDArray[np.int64]
    found: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.subjects)


@dataclass(frozen=True)
class Search:
    """What a gallery answered to P probes.

    mated: (P,) bool. mate: (P,) float32, the best score of the probe's own subject (-inf: unmated, or no
    face). other: (P,) float32, the best score of anybody else. rank: (P,) int64, the place of the own
    subject among subjects; image_rank: that of its best image among all images of others (TinyFace's
    rank). Both are NOWHERE for unmated probes and without a face.
    """

    mated: NDArray[np.bool_]
    mate: NDArray[np.float32]
    other: NDArray[np.float32]
    rank: NDArray[np.int64]
    image_rank: NDArray[np.int64]


def search(probes: Vectors, gallery: Vectors) -> Search:
    """Search every probe among the subjects of the gallery, a block of probes at a time."""
    order = np.argsort(gallery.subjects, kind="stable")
    subjects, starts = np.unique(gallery.subjects[order], return_index=True)
    absent = ~gallery.found[order]
    column = np.searchsorted(subjects, probes.subjects).clip(max=len(subjects) - 1)
    mated = subjects[column] == probes.subjects
    mate, other = np.full(len(probes), -np.inf, np.float32), np.full(len(probes), -np.inf, np.float32)
    rank, image_rank = np.full(len(probes), NOWHERE), np.full(len(probes), NOWHERE)
    owner = np.searchsorted(subjects, gallery.subjects[order])
    for rows, scores in _blocks(probes.vectors, gallery.vectors[order]):
        scores[:, absent] = -np.inf
        scores[~probes.found[rows]] = -np.inf
        best = np.maximum.reduceat(scores, starts, axis=1)
        own = np.where(mated[rows], column[rows], -1)
        known = np.flatnonzero(own >= 0)
        mine = best[known, own[known]]
        best[known, own[known]] = -np.inf
        mate[rows][known] = mine
        other[rows] = best.max(axis=1)
        reached = np.isfinite(mine)
        known, mine = known[reached], mine[reached]
        rank[rows][known] = 1 + (best[known] >= mine[:, None]).sum(axis=1)
        foreign = owner[None, :] != own[known][:, None]
        image_rank[rows][known] = 1 + ((scores[known] >= mine[:, None]) & foreign).sum(axis=1)
    return Search(mated, mate, other, rank, image_rank)


def _blocks(rows: NDArray[np.float32], columns: NDArray[np.float32]) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Similarities of all rows with all columns, as many rows at a time as fit."""
    block = max(1, _CELLS // max(len(columns), 1))
    for start in range(0, len(rows), block):
        part = slice(start, start + block)
        yield part, rows[part] @ columns.T


def rank_rates(rank: NDArray[np.int64], mated: NDArray[np.bool_], ranks: Sequence[int] = RANKS) -> dict[str, float]:
    """Share of mated probes at each rank or better: the CMC at those ranks."""
    return {str(limit): float((rank[mated] <= limit).mean()) for limit in ranks}


@dataclass(frozen=True)
class OpenSet:
    """FNIR over FPIR, strictest first: thresholds, fpir, fnir (T,)."""

    thresholds: NDArray[np.float64]
    fpir: NDArray[np.float64]
    fnir: NDArray[np.float64]

    def at(self, fpir: float) -> tuple[float, float]:
        """(TPIR, threshold) at the lowest threshold whose FPIR is at most `fpir`; never interpolated."""
        best = int(np.flatnonzero(self.fpir <= fpir)[-1])
        return float(1 - self.fnir[best]), float(self.thresholds[best])


def open_set(found: Search) -> OpenSet:
    """The curve over all thresholds. Needs mated and unmated probes.

    Between two scores of unmated probes FPIR stays while FNIR falls, so a threshold is the lowest number
    above such a score; the last one accepts everything.
    """
    alarms = found.other[~found.mated]
    hits = np.where(found.rank == 1, found.mate, -np.inf)[found.mated]
    scores = np.unique(alarms[np.isfinite(alarms)])[::-1]
    above = np.nextafter(
        scores, np.float32(np.inf)
    )  # the next float32, so that cosines of either type are decided alike
    thresholds = np.r_[above, -np.inf].astype(np.float64)
    return OpenSet(thresholds, _reaching(alarms, thresholds), 1 - _reaching(hits, thresholds))


def _reaching(scores: NDArray[np.float32], thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of scores at or above each threshold; -inf (nobody) reaches none, not even -inf."""
    known = np.sort(scores[np.isfinite(scores)]).astype(np.float64)
    return np.asarray((len(known) - np.searchsorted(known, thresholds, side="left")) / len(scores))


def open_set_rates(found: Search, points: dict[str, float] | None = None) -> dict[str, dict[str, float | None]]:
    """TPIR and threshold at each FPIR (None: no finite threshold)."""
    curve = open_set(found)
    rates: dict[str, dict[str, float | None]] = {}
    for name, fpir in (points or FPIR_POINTS).items():
        tpir, threshold = curve.at(fpir)
        rates[name] = {"tpir": tpir, "fnir": 1 - tpir, "threshold": threshold if math.isfinite(threshold) else None}
    return rates


def distractor_rank_one(
    faces: Vectors, distractors: Vectors, sizes: Sequence[int] = (), *, seed: int = 0
) -> dict[str, float]:
    """Rank-1 rate among so many distractors, as in MegaFace (Kemelmacher-Shlizerman et al., CVPR 2016).

    Every ordered pair of two images of one person is a trial: the first is the probe, the second stands
    in a gallery with the first n distractors, in an order drawn once for all sizes. sizes: by default the
    powers of ten and all. Raises ValueError where nobody has two images, or no distractor a face.
    """
    usable = distractors.vectors[distractors.found]
    if not len(usable):
        raise ValueError("no distractor has a face")
    usable = usable[np.random.default_rng(seed).permutation(len(usable))]
    sizes = sorted(set(sizes) or {*(10**power for power in range(1, 8) if 10**power < len(usable)), len(usable)})
    hardest = np.full((len(faces), len(sizes)), -np.inf, np.float32)
    for rows, scores in _blocks(faces.vectors, usable[: sizes[-1]]):
        parts = [scores[:, start:end].max(axis=1) for start, end in zip([0, *sizes[:-1]], sizes, strict=True)]
        hardest[rows] = np.maximum.accumulate(np.stack(parts, axis=1), axis=1)
    right, trials = np.zeros(len(sizes)), 0
    for subject in np.unique(faces.subjects):
        members = np.flatnonzero(faces.subjects == subject)
        scores = faces.vectors[members] @ faces.vectors[members].T
        scores[~(faces.found[members][:, None] & faces.found[members][None, :])] = -np.inf
        different = ~np.eye(len(members), dtype=bool)
        trials += int(different.sum())
        right += [(scores > hardest[members, size][:, None])[different].sum() for size in range(len(sizes))]
    if not trials:
        raise ValueError("no person has two images")
    return {str(size): float(count / trials) for size, count in zip(sizes, right, strict=True)}


def cumulative_match(rank: ArrayLike, mated: ArrayLike, longest: int) -> NDArray[np.float64]:
    """CMC (longest,): the share of mated probes at rank 1, 2, … or better."""
    ranks = np.asarray(rank)[np.asarray(mated, bool)]
    counts = np.bincount(np.minimum(ranks, longest + 1), minlength=longest + 2)[1 : longest + 1]
    return np.asarray(np.cumsum(counts) / len(ranks))
