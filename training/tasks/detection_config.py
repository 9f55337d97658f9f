"""Settings of the detection task."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from training.data.scenes import SceneRecipe


class DetectionConfig(BaseModel):
    """What the detector is and what it learns from."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["detection"] = "detection"
    architecture: str = "centreface-fpn"
    arguments: dict[str, Any] = {}
    initial: Path | None = Field(None, description="checkpoint of the same architecture to start from")
    photos: Path = Field(description="folder or tar with SOURCE.json and SOURCE/*.jpg for portraits and crowds")
    portraits: str = Field("celeba", description="photos of few, large faces")
    crowds: str = Field("wider-train", description="photos of many, small faces")
    crops: list[Path] = Field([], description="tars of aligned face crops to paste into scenes")
    crops_limit: int = Field(6000, ge=1, description="crops taken of each tar")
    peer: Path | None = Field(
        None,
        description="YuNet (ONNX) whose landmarks, averaged over views, replace those of photos and crops, and which "
        "marks unlabelled faces as ignored; leave it out where landmarks were placed by hand",
    )
    teacher: Path | None = Field(
        None,
        description="YuNet (ONNX) run on each scene, whose every cell is learned; labels then only correct it where "
        "they know better. Null: labels alone are learned",
    )
    hints: dict[str, str] = Field(
        {}, description="inner maps to learn besides: module of the network (stage16) -> tensor of the teacher's graph"
    )
    hint_weight: float = Field(1.0, gt=0, description="of the mean over the hints of the variance left unexplained")
    held_out: int = Field(100, ge=0, description="the last portraits by name, never trained on")
    size: int = Field(320, ge=64, multiple_of=32, description="side of a scene in pixels")
    large_share: float = Field(
        0.2, ge=0, le=1, description="batches of scenes twice as large, with a quarter of the images"
    )
    close_up_share: float = Field(
        0.0, ge=0, le=1, description="batches of single faces as the further looks see them, many to a batch"
    )
    images_per_epoch: int = Field(6400, ge=1)
    scenes: SceneRecipe = SceneRecipe()
    box_weight: float = Field(2.0, ge=0, description="of the boxes' loss")
    landmark_weight: float = Field(5.0, ge=0, description="of the landmarks' loss")

    @model_validator(mode="after")
    def _hints_of_a_teacher(self) -> Self:
        if self.hints and self.teacher is None:
            raise ValueError("hints are maps of a teacher's inside; give a teacher")
        return self
