"""Verification sets of either kind, listed pairs of image files or InsightFace's `.bin`, as one type.

LFW, CFP-FP/FF, AgeDB-30, CALFW, CPLFW and XQLFW are published both ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from training.evaluation.bin_sets import read_bin
from training.evaluation.embeddings import EvaluationError
from training.evaluation.pairs import read_pairs

ImageSource = Path | NDArray[np.uint8]
"""An image file, or the decoded image itself, (H, W, 3) uint8 RGB."""


@dataclass(frozen=True)
class PairSet:
    """P pairs over N images, and whose they are.

    first, second: (P,) int64 indices into images. same: (P,) bool. fold: (P,) int64. identities_a and
    identities_b: (P,) int64, what the bootstrap draws. resampled: whether these are known identities, or
    each pair a unit of its own because the set does not say who is on it.
    """

    name: str
    images: Sequence[ImageSource]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    same: NDArray[np.bool_]
    fold: NDArray[np.int64]
    identities_a: NDArray[np.int64]
    identities_b: NDArray[np.int64]
    resampled: Literal["identities", "pairs"]

    @property
    def files(self) -> list[Path]:
        """The image files. Raises EvaluationError for a set that holds its images itself."""
        if not isinstance(self.images[0], Path):
            raise EvaluationError(f"{self.name}: its images have no names that labels could refer to")
        return [image for image in self.images if isinstance(image, Path)]


def listed_pairs(images: Path, file: Path, least_folds: int = 2) -> PairSet:
    """Pairs of a `pairs.txt` or CSV; the folder of an image is its identity. Raises PairsError."""
    pairs = read_pairs(images, file, least_folds)
    _, identities = np.unique([path.parent.name for path in pairs.images], return_inverse=True)
    identities = identities.astype(np.int64)
    return PairSet(
        name=file.stem,
        images=pairs.images,
        first=pairs.first,
        second=pairs.second,
        same=pairs.same,
        fold=pairs.fold,
        identities_a=identities[pairs.first],
        identities_b=identities[pairs.second],
        resampled="identities",
    )


def packed_pairs(file: Path) -> PairSet:
    """Pairs of an InsightFace `.bin` of aligned crops, decoded one by one. Raises BinError, a PairsError."""
    images, same, fold = read_bin(file)
    numbers = np.arange(len(same), dtype=np.int64)
    return PairSet(
        name=file.stem,
        images=images,
        first=2 * numbers,
        second=2 * numbers + 1,
        same=same,
        fold=fold,
        identities_a=numbers,
        identities_b=numbers,
        resampled="pairs",
    )
