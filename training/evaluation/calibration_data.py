"""What a model is calibrated on: all pairs of a folder of identities, or the user's own list of pairs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from training.evaluation.calibration import PairHistogram, count_pairs, identity_images, pair_histogram
from training.evaluation.contenders import Contender
from training.evaluation.embeddings import cosines
from training.evaluation.pair_sets import listed_pairs


@dataclass(frozen=True)
class CountedPairs:
    """Counted cosines, and what the pairs are in words."""

    histogram: PairHistogram
    name: str


def folder_pairs(images: Path, contender: Contender) -> CountedPairs:
    """All pairs of FOLDER/IDENTITY/NAME.(webp|jpg|png). Raises CalibrationError, EvaluationError."""
    paths, identities = identity_images(images)
    embedded = contender.embedded(paths)
    found = embedded.found
    people = len(set(identities[found].tolist()))
    name = f"{images.resolve().name}: {people} identities, {int(found.sum())} images"
    return CountedPairs(count_pairs(embedded.vectors[found], identities[found]), name)


def own_pairs(images: Path, file: Path, contender: Contender) -> CountedPairs:
    """The pairs of a `pairs.txt` or CSV alone. Raises PairsError, EvaluationError."""
    pairs = listed_pairs(images, file, least_folds=1)
    scores = cosines(contender.embedded(pairs.images), pairs.first, pairs.second)
    name = f"{file.name}: {len(pairs.same)} pairs of {len(pairs.images)} images"
    return CountedPairs(pair_histogram(scores, pairs.same), name)
