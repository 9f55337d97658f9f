"""Learn face embeddings: an objective on known identities, distillation from a teacher, or both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from models import checkpoint
from models.checkpoint import Metadata
from models.embedding import embed
from models.network import instantiate, torch_forward
from models.registry import build
from training.config import ConfigError
from training.data.augmentation import AugmentationConfig, augment
from training.data.balanced import Balanced
from training.data.batches import Batches, DecodedBatches, FaceData, MemoryBatches, PackedBatches, StreamBatches
from training.data.packed import PackedSource
from training.data.shards import ShardSource
from training.data.sources import SourceConfig
from training.evaluation.embeddings import embed_images, read_aligned, similarities
from training.evaluation.pairs import read_pairs
from training.evaluation.verification import verify
from training.heads.head import UnsupportedHead
from training.heads.registry import build_head
from training.losses.contrastive import contrastive
from training.losses.registry import UnknownObjective, build_objective
from training.provenance import data_name
from training.tasks.distillation import Distillation
from training.tasks.recognition_config import (
    BackboneConfig,
    HeadConfig,
    ObjectiveConfig,
    RecognitionConfig,
)
from training.teachers import OnnxTeacher, StoredTeacher, Teacher

_SIZE = 112


class Identification(nn.Module):
    """An objective computed by a head over all classes; images without identity (label -1) take no part."""

    def __init__(self, config: ObjectiveConfig, head: HeadConfig, embedding_size: int, classes: int, seed: int) -> None:
        super().__init__()
        self.config = config
        if not classes:
            raise ConfigError("task.objective: no image has a known identity; set it to null, or add such images")
        try:
            objective = build_objective(config.name, classes=classes, **config.arguments)
            self.head = build_head(
                head.name,
                embedding_size,
                classes,
                objective,
                rate=head.rate,
                chunk=head.chunk,
                implementation=head.implementation,
                seed=seed,
            )
        except UnknownObjective as error:  # only the number of classes can be at fault: the rest was checked
            raise ConfigError(f"task.objective: {error}") from error
        except UnsupportedHead as error:
            raise ConfigError(f"task.head: {error}") from error

    def forward(self, embeddings: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """(B, D) of any length, (B,) -> scalars: the mean over the known of all ranks, and the verification signal."""
        losses = {"identification": self.head(embeddings, labels)}
        if self.config.verification:
            losses["verification"] = contrastive(embeddings, labels, self.config.verification.margin)
        return losses

    def weigh(self, losses: dict[str, Tensor]) -> Tensor:
        """Their weighted sum."""
        total = losses["identification"]
        if self.config.verification:
            total = total + self.config.verification.weight * losses["verification"]
        return self.config.weight * total


class RecognitionLearner(nn.Module):
    """uint8 batch -> `draw` (augmentation) -> `teach` (the teacher's say) -> `forward` (backbone, head, losses)."""

    def __init__(
        self,
        network: nn.Module,
        augmentation: AugmentationConfig,
        identification: Identification | None,
        distillation: Distillation | None,
        backbone: BackboneConfig | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.augmentation = augmentation
        self.identification = identification
        self.distillation = distillation
        self.backbone = backbone or BackboneConfig()
        self.held = "none"

    def start_epoch(self, epoch: int) -> bool:
        """Freeze or release what the configuration says for this epoch; whether that changed what is learned."""
        over = self.backbone.freeze_epochs is not None and epoch >= self.backbone.freeze_epochs
        before, self.held = self.held, "none" if over else self.backbone.freeze
        fixed = {id(p) for module in _held_modules(self.network, self.held) for p in module.parameters()}
        for parameter in self.network.parameters():
            parameter.requires_grad_(id(parameter) not in fixed)
        self.train(self.training)
        return self.held != before

    def train(self, mode: bool = True) -> Self:
        """Training mode, in which what is frozen keeps its statistics."""
        super().train(mode)
        for module in _held_modules(self.network, self.held):
            module.eval()
        return self

    @torch.no_grad()
    def views(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """images (B, H, W, 3) uint8, labels (B,) -> augmented (B, 3, H, W) in [-1, 1] and labels, -1 where mixed."""
        labels = batch["labels"]
        views = batch["images"].permute(0, 3, 1, 2).float().sub_(127.5).div_(127.5)
        views = augment(views, self.augmentation)
        if self.distillation and self.distillation.config.mixup:
            views, mixed = _mix(views, self.distillation.config.mixup)
            labels = torch.where(mixed, -1, labels)
        return views.contiguous(memory_format=torch.channels_last), labels

    def draw(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The views of a batch and what belongs to them; all random draws before the forward pass are made here."""
        views, labels = self.views(batch)
        return {"views": views, "labels": labels, "index": batch["index"]}

    @torch.no_grad()
    def teach(self, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """A batch as `forward` takes it."""
        if self.distillation is None:
            return drawn
        return drawn | self.distillation.lesson(drawn["views"], drawn["index"], drawn["labels"])

    def known(self, prepared: dict[str, Tensor]) -> Tensor:
        """How many samples the identification loss of a prepared batch is the mean of."""
        return (prepared["labels"] >= 0).sum()

    def forward(self, prepared: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of the losses, and each of them for the log.

        An entry `share` multiplies the loss of the known: of several batches that make up one step, each counts by
        how many it has.
        """
        watched: AbstractContextManager[list[Tensor]] = nullcontext([])
        if self.distillation:
            watched = self.distillation.hints.watched(self.network)
        with watched as maps:
            embeddings = self.network(prepared["views"]).float()
        total = embeddings.new_zeros(())
        metrics: dict[str, Tensor] = {}
        if self.identification:
            metrics = self.identification(embeddings, prepared["labels"])
            if (share := prepared.get("share")) is not None:
                metrics = {name: share * loss for name, loss in metrics.items()}
            total = total + self.identification.weigh(metrics)
        if self.distillation:
            taught, parts = self.distillation(embeddings, maps, prepared)
            total = total + taught
            metrics |= parts
        return total, metrics


def _held_modules(network: nn.Module, held: str) -> list[nn.Module]:
    match held:
        case "backbone":
            return [network]
        case "normalisation":
            return [module for module in network.modules() if isinstance(module, _BatchNorm)]
    return []


def _mix(views: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Mix a share of the views with others of the batch, half and half at the most (mixup, arXiv:1710.09412)."""
    mixed = torch.rand(len(views), device=views.device) < share
    weight = torch.rand(len(views), device=views.device) * 0.5 * mixed
    weight = weight.view(-1, 1, 1, 1)
    other = views[torch.randperm(len(views), device=views.device)]
    return views * (1 - weight) + other * weight, mixed


class RecognitionTask:
    """Binds data, learner, metadata and the development measure of a recognition run."""

    def __init__(
        self, config: RecognitionConfig, name: str, batch_size: int, seed: int, threads: int, device: torch.device
    ) -> None:
        self.config, self.name = config, name
        self.data = FaceData(config.sources, _SIZE)
        backbone = config.backbone
        network, self._started_from = initial_backbone(backbone)
        identification = distillation = None
        if config.objective:
            identification = Identification(
                config.objective, config.head, backbone.embedding_size, len(self.data.identities), seed
            )
        if config.distillation:
            teacher = self._teacher(threads)
            centres = self._centres(teacher.embedding_size)
            distillation = Distillation(config.distillation, network, backbone.embedding_size, teacher, centres)
        self.learner = RecognitionLearner(network, config.augmentation, identification, distillation, backbone)
        self._batches = open_batches(config, self.data, batch_size, seed, device)

    @property
    def keys(self) -> Sequence[str]:
        """The name of each image, by its index."""
        return self.data.keys

    def _teacher(self, threads: int) -> Teacher:
        config = self.config.distillation
        assert config is not None
        if config.teacher:
            return OnnxTeacher(config.teacher, threads, list(config.hints.values()))
        assert config.embeddings is not None
        return StoredTeacher(config.embeddings, list(self.data.keys))

    def _centres(self, embedding_size: int) -> Tensor | None:
        config = self.config.distillation
        if config is None or config.centres is None:
            return None
        known = torch.from_numpy(np.flatnonzero(self.data.labels >= 0))
        stored = StoredTeacher(config.centres, [self.data.keys[row] for row in known.tolist()])
        if stored.embedding_size != embedding_size:
            raise ConfigError(
                f"task.distillation.centres: {config.centres.name} holds embeddings of {stored.embedding_size} "
                f"numbers, the teacher's have {embedding_size}; store them with that teacher"
            )
        return stored.means(torch.from_numpy(self.data.labels)[known], len(self.data.identities))

    def batches(self, epoch: int, rank: int, world_size: int, first: int = 0) -> Iterator[dict[str, Tensor]]:
        """The rank's batches of one epoch, from batch `first` on."""
        return self._batches.epoch(epoch, rank, world_size, first)

    def steps_per_epoch(self, world_size: int) -> int:
        """Batches a rank sees in one epoch."""
        return self._batches.steps(world_size)

    def metadata(self) -> Metadata:
        """What the checkpoint says of itself besides what the engine knows."""
        backbone = self.config.backbone
        return Metadata(
            task="recognition",
            name=self.name,
            architecture=backbone.name,
            arguments={"embedding_size": backbone.embedding_size, **backbone.arguments},
            embedding_size=backbone.embedding_size,
            flip_average=self.config.flip_average,
            training={
                "data": [name for source in self.config.sources for name in source_names(source)],
                "identities": len(self.data.identities),
                "images": len(self.data) - len(self.data.broken),
                "started_from": self._started_from,
            },
        )

    def evaluate(self, network: nn.Module) -> dict[str, float]:
        """Verification accuracy and more on the development pairs, if there are any."""
        development = self.config.development
        if development is None:
            return {}
        forward = torch_forward(network)
        pairs = read_pairs(development.images, development.pairs)
        embedded = embed_images(pairs.images, read_aligned, lambda c: embed(c, forward, self.config.flip_average))
        outcome = verify(similarities(embedded, pairs), pairs.same, pairs.fold)
        return {"accuracy": sum(outcome.fold_accuracy) / len(outcome.fold_accuracy), "auc": outcome.auc}


def initial_backbone(config: BackboneConfig) -> tuple[nn.Module, str]:
    """The network as it starts, and from what: random weights, or the model id of `config.initial`.

    Raises ConfigError when that checkpoint is of another network, CheckpointError, UnknownArchitecture.
    """
    arguments = {"embedding_size": config.embedding_size, **config.arguments}
    if config.initial is None:
        return build(config.name, **arguments), "random weights"
    start = checkpoint.read(config.initial)
    found = (start.metadata.architecture, start.metadata.arguments)
    if found != (config.name, arguments):
        raise ConfigError(
            f"task.backbone.initial: {config.initial.name} holds {found[0]} {found[1]}, not {config.name} {arguments}; "
            "write its name and arguments into task.backbone"
        )
    return instantiate(start), start.model_id


def open_batches(
    config: RecognitionConfig, data: FaceData, batch_size: int, seed: int, device: torch.device
) -> Batches:
    """The way to batches that fits the sources. Raises DataError, ConfigError."""
    order = Balanced(seed, config.images_per_identity) if config.images_per_identity else None
    if all(isinstance(source, PackedSource) for source in data.sources):
        return PackedBatches(data, batch_size, seed, order, resident=config.resident, device=device)
    if config.resident:
        raise ConfigError("task.resident: only packed arrays can stay on the device; `facemargin pack` makes them")
    if config.memory:
        return MemoryBatches(data, batch_size, seed, order)
    if not any(isinstance(source, ShardSource) for source in data.sources):
        return DecodedBatches(data, batch_size, seed, config.workers, order)
    if order is not None:
        raise ConfigError("task.images_per_identity: streamed shards come in their own order; set task.memory to true")
    return StreamBatches(data, batch_size, seed, config.workers)


def source_names(source: SourceConfig) -> list[str]:
    """The names of the files or folders of a source, without the way there."""
    if source.synthetic:
        return ["synthetic"]
    places = (source.folder, source.list, source.record, source.shards, source.packed)
    return [data_name(place) for place in places if place is not None]
