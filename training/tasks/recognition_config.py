"""Options of a recognition run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from training.data.augmentation import AugmentationConfig
from training.data.sources import SourceConfig


class BackboneConfig(BaseModel):
    """A registered backbone and its arguments, from random weights or a checkpoint's."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field("mobilefacenet", description="architecture; an unknown name is refused with the list of all")
    embedding_size: int = Field(512, gt=0, description="length of an embedding")
    arguments: dict[str, Any] = Field({}, description="keyword arguments of the backbone's constructor")
    initial: Path | None = Field(None, description="checkpoint of the same backbone to start from (fine-tuning)")
    freeze: Literal["none", "normalisation", "backbone"] = Field(
        "none", description="what keeps its weights and batch-norm statistics: nothing, batch norms, the whole backbone"
    )
    freeze_epochs: int | None = Field(
        None, gt=0, description="so many first epochs only, while a new head settles; null: the whole run"
    )


class VerificationConfig(BaseModel):
    """DeepID2's second signal: pairs of the batch are drawn together or pushed apart (Sun et al. 2014)."""

    model_config = ConfigDict(extra="forbid")

    weight: float = Field(0.05, gt=0, description="of this loss beside the objective's 1")
    margin: float = Field(1.0, gt=0, description="distance beyond which two people's embeddings are left alone")


class ObjectiveConfig(BaseModel):
    """The classification loss on the images with identity; all other keys are arguments of the objective named."""

    model_config = ConfigDict(extra="allow")

    name: str = Field("arcface", description="one of the objectives, listed with their arguments below")
    weight: float = Field(1.0, gt=0, description="of this loss in the sum")
    verification: VerificationConfig | None = Field(None, description="DeepID2's verification signal; null: none")

    @property
    def arguments(self) -> dict[str, Any]:
        """What the objective's constructor is given."""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _known(self) -> Self:
        from training.losses.registry import build_objective

        if "classes" in self.arguments:
            raise ValueError("classes is counted in the data; leave it out")
        build_objective(self.name, classes=1000, **self.arguments)  # any large number will do to check the arguments
        return self


class HeadConfig(BaseModel):
    """How the loss over all classes is computed; the loss is the same but for `sampled`."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["dense", "sharded", "sampled", "fused"] = Field(
        "dense",
        description="all logits on every rank; classes split over the ranks; a random share of the classes each step; "
        "logits computed in tiles and forgotten",
    )
    rate: float = Field(0.1, gt=0, le=1, description="share of the classes in a step (sampled)")
    chunk: int = Field(8192, gt=0, description="classes in a tile (fused)")
    implementation: Literal["torch", "auto", "triton"] = Field(
        "torch",
        description="what computes the tiles (fused): torch anywhere; triton on CUDA; auto: triton where it can",
    )


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
    hints: dict[str, str] = Field(
        {}, description="inner maps to learn besides: module of the backbone (features.10) -> tensor of the ONNX graph"
    )
    hint_weight: float = Field(1.0, gt=0, description="of the mean over the hints of the variance left unexplained")
    mixup: float = Field(0.0, ge=0, le=1, description="share of images mixed with another (teacher only)")
    centres: Path | None = Field(
        None, description="npz as above, of which each identity's mean corrects the teacher where a view misleads it"
    )
    centre_share: float = Field(
        0.5, gt=0, le=1, description="of the identity's mean in the target of an image whose identity is known"
    )

    @model_validator(mode="after")
    def _one_teacher(self) -> Self:
        if (self.teacher is None) == (self.embeddings is None):
            raise ValueError("give either teacher (ONNX) or embeddings (npz)")
        if self.embeddings is not None and self.mixup:
            raise ValueError("mixup needs a teacher that sees the mixed view; stored embeddings cannot")
        if self.embeddings is not None and self.hints:
            raise ValueError("hints are maps of a network's inside; stored embeddings have none")
        return self


class DevelopmentConfig(BaseModel):
    """Pairs to verify after each epoch; never people of the training data."""

    model_config = ConfigDict(extra="forbid")

    images: Path = Field(description="folder of SUBJECT/IMAGE aligned crops")
    pairs: Path = Field(description="LFW's pairs.txt, or a CSV of pairs")


class RecognitionConfig(BaseModel):
    """Data, backbone, losses and augmentation of an embedding network."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["recognition"] = Field(description="an embedding network")
    sources: list[SourceConfig] = Field(min_length=1, description="where the crops lie; all are used together")
    memory: bool = Field(
        True,
        description="decode everything once into memory; false: stream shards, decode others as they are needed. "
        "Packed arrays alone are always read from their files",
    )
    resident: bool = Field(False, description="keep packed arrays on the device, if they fit")
    workers: int = Field(0, ge=0, description="decoding processes where memory is false")
    images_per_identity: int | None = Field(
        None, ge=2, description="fill batches with groups of so many images of one identity; null: at random"
    )
    backbone: BackboneConfig = Field(BackboneConfig(), description="the network that is learned")
    flip_average: bool = Field(True, description="the checkpoint's embeddings average a crop and its mirror image")
    objective: ObjectiveConfig | None = Field(None, description="the loss on known identities; null: none")
    head: HeadConfig = Field(HeadConfig(), description="how the objective is computed over all classes")
    distillation: DistillationConfig | None = Field(None, description="the loss towards a teacher; null: none")
    augmentation: AugmentationConfig = Field(AugmentationConfig(), description="random changes to the crops")
    development: DevelopmentConfig | None = Field(None, description="measured after each epoch; null: nothing")

    @model_validator(mode="after")
    def _some_loss(self) -> Self:
        if self.objective is None and self.distillation is None:
            raise ValueError("give an objective, a distillation, or both: else there is nothing to learn from")
        return self
