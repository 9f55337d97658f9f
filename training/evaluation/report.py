"""A whole verification run: our checkpoint and any peers on the same pairs, as one JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.evaluation import embeddings
from training.evaluation.bootstrap import Resampling, intervals
from training.evaluation.contenders import ERRORS, Contender, compare, open_contenders
from training.evaluation.groups import Groups, group_rates, read_groups
from training.evaluation.pair_sets import PairSet, listed_pairs
from training.evaluation.peers import Normalisation
from training.evaluation.verification import verify

__all__ = ["ERRORS", "VerificationRun", "evaluate_verification", "run_verification"]


@dataclass(frozen=True)
class VerificationRun:
    """What a run measured. cosines: model -> (P,) float64, NaN for failed pairs; same: (P,) bool."""

    document: dict[str, Any]
    cosines: dict[str, NDArray[np.float64]]
    same: NDArray[np.bool_]


def evaluate_verification(images: Path, pairs_file: Path, **options: Any) -> dict[str, Any]:
    """The document of `run_verification` on listed pairs. Raises one of ERRORS."""
    return run_verification(listed_pairs(images, pairs_file), **options).document


def run_verification(
    pairs: PairSet,
    *,
    checkpoint: Path,
    detector: Path | None,
    peers: Sequence[Path] = (),
    peer_normalisation: Normalisation = Normalisation.IMAGENET,
    groups: Path | None = None,
) -> VerificationRun:
    """Measure a recogniser, and ONNX peers next to it; with `groups`, a CSV image,group, also by group.

    Without `detector` the images are aligned crops; with it they are whole photos, in which it finds the
    faces, also for the peers unless a YuNet is among them. Raises one of ERRORS.
    """
    labels = read_groups(groups, pairs.files) if groups is not None else None
    contenders = open_contenders(checkpoint, detector, peers, peer_normalisation)
    cosines: dict[str, NDArray[np.float64]] = {}

    def measure(contender: Contender) -> dict[str, Any]:
        embedded = contender.embedded(pairs.images)
        cosines[contender.name] = embeddings.cosines(embedded, pairs.first, pairs.second)
        figures = _figures(cosines[contender.name], pairs, labels)
        return {**figures, "failed_detections": int((~embedded.found).sum()), "images": len(pairs.images)}

    document = {**compare(contenders, measure), "set": pairs.name}
    return VerificationRun(document, cosines, pairs.same)


def _figures(cosines: NDArray[np.float64], pairs: PairSet, labels: Groups | None) -> dict[str, Any]:
    figures = verify(cosines, pairs.same, pairs.fold).summary()
    figures["intervals"] = {
        **intervals(cosines, pairs.same, pairs.fold, pairs.identities_a, pairs.identities_b),
        "resampled": pairs.resampled,
    }
    if labels is not None:
        resampling = Resampling.of(pairs.identities_a, pairs.identities_b, seed=0)
        codes = (labels.codes[pairs.first], labels.codes[pairs.second])
        figures["groups"] = group_rates(cosines, pairs.same, *codes, labels.names, resampling)
    return figures
