"""The training program's one settings object. Unknown keys are errors; `key=value` overrides come last."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from training.tasks.detection_config import DetectionConfig
from training.tasks.recognition_config import RecognitionConfig


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the file and the key."""


class OptimiserConfig(BaseModel):
    """SGD with Nesterov momentum, or AdamW."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["sgd", "adamw"] = Field("sgd", description="SGD with Nesterov momentum, or AdamW")
    learning_rate: float = Field(0.1, gt=0, description="peak, reached after warm-up")
    scale_with_batch: int | None = Field(
        None, gt=0, description="images a step that learning_rate is meant for; it grows in proportion; null: as it is"
    )
    head_learning_rate_ratio: float = Field(
        1.0, gt=0, description="rate of all that is outside the network (class centres, projection) over the network's"
    )
    weight_decay: float = Field(5e-4, ge=0, description="not applied to biases and normalisation")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD's momentum; AdamW's beta1")
    warmup_steps: int = Field(200, ge=0, description="linear warm-up from zero")
    final_ratio: float = Field(0.0, ge=0, le=1, description="the cosine's end, as a share of the peak")
    clip_norm: float | None = Field(
        5.0, gt=0, description="largest gradient norm over all parameters and ranks; null: no limit"
    )


class TrainConfig(BaseModel):
    """Everything a training run depends on."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="of the run and of its checkpoint")
    run_dir: Path = Field(Path("runs"), description="the run's folder is run_dir/name; all ranks must see it")
    seed: int = Field(0, ge=0, description="of every random draw")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA where there is one")
    threads: int | None = Field(None, gt=0, description="CPU threads a process; null: torch's choice")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "bf16", description="autocast of the network; fp16 scales the loss and needs CUDA"
    )
    compile: bool = Field(False, description="torch.compile the network")
    batch_size: int = Field(128, gt=0, description="images a rank learns from at once")
    accumulate: int = Field(1, gt=0, description="batches whose gradients make up one step")
    epochs: int = Field(20, gt=0, description="passes over the data")
    sync_batch_norm: bool = Field(False, description="batch-norm statistics over all ranks; needs CUDA")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="of the exported network's moving average; 0: none")
    statistics_batches: int = Field(50, gt=0, description="batches that measure the average's batch-norm statistics")
    prefetch: int = Field(2, ge=0, description="batches prepared in the background; 0: none")
    log_every: int = Field(20, gt=0, description="steps between two lines of metrics.jsonl")
    save_every: int = Field(500, gt=0, description="steps between two resume states")
    patience: int | None = Field(
        None, gt=0, description="stop after so many epochs without a better development measure; keeps the best"
    )
    measure: Literal["auc", "accuracy"] = Field("auc", description="the development measure of patience")
    wandb: str | None = Field(None, description="Weights & Biases project to report to; null: none")
    optimiser: OptimiserConfig = Field(OptimiserConfig(), description="how the weights follow the gradients")
    task: Annotated[RecognitionConfig | DetectionConfig, Field(discriminator="kind")] = Field(
        description="what is learned"
    )

    @model_validator(mode="after")
    def _something_to_be_patient_about(self) -> Self:
        if self.patience and not (isinstance(self.task, RecognitionConfig) and self.task.development):
            raise ValueError("patience needs task.development: pairs that are measured after each epoch")
        return self

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.run_dir / self.name


def load(path: Path, overrides: tuple[str, ...] = ()) -> TrainConfig:
    """Read a YAML recipe and apply `a.b=value` overrides (values are YAML). Raises ConfigError."""
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: a recipe is a mapping of keys")
    for override in overrides:
        _apply(document, override)
    try:
        return TrainConfig.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{path}: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error


def _apply(document: dict[str, Any], override: str) -> None:
    name, equals, value = override.partition("=")
    if not equals:
        raise ConfigError(f"override {override!r} is not of the form key=value")
    *parents, last = name.split(".")
    place: Any = document
    try:
        parsed = yaml.safe_load(value)
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        place[int(last) if isinstance(place, list) else last] = parsed
    except yaml.YAMLError as error:
        raise ConfigError(f"override {override!r}: {error}") from error
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ConfigError(f"override {override!r}: the recipe has no such place") from error
