"""Sub-center ArcFace's second half: what a finished run takes for label noise is left out of its data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.config import ConfigError, load
from training.data.collection import FaceData
from training.data.packing import pack
from training.evaluation.embeddings import recogniser
from training.losses.cleaning import clean
from training.state import SavedState
from training.tasks.recognition_config import RecognitionConfig

_SIZE = 112
_BATCH = 64
_CENTRES = "learner/identification.head.centres"


def clean_data(run: Path, output: Path, degrees: float, minor: Literal["drop", "keep"]) -> dict[str, Any]:
    """Pack into `output` the images of a run's data that its sub-centres hold for their identity's own.

    Images without identity stay. See `training.losses.cleaning.clean` for degrees and minor. Returns counts, and the
    keys of what was dropped. Raises ConfigError for a run without class centres, DataError, StateError.
    """
    config = load(run / "config.yaml").task
    if not isinstance(config, RecognitionConfig) or config.objective is None:
        raise ConfigError(f"{run}: has no class centres; train with task.objective, best with subcenter-arcface")
    data = FaceData(config.sources, _SIZE)
    embeddings, whole = _embedded(data, run / "checkpoint.safetensors")
    known = whole & (data.labels >= 0)
    cleaning = clean(
        torch.from_numpy(embeddings[known]),
        torch.from_numpy(data.labels[known]),
        _sub_centres(run, len(data.identities)),
        degrees,
        minor,
    )
    keep = whole.copy()
    keep[known] = cleaning.keep.numpy()
    dropped = np.flatnonzero(known & ~keep)
    document = pack(config.sources, output, _SIZE, keep=keep)
    identities = Counter(data.identities[label] for label in data.labels[dropped])
    return {
        "images": document.images,
        "dropped": [data.keys[int(position)] for position in dropped],
        "identities_with_most_dropped": dict(identities.most_common(10)),
    }


def _embedded(data: FaceData, checkpoint: Path) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(N, D) embeddings, and (N,) which images could be decoded."""
    embed = recogniser(checkpoint)
    vectors: NDArray[np.float32] | None = None
    whole = np.zeros(len(data), dtype=bool)
    images: Iterator[tuple[int, NDArray[np.uint8]]] = data.decoded()
    while batch := list(islice(images, _BATCH)):
        positions = [position for position, _ in batch]
        found = embed(np.stack([image for _, image in batch]))
        if vectors is None:
            vectors = np.zeros((len(data), found.shape[1]), np.float32)
        vectors[positions], whole[positions] = found, True
    if vectors is None:
        raise ConfigError("the run's data holds no image that can be decoded")
    return vectors, whole


def _sub_centres(run: Path, classes: int) -> Tensor:
    """(C, K, D) of the run's last state, however many ranks wrote it."""
    saved = SavedState.find(run / "state")
    if saved is None:
        raise ConfigError(f"{run}: holds no state with class centres; train it first")
    if _CENTRES in saved.sharded():
        rows = saved.length(_CENTRES)
        centres = saved.rows(_CENTRES, range(rows))
    else:
        centres = saved.whole()[_CENTRES]
    if len(centres) % classes:
        raise ConfigError(f"{run}: its data holds {classes} identities now, not those that it was trained on")
    return centres.view(classes, -1, centres.shape[1])
