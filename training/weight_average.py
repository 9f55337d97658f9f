"""Averages of detectors' weights: of what a training ended with and what it began with.

What was learned last suits the photos of that training; a mean with what it began from suits others better than either
(Wortsman et al. 2022, arXiv:2109.01903, WiSE-FT).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.checkpoint import LOOKS, Checkpoint


class DifferentNetworks(ValueError):
    """Two checkpoints are not detectors of one architecture; the message names both."""


def drawn_back(checkpoint: Checkpoint, earlier: Checkpoint, share: float) -> Checkpoint:
    """The detector with weights drawn by `share` in [0, 1] to those that it was trained on from.

    Batch-norm statistics are drawn likewise, and so suit neither: measure them anew. Further looks stay as they are.
    Raises DifferentNetworks.
    """
    check_alike(checkpoint, earlier)
    return Checkpoint(
        checkpoint.metadata,
        {
            name: array if name.startswith(LOOKS) else _between(array, earlier.weights[name], share)
            for name, array in checkpoint.weights.items()
        },
    )


def check_alike(*checkpoints: Checkpoint) -> None:
    """Raises DifferentNetworks unless all are detectors of the first one's architecture and arguments."""
    first = checkpoints[0]
    for other in checkpoints:
        if other.metadata.task != "detection":
            raise DifferentNetworks(f"{other.model_id}: not a detector (task {other.metadata.task})")
        wanted, found = ((c.metadata.architecture, c.metadata.arguments) for c in (first, other))
        if found != wanted:
            raise DifferentNetworks(f"{other.model_id}: {found}, but {first.model_id} is {wanted}")


def _between(last: NDArray[Any], first: NDArray[Any], share: float) -> NDArray[Any]:
    return ((1 - share) * last.astype(np.float64) + share * first).astype(last.dtype)
