"""MATLAB files, which WIDER FACE and TinyFace are labelled in."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from training.evaluation.embeddings import EvaluationError

_UNREADABLE = (OSError, EOFError, ValueError, TypeError, IndexError, NotImplementedError, MatReadError, zlib.error)


def read_mat(path: Path) -> dict[str, NDArray[np.object_]]:
    """The variables of a .mat file by name; cell arrays are object arrays. Raises EvaluationError naming it."""
    try:
        contents: dict[str, NDArray[np.object_]] = loadmat(path)
    except _UNREADABLE as error:
        raise EvaluationError(f"{path}: not a readable .mat file ({error})") from error
    return contents
