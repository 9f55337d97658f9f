"""Teachers of distillation: who tells the student what an image's embedding should be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from training.data.sources import DataError
from training.evaluation.peers import OnnxRecogniser


class Teacher(Protocol):
    """Tells what it makes of a batch."""

    embedding_size: int

    def __call__(self, views: Tensor, index: Tensor) -> tuple[Tensor, list[Tensor]]:
        """views (B, 3, H, W) in [-1, 1] and index (B,) of the images in the data -> (B, T) float32 of unit length,
        and the maps (B, C, h, w) of its inside that the student is to learn as well, if any."""
        ...


class OnnxTeacher:
    """A network run on the very view the student sees (Beyer et al. 2022, arXiv:2106.05237: be consistent).

    inner: names of tensors inside the graph whose maps it gives besides. Raises PeerError.
    """

    def __init__(self, path: Path, threads: int, inner: Sequence[str] = ()) -> None:
        self._recogniser = OnnxRecogniser(path, threads, inner=inner)
        self.embedding_size = self._recogniser.forward(np.zeros((1, 3, 112, 112), np.float32))[0].shape[1]

    def __call__(self, views: Tensor, index: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Run the network; `index` is not needed."""
        raw, *maps = (
            torch.from_numpy(output).to(views.device)
            for output in self._recogniser.forward(views.float().cpu().numpy())
        )
        return torch.nn.functional.normalize(raw, dim=1), maps


class StoredTeacher:
    """Embeddings computed once, one an image, whatever the view."""

    def __init__(self, path: Path, keys: list[str]) -> None:
        with np.load(path) as stored:
            names, embeddings = stored["key"], stored["embedding"]
        # Stored keys are file names; the data's keys have no extension.
        rows = {str(name).rsplit(".", 1)[0]: number for number, name in enumerate(names)}
        if missing := [key for key in keys if key not in rows]:
            raise DataError(f"{path}: no teacher embedding for {missing[0]!r} and {len(missing) - 1} more")
        self._embeddings = torch.from_numpy(embeddings[[rows[key] for key in keys]].astype(np.float32))
        self.embedding_size = self._embeddings.shape[1]

    def __call__(self, views: Tensor, index: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Look up; the views are not needed."""
        return torch.nn.functional.normalize(self._embeddings[index.cpu()], dim=1).to(views.device), []

    def means(self, labels: Tensor, classes: int) -> Tensor:
        """labels (N,) of the stored images in [0, classes) -> (classes, T) of unit length; of no image: zeros."""
        sums = self._embeddings.new_zeros(classes, self.embedding_size).index_add_(0, labels, self._embeddings)
        return torch.nn.functional.normalize(sums, dim=1)
