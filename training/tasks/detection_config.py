"""Settings of the detection task."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from training.data.scenes import SceneRecipe


class DetectionConfig(BaseModel):
    """What the detector is and what it learns from.

    initial: a checkpoint of the same architecture whose weights the network starts from.
    photos: folder or tar with `SOURCE.json` and `SOURCE/*.jpg` for each of portraits and crowds.
    crops: tar of aligned face crops to paste into scenes, at most `crops_limit` of them.
    peer: a YuNet ONNX file that adds landmarks to boxes without, and marks unlabelled faces as ignored.
    held_out: the last so many portraits by name are never trained on.
    size: side of a scene in pixels; `large_share` of the batches are twice that, with a quarter of the
    images, so that faces as large as the service meets are seen.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Literal["detection"] = "detection"
    architecture: str = "centreface-fpn"
    arguments: dict[str, Any] = {}
    initial: Path | None = None
    photos: Path
    portraits: str = "celeba"
    crowds: str = "wider-train"
    crops: Path | None = None
    crops_limit: int = Field(6000, ge=1)
    peer: Path | None = None
    held_out: int = Field(100, ge=0)
    size: int = Field(320, ge=64, multiple_of=32)
    large_share: float = Field(0.2, ge=0, le=1)
    images_per_epoch: int = Field(6400, ge=1)
    scenes: SceneRecipe = SceneRecipe()
    box_weight: float = Field(2.0, ge=0)
    landmark_weight: float = Field(5.0, ge=0)
