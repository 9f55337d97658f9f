"""A whole identification run: our checkpoint and any peers on the same gallery and probes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.evaluation.bootstrap import LEVEL, bootstrap_mean
from training.evaluation.contenders import Contender, compare, open_contenders
from training.evaluation.embeddings import EvaluationError
from training.evaluation.identification import (
    RANKS,
    Search,
    Vectors,
    distractor_rank_one,
    open_set_rates,
    rank_rates,
    search,
)
from training.evaluation.identification_lists import IdentificationLists
from training.evaluation.peers import Normalisation


@dataclass(frozen=True)
class IdentificationRun:
    """What a run measured: its JSON document, and what each model's gallery answered, for plots."""

    document: dict[str, Any]
    searches: dict[str, Search]


def evaluate_identification(
    lists: IdentificationLists,
    *,
    checkpoint: Path,
    detector: Path | None,
    peers: Sequence[Path] = (),
    peer_normalisation: Normalisation = Normalisation.IMAGENET,
) -> IdentificationRun:
    """Search every probe in the gallery, which the distractors enlarge. Raises one of `contenders.ERRORS`."""
    numbers = lists.numbered()
    mated = np.isin(numbers[1], numbers[0])
    if not mated.any():
        raise EvaluationError("no probe's subject is in the gallery, so nothing can be recognised")
    contenders = open_contenders(checkpoint, detector, peers, peer_normalisation)
    searches: dict[str, Search] = {}

    def measure(contender: Contender) -> dict[str, Any]:
        gallery, probes, distractors = _embed(contender, lists, numbers)
        searches[contender.name] = found = search(probes, _joined(gallery, distractors))
        failed = sum(int((~part.found).sum()) for part in (gallery, probes, distractors))
        figures = identification_figures(found, probes.subjects) | {
            "subjects": len(np.unique(gallery.subjects)),
            "gallery_images": len(gallery),
            "distractors": len(distractors),
            "failed_detections": failed,
        }
        if len(distractors):
            figures["distractor_rank_one"] = _distractor_figures(_joined(gallery, probes), distractors)
        return figures

    return IdentificationRun(compare(contenders, measure), searches)


def identification_figures(found: Search, subjects: NDArray[np.int64]) -> dict[str, Any]:
    """Ranks by subject and by image with 95 % intervals over the probes' subjects, and the open set's rates.

    "tpir_at_fpir" is None where every probe is mated.
    """
    mated = found.mated
    return {
        "rank": rank_rates(found.rank, mated),
        "image_rank": rank_rates(found.image_rank, mated),
        "intervals": {
            "level": LEVEL,
            "rank": {
                str(rank): list(bootstrap_mean(found.rank[mated] <= rank, subjects[mated], seed=0)) for rank in RANKS
            },
        },
        "tpir_at_fpir": None if mated.all() else open_set_rates(found),
        "probes": len(mated),
        "mated_probes": int(mated.sum()),
    }


def _embed(
    contender: Contender,
    lists: IdentificationLists,
    numbers: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
) -> list[Vectors]:
    """Gallery, probes and distractors, embedded in one go."""
    files = [*lists.gallery.files, *lists.probes.files, *lists.distractors]
    embedded = contender.embedded(files)
    ends = np.cumsum([len(part) for part in numbers])[:-1]
    return [
        Vectors(vectors, subjects, found)
        for vectors, subjects, found in zip(
            np.split(embedded.vectors, ends), numbers, np.split(embedded.found, ends), strict=True
        )
    ]


def _joined(first: Vectors, second: Vectors) -> Vectors:
    return Vectors(
        np.concatenate([first.vectors, second.vectors]),
        np.concatenate([first.subjects, second.subjects]),
        np.concatenate([first.found, second.found]),
    )


def _distractor_figures(faces: Vectors, distractors: Vectors) -> dict[str, float]:
    try:
        return distractor_rank_one(faces, distractors)
    except ValueError as error:
        raise EvaluationError(f"rank 1 among distractors cannot be measured: {error}") from error
