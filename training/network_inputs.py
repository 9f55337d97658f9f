"""Images of a folder as a network is fed them: crops in batches, or photos as they are searched for faces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.checkpoint import Checkpoint
from models.detector.find import fitted_size, network_input
from models.embedding import normalise
from training.data.synthetic import synthetic_face
from training.evaluation.embeddings import EvaluationError, read_aligned, read_photo
from training.evaluation.pairs import SUFFIXES


def images_in(folder: Path) -> list[Path]:
    """The images of a folder and of those in it, by path. Raises EvaluationError where there are none."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise EvaluationError(f"{folder}: no images found; expected {', '.join(SUFFIXES)}")
    return found


def spread(paths: Sequence[Path], most: int) -> list[Path]:
    """At most so many of the paths, evenly spread over them."""
    return [paths[int(position)] for position in np.linspace(0, len(paths) - 1, min(most, len(paths)))]


def network_inputs(loaded: Checkpoint, paths: Sequence[Path]) -> Iterator[NDArray[np.float32]]:
    """The images as the network eats them, (N, 3, H, W) float32; invented ones where there are none."""
    return _crop_batches(paths) if loaded.metadata.task == "recognition" else _fitted_photos(paths)


def _crop_batches(paths: Sequence[Path]) -> Iterator[NDArray[np.float32]]:
    """Aligned crops in batches of 1, 3, and then 8."""
    crops = [read_aligned(path) for path in paths] or [synthetic_face(0, number, 0) for number in range(12)]
    start = 0
    for size in (1, 3, *[8] * len(crops)):
        if start < len(crops):
            yield normalise(np.stack(crops[start : start + size]))
        start += size


def _fitted_photos(paths: Sequence[Path]) -> Iterator[NDArray[np.float32]]:
    """Photos as `find_faces` fits them to the network, and the first one with its mirror image as a batch of two."""
    for number in range(len(paths) or 4):
        # The invented ones in another shape each, so that height and width vary.
        photo = read_photo(paths[number]) if paths else np.tile(synthetic_face(0, number, 0), (1 + number, 2, 1))
        fitted = network_input(photo, fitted_size(photo.shape[1], photo.shape[0]))
        yield fitted
        if number == 0:
            yield np.concatenate([fitted, fitted[:, :, :, ::-1]])
