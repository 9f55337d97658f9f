"""Batches made by reader processes: how they are put together, and how errors come back from there."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.collection import FaceData
from training.data.samples import BrokenImage, DataError


@dataclass(frozen=True)
class Loaded:
    """A batch, and the images of it that were broken, by position."""

    batch: dict[str, Tensor]
    broken: list[tuple[int, BrokenImage]]


def assemble(data: FaceData, found: Sequence[tuple[int, NDArray[np.uint8] | BrokenImage]]) -> Loaded:
    """A full batch: the first whole image takes the place of a broken one. Raises DataError when none is whole."""
    whole = [(position, image) for position, image in found if not isinstance(image, BrokenImage)]
    broken = [(position, image) for position, image in found if isinstance(image, BrokenImage)]
    if not whole:
        raise DataError(f"no image of a whole batch can be decoded; the first: {broken[0][1]}")
    chosen = [whole[0] if isinstance(image, BrokenImage) else (position, image) for position, image in found]
    index = torch.tensor([position for position, _ in chosen])
    return Loaded(
        {
            "images": torch.from_numpy(np.stack([image for _, image in chosen])),
            "labels": torch.from_numpy(data.labels)[index],
            "index": index,
        },
        broken,
    )


def loaded(
    data: FaceData, dataset: torch.utils.data.Dataset[Any], workers: int, batches: Sequence[list[int]] | None = None
) -> Iterator[dict[str, Tensor]]:
    """The batches of a dataset of `Loaded`, by `workers` processes or in this one (0), counting broken images.

    Raises the DataError that a reader met; it travels as a value, for the loader would wrap it in a trace.
    """
    loader: Any = torch.utils.data.DataLoader(
        dataset,
        sampler=batches,
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=_outlive_sigterm,
    )
    try:
        for item in loader:
            if isinstance(item, DataError):
                raise item
            for position, error in item.broken:
                data.note_broken(position, error)
            yield item.batch
    finally:  # an epoch that is left early reports too
        data.report_broken()


def _outlive_sigterm(worker: int) -> None:
    # A scheduler signals the whole group; the run still needs its readers to finish the step and save.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _as_it_is(item: Any) -> Any:
    return item
