"""Learning to find faces: the task that the engine trains with `task.kind: detection`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models import checkpoint
from models.checkpoint import InputSpec, Metadata
from models.detector.decode import STRIDES
from models.detector.refine import VIEW
from models.network import instantiate
from models.registry import build
from training.data.close_ups import CloseUps
from training.data.detection import DetectionDataError, Photo, read_crops, read_photos
from training.data.kept_labels import asked
from training.data.photometric import photometric
from training.data.pseudo_labels import complete, locate, template_box
from training.data.scenes import Scene, SceneComposer
from training.detection_teacher import DenseTeacher
from training.hints import Hints
from training.losses.detection import detection_loss
from training.losses.imitation import imitation_loss
from training.tasks.detection_config import DetectionConfig

_LESSONS = tuple(f"lesson_{stride}" for stride in STRIDES)
LARGE = 2  # side of a large scene in sides of a usual one


class DetectionLearner(nn.Module):
    """The network and its loss; the engine hands it a batch and steps on what it returns."""

    def __init__(self, network: nn.Module, config: DetectionConfig, hints: Hints) -> None:
        super().__init__()
        self.network, self.hints = network, hints
        self._config = config

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """image (B, H, W, 3) uint8, boxes (B, N, 4), landmarks (B, N, 5, 2), ignored (B, M, 4) -> loss, parts.

        With `lesson_8`, `lesson_16` and `lesson_32`, a teacher's maps, these are learned rather than the labels; so is
        its inside, if there are hints.

        The permuted image is in channels-last order already, the fastest for convolutions on the CPU.
        """
        with self.hints.watched(self.network) as maps:
            outputs = self.network(photometric(batch["image"].permute(0, 3, 1, 2)))
        weights = self._config.box_weight, self._config.landmark_weight
        if _LESSONS[0] not in batch:
            return detection_loss(outputs, batch["boxes"], batch["landmarks"], batch["ignored"], *weights)
        lessons = [batch[name] for name in _LESSONS]
        total, parts = imitation_loss(outputs, lessons, batch["boxes"], batch["landmarks"], *weights)
        if maps:
            parts["hint"] = self.hints(maps, batch)
            total = total + self._config.hint_weight * parts["hint"]
        return total, parts


class DetectionTask:
    """Scenes composed anew each epoch, drawn from (seed, epoch, rank, batch) alone, so that a resumed run
    sees what an uninterrupted one would."""

    def __init__(
        self, config: DetectionConfig, name: str, batch_size: int, seed: int, labels: Path | None = None
    ) -> None:
        """labels: folder in which what the peer says of the photos is kept for the next run; None: nowhere."""
        self._config, self._name, self._batch_size, self._seed = config, name, batch_size, seed
        portraits, crowds, crops = read_training_photos(config, labels)
        self._composer = SceneComposer(portraits, crowds, crops, config.scenes)
        self._close_ups = CloseUps(portraits, crops)
        if config.close_up_share and not len(self._close_ups):
            raise DetectionDataError("task.close_up_share: no photo of one face with known landmarks; set it to 0")
        self._started_from = checkpoint.read(config.initial).model_id if config.initial else "random weights"
        self._teacher = DenseTeacher(config.teacher, inner=list(config.hints.values())) if config.teacher else None
        self._counts = {"portraits": len(portraits), "crowds": len(crowds), "crops": len(crops)}
        network = initial_network(config)
        self.learner = DetectionLearner(network, config, Hints(network, config.hints, config.size, self._inside))

    def steps_per_epoch(self, world_size: int) -> int:
        """Batches of each rank in an epoch; a large batch counts as a usual one, as it costs as much."""
        return max(1, self._config.images_per_epoch // (self._batch_size * world_size))

    def batches(self, epoch: int, rank: int, world_size: int, first: int = 0) -> Iterator[dict[str, Tensor]]:
        """The rank's batches of one epoch from `first` on: image (B, S, S, 3) uint8, and the labels of
        `training.losses.detection.level_targets` in float32, padded with zeros."""
        for step in range(first, self.steps_per_epoch(world_size)):
            random = np.random.default_rng([self._seed, epoch, rank, step])
            batch = collate(self._scenes(random))
            if self._teacher:
                lessons, maps = self._teacher(batch["image"])
                batch |= zip(_LESSONS, lessons, strict=True)
                batch |= self.learner.hints.lesson(maps)
            yield batch

    def _inside(self, image: Tensor) -> list[Tensor]:
        assert self._teacher is not None  # the configuration has hints with a teacher only
        return self._teacher(image.permute(0, 2, 3, 1).to(torch.uint8))[1]

    def _scenes(self, random: np.random.Generator) -> list[Scene]:
        """The scenes of a batch; of whatever kind they are, they have about as many pixels together."""
        if random.random() < self._config.close_up_share:
            count = max(1, self._batch_size * self._config.size**2 // VIEW**2)
            return [self._close_ups.close_up(random) for _ in range(count)]
        large = random.random() < self._config.large_share
        size = self._config.size * (LARGE if large else 1)
        count = max(1, self._batch_size // LARGE**2) if large else self._batch_size
        return [self._composer.scene(size, random) for _ in range(count)]

    def metadata(self) -> Metadata:
        """The checkpoint's metadata, without what only the finished weights can tell."""
        return Metadata(
            task="detection",
            name=self._name,
            architecture=self._config.architecture,
            arguments=self._config.arguments,
            input=InputSpec(width=640, height=640, alignment=None),
            embedding_size=None,
            flip_average=False,
            training={"photos": self._counts, "started_from": self._started_from},
            metrics={},
            calibration=None,
            probe=None,
            weights_sha256="",
        )

    def evaluate(self, network: nn.Module) -> dict[str, float]:
        """Nothing is measured while training: average precision is a command of its own."""
        return {}


