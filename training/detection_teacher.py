"""A detector that says at every cell of a scene what it sees there, for another to learn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.faces import MIRRORED
from training.evaluation.peers import Yunet


class DenseTeacher:
    """YuNet run on the very scene the student sees, and on its mirror image, averaged cell by cell.

    Its strides are ours, so what one says at a cell the other can learn to say there. inner: names of tensors inside
    the graph whose maps it gives besides, of the scene as it is. Raises PeerError.
    """

    def __init__(self, path: Path, threads: int = 1, inner: Sequence[str] = ()) -> None:
        self._peer = Yunet(path, threads, inner)

    def __call__(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """(B, H, W, 3) uint8 RGB, H and W multiples of 32 -> (B, 15, H/s, W/s) float32 for each stride s, and the
        inner maps (B, C, h, w).

        The channels are those of `training.losses.imitation.imitation_loss`'s lessons.
        """
        levels, maps = zip(*(self._lesson(image) for image in images.numpy()), strict=True)
        return _stacked(levels), _stacked(maps)

    def _lesson(self, image: NDArray[np.uint8]) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
        width = image.shape[1]
        plain, inner = self._peer.inside(image)
        mirrored = self._peer.maps(np.ascontiguousarray(image[:, ::-1]))
        return [_averaged(one, _mirrored(other, width)) for one, other in zip(plain, mirrored, strict=True)], inner


def _stacked(images: Sequence[list[NDArray[np.float32]]]) -> list[Tensor]:
    return [torch.from_numpy(np.stack(maps)) for maps in zip(*images, strict=True)]


def _averaged(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Two views of a level (15, H, W): the mean score, and boxes and landmarks weighted by the score of each."""
    share = one[:1] / np.maximum(one[:1] + other[:1], 1e-6)
    mean: NDArray[np.float32] = share * one + (1 - share) * other
    mean[0] = (one[0] + other[0]) / 2
    return mean


def _mirrored(maps: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """What a level (15, H, W) says of the mirror image of an image of `width` pixels, said of that image."""
    turned = maps[:, :, ::-1].copy()
    turned[1] = width - turned[1]
    points = turned[5:].reshape(5, 2, *turned.shape[1:])[MIRRORED]
    points[:, 0] = width - points[:, 0]
    turned[5:] = points.reshape(10, *turned.shape[1:])
    return turned
