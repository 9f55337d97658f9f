"""Learn face embeddings: a margin loss on known identities, distillation from a teacher, or both."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from models.checkpoint import Metadata
from models.embedding import embed
from models.network import torch_forward
from models.registry import build
from training.data.augmentation import AugmentationConfig, augment
from training.data.batches import FaceData, MemoryBatches, StreamBatches
from training.evaluation.embeddings import embed_images, read_aligned, similarities
from training.evaluation.pairs import read_pairs
from training.evaluation.verification import verify
from training.heads.dense import CosineHead, LinearHead
from training.losses import margins
from training.losses.distillation import embedding_regression, relation_regression
from training.tasks.recognition_config import DistillationConfig, ObjectiveConfig, RecognitionConfig
from training.teachers import OnnxTeacher, StoredTeacher, Teacher

_SIZE = 112


class Identification(nn.Module):
    """A head and its classification loss; images without identity (label -1) take no part."""

    def __init__(self, config: ObjectiveConfig, embedding_size: int, classes: int) -> None:
        super().__init__()
        self.config = config
        head = LinearHead if config.name == "softmax" else CosineHead
        self.head: nn.Module = head(embedding_size, classes)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """(B, D), (B,) -> scalar; 0 for a batch in which nobody is known."""
        known = labels >= 0
        logits: Tensor = self.head(embeddings[known])
        labels = labels[known]
        if not len(labels):
            return logits.sum()  # zero, but still a function of the head: DDP waits for every gradient
        config = self.config
        match config.name:
            case "softmax":
                return nn.functional.cross_entropy(logits, labels)
            case "normface":
                transform: margins.TargetTransform = margins.normface
            case "cosface":
                transform = partial(margins.cosface, margin=config.margin)
            case "arcface":
                transform = partial(margins.arcface, margin=config.margin)
        return margins.margin_softmax(logits, labels, transform, config.scale)


class Distillation(nn.Module):
    """The loss towards a teacher, through a learned projection into the teacher's space."""

    def __init__(self, config: DistillationConfig, embedding_size: int, teacher: Teacher) -> None:
        super().__init__()
        self.config, self.teacher = config, teacher
        self.projection = nn.Linear(embedding_size, teacher.embedding_size, bias=False)
        nn.init.orthogonal_(self.projection.weight)

    def forward(self, embeddings: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D), (B, T) -> the regression and the relation loss, both scalars and unweighted."""
        with torch.autocast(embeddings.device.type, enabled=False):
            projected = self.projection(embeddings.float())
        return embedding_regression(projected, targets), relation_regression(embeddings, targets)


class RecognitionLearner(nn.Module):
    """uint8 batch -> loss: augmentation, backbone, head and teacher in one forward pass."""

    def __init__(
        self,
        network: nn.Module,
        augmentation: AugmentationConfig,
        identification: Identification | None,
        distillation: Distillation | None,
    ) -> None:
        super().__init__()
        self.network = network
        self.augmentation = augmentation
        self.identification = identification
        self.distillation = distillation

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of the losses, and each of them for the log."""
        labels = batch["labels"]
        with torch.no_grad():
            views = batch["images"].permute(0, 3, 1, 2).float().sub_(127.5).div_(127.5)
            views = augment(views, self.augmentation)
            if self.distillation and self.distillation.config.mixup:
                views, mixed = _mix(views, self.distillation.config.mixup)
                labels = torch.where(mixed, -1, labels)
            targets = self.distillation.teacher(views, batch["index"]) if self.distillation else None
        embeddings = self.network(views.contiguous(memory_format=torch.channels_last)).float()
        total = embeddings.new_zeros(())
        metrics = {}
        if self.identification:
            metrics["identification"] = self.identification(embeddings, labels)
            total = total + self.identification.config.weight * metrics["identification"]
        if self.distillation and targets is not None:
            regression, relation = self.distillation(embeddings, targets)
            config = self.distillation.config
            total = total + config.weight * regression + config.relation_weight * relation
            metrics |= {"regression": regression, "relation": relation}
        return total, metrics


def _mix(views: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Mix a share of the views with others of the batch, half and half at the most (mixup, arXiv:1710.09412)."""
    mixed = torch.rand(len(views), device=views.device) < share
    weight = torch.rand(len(views), device=views.device) * 0.5 * mixed
    weight = weight.view(-1, 1, 1, 1)
    other = views[torch.randperm(len(views), device=views.device)]
    return views * (1 - weight) + other * weight, mixed


class RecognitionTask:
    """Binds data, learner, metadata and the development measure of a recognition run."""

    def __init__(self, config: RecognitionConfig, name: str, batch_size: int, seed: int, threads: int) -> None:
        self.config, self.name = config, name
        self.data = FaceData(config.sources, _SIZE)
        self._batches: MemoryBatches | StreamBatches = (
            MemoryBatches(self.data, batch_size, seed)
            if config.memory
            else StreamBatches(self.data, batch_size, seed, config.workers)
        )
        backbone = config.backbone
        network = build(backbone.name, embedding_size=backbone.embedding_size, **backbone.arguments)
        identification = distillation = None
        if config.objective:
            identification = Identification(config.objective, backbone.embedding_size, len(self.data.identities))
        if config.distillation:
            distillation = Distillation(config.distillation, backbone.embedding_size, self._teacher(threads))
        self.learner = RecognitionLearner(network, config.augmentation, identification, distillation)

    def _teacher(self, threads: int) -> Teacher:
        config = self.config.distillation
        assert config is not None
        if config.teacher:
            return OnnxTeacher(config.teacher, threads)
        assert config.embeddings is not None
        return StoredTeacher(config.embeddings, self.data.keys)

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
            training={"identities": len(self.data.identities), "images": len(self.data)},
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
