"""What travels between detection, alignment and embedding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Forward = Callable[[NDArray[np.float32]], Sequence[NDArray[np.float32]]]
"""A network under any engine: NCHW float32 in, the list of its outputs as float32 arrays."""


MIRRORED = [1, 0, 2, 4, 3]
"""The order of the five landmarks in a mirror image: a left eye becomes a right eye."""


@dataclass(frozen=True)
class Face:
    """One detected face, in pixels of the image it was found in.

    box: x, y, width, height. landmarks: (5, 2) float32, in the order left eye, right eye, nose,
    left and right mouth corner, where left is the image's left. score: detection score in [0, 1].
    """

    box: tuple[float, float, float, float]
    landmarks: NDArray[np.float32]
    score: float
