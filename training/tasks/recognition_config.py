"""Options of a recognition run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from training.data.augmentation import AugmentationConfig
from training.data.sources import SourceConfig


class BackboneConfig(BaseModel):
    """A registered backbone and its arguments."""

    model_config = ConfigDict(extra="forbid")

    name: str = "mobilefacenet"
    embedding_size: int = Field(512, gt=0)
    arguments: dict[str, Any] = {}


class ObjectiveConfig(BaseModel):
    """The classification loss on the images with identity."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["softmax", "normface", "cosface", "arcface"] = "arcface"
    scale: float = Field(64.0, gt=0, description="logit scale s (not used by softmax)")
    margin: float = Field(0.5, ge=0, description="margin m (not used by softmax and normface)")
    weight: float = Field(1.0, gt=0, description="of this loss in the sum")


class DistillationConfig(BaseModel):
    """The loss towards a teacher's embeddings, on every image.

    The teacher is an ONNX recogniser run on the very view the student sees, or a file of embeddings
    stored once an image (npz with `key` and `embedding`).
    """

    model_config = ConfigDict(extra="forbid")

    teacher: Path | None = Field(None, description="ONNX recogniser")
    embeddings: Path | None = Field(None, description="npz of stored embeddings")
    weight: float = Field(1.0, ge=0, description="of 1 - cos(projected embedding, teacher)")
    relation_weight: float = Field(0.0, ge=0, description="of the squared difference of the batch's cosines")
    mixup: float = Field(0.0, ge=0, le=1, description="share of images mixed with another (teacher only)")

    @model_validator(mode="after")
    def _one_teacher(self) -> Self:
        if (self.teacher is None) == (self.embeddings is None):
            raise ValueError("give either teacher (ONNX) or embeddings (npz)")
        if self.embeddings is not None and self.mixup:
            raise ValueError("mixup needs a teacher that sees the mixed view; stored embeddings cannot")
        return self


class DevelopmentConfig(BaseModel):
    """Pairs to verify after each epoch; never people of the training data."""

    model_config = ConfigDict(extra="forbid")

    images: Path
    pairs: Path


class RecognitionConfig(BaseModel):
    """Data, backbone, losses and augmentation of an embedding network."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["recognition"]
    sources: list[SourceConfig] = Field(min_length=1)
    memory: bool = Field(True, description="decode everything once into memory, else stream the shards")
    workers: int = Field(0, ge=0, description="decoding processes when streaming")
    backbone: BackboneConfig = BackboneConfig()
    flip_average: bool = Field(True, description="the checkpoint's embeddings average a crop and its mirror image")
    objective: ObjectiveConfig | None = None
    distillation: DistillationConfig | None = None
    augmentation: AugmentationConfig = AugmentationConfig()
    development: DevelopmentConfig | None = None

    @model_validator(mode="after")
    def _some_loss(self) -> Self:
        if self.objective is None and self.distillation is None:
            raise ValueError("give an objective, a distillation, or both: else there is nothing to learn from")
        return self