def initial_network(config: DetectionConfig) -> nn.Module:
    """The network as it starts: `config.initial`'s weights, or random ones.

    Raises DetectionDataError when that checkpoint is of another architecture, CheckpointError.
    """
    if config.initial is None:
        return build(config.architecture, **config.arguments)
    start = checkpoint.read(config.initial)
    if (start.metadata.architecture, start.metadata.arguments) != (config.architecture, config.arguments):
        raise DetectionDataError(
            f"{config.initial}: holds {start.metadata.architecture} {start.metadata.arguments}, "
            f"not {config.architecture} {config.arguments}"
        )
    return instantiate(start)


def read_training_photos(
    config: DetectionConfig, labels: Path | None = None
) -> tuple[list[Photo], list[Photo], list[Photo]]:
    """Portraits without the held-out ones, crowds, and crops to paste, completed by the peer; see DetectionTask."""
    portraits = read_photos(config.photos, config.portraits)
    portraits = portraits[: len(portraits) - config.held_out]
    crowds = read_photos(config.photos, config.crowds)
    if config.peer:
        portraits, crowds = (asked(photos, config.peer, complete, labels) for photos in (portraits, crowds))
    crops = [
        crop for archive in config.crops for crop in read_crops(archive, config.crops_limit, template_box(portraits))
    ]
    if config.peer:
        crops = asked(crops, config.peer, locate, labels)
    return portraits, crowds, crops


def collate(scenes: list[Scene]) -> dict[str, Tensor]:
    """Stack scenes of one size; labels are padded to the longest list with boxes of no area."""

    def padded(parts: list[NDArray[np.float32]]) -> Tensor:
        longest = max(1, *(len(part) for part in parts))
        stacked = np.zeros((len(parts), longest, *parts[0].shape[1:]), np.float32)
        for row, part in zip(stacked, parts, strict=True):
            row[: len(part)] = part
        return torch.from_numpy(stacked)

    return {
        "image": torch.from_numpy(np.stack([scene.image for scene in scenes])),
        "boxes": padded([scene.boxes for scene in scenes]),
        "landmarks": padded([scene.landmarks for scene in scenes]),
        "ignored": padded([scene.ignored for scene in scenes]),
    }
