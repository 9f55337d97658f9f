"""A grid of training runs that differ in a few settings, each measured on the same pairs: one table."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models import checkpoint as checkpoints
from models.network import instantiate
from training.config import ConfigError, TrainConfig, load
from training.engine import LossNotFinite, run
from training.evaluation import machine
from training.evaluation.pair_sets import PairSet, listed_pairs
from training.evaluation.report import run_verification

_NAME = r"^[A-Za-z0-9._-]{1,64}$"
_MARKER = "ablation.json"  # in a run's folder: that it is finished


class EvaluationConfig(BaseModel):
    """Pairs of aligned crops that every cell is measured on; never people of the training data."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=_NAME, description="heads the table's columns")
    images: Path = Field(description="folder of SUBJECT/IMAGE aligned crops")
    pairs: Path = Field(description="LFW's pairs.txt, or a CSV of pairs")


class GridConfig(BaseModel):
    """A grid file. Overrides are `key=value` as on the command line of `train`; later ones win."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=_NAME, description="a cell's run is called NAME-CELL")
    base: Path = Field(description="recipe, from the folder of the grid file")
    overrides: list[str] = Field([], description="for every cell")
    grid: dict[str, list[str] | dict[str, list[str]]] = Field(
        min_length=1,
        description="either cells (name: overrides) or axes (axis: {value: overrides}), whose product is run",
    )
    evaluate: list[EvaluationConfig] = Field(min_length=1, description="what every cell is measured on")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if len({isinstance(value, dict) for value in self.grid.values()}) > 1:
            raise ValueError("grid: either all cells (lists of overrides) or all axes (mappings of such lists)")
        if any(value == {} for value in self.grid.values()):
            raise ValueError("grid: an axis without values makes no cells")
        if len({entry.name for entry in self.evaluate}) < len(self.evaluate):
            raise ValueError("evaluate: two sets of pairs have the same name")
        return self

    def cells(self) -> dict[str, list[str]]:
        """The overrides of each cell by its name; a cell of axes is named VALUE_VALUE in the order of the axes."""
        axes = [list(axis.items()) for axis in self.grid.values() if isinstance(axis, dict)]
        if not axes:
            return {name: overrides for name, overrides in self.grid.items() if isinstance(overrides, list)}
        cells: dict[str, list[str]] = {}
        for choice in itertools.product(*axes):
            name = "_".join(value for value, _ in choice)
            cells[name] = [override for _, overrides in choice for override in overrides]
        return cells


@dataclass(frozen=True)
class Cell:
    """One run of a grid: its name, what sets it apart, and all its settings."""

    name: str
    overrides: list[str]
    config: TrainConfig


@dataclass(frozen=True)
class Grid:
    """A grid whose every cell has been checked, with its pairs read."""

    name: str
    base: Path
    overrides: list[str]
    cells: list[Cell]
    pairs: dict[str, PairSet]


@dataclass(frozen=True)
class Result:
    """What came of a cell. failure: why it has no figures, or None.

    seconds: training time, None where the run was begun by an earlier process. evaluations: a set's name -> the
    figures of `facemargin evaluate verification`, intervals included.
    """

    cell: str
    overrides: list[str]
    run: str
    failure: str | None = None
    model: str | None = None
    parameters: int | None = None
    training: Mapping[str, Any] | None = None
    seconds: float | None = None
    evaluations: Mapping[str, Any] | None = None


def load_grid(path: Path) -> Grid:
    """Read a grid file, its recipe and its pairs. Raises ConfigError naming file and key, or PairsError."""
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: a grid is a mapping of keys")
    try:
        config = GridConfig.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{path}: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error
    base = path.parent / config.base
    cells = [_cell(path, base, config, name, overrides) for name, overrides in config.cells().items()]
    pairs = {entry.name: listed_pairs(entry.images, entry.pairs) for entry in config.evaluate}
    return Grid(config.name, base, config.overrides, cells, pairs)


def _cell(path: Path, base: Path, grid: GridConfig, name: str, overrides: list[str]) -> Cell:
    # The run's name comes last, quoted, so that no override and no YAML type can take it from the cell.
    own = json.dumps(f"{grid.name}-{name}")
    try:
        config = load(base, (*grid.overrides, *overrides, f"name={own}"))
    except ConfigError as error:
        raise ConfigError(f"{path}: cell {name}: {error}") from error
    if config.task.kind != "recognition":
        raise ConfigError(f"{path}: cell {name}: only recognisers can be measured on pairs")
    return Cell(name, overrides, config)


def run_grid(grid: Grid) -> Iterator[Result]:
    """Train and measure cell after cell; one that is finished is not trained again, one that was stopped resumes.

    A cell whose loss is no longer finite is a result too. Raises what `training.engine.run` and
    `run_verification` raise otherwise.
    """
    for cell in grid.cells:
        try:
            seconds = _train(cell.config)
        except LossNotFinite as error:
            yield Result(cell.name, cell.overrides, cell.config.name, failure=str(error))
            continue
        yield _measure(cell, grid.pairs, seconds)


def _train(config: TrainConfig) -> float | None:
    """Train unless that is done; returns the seconds it took, see Result."""
    marker, path = config.folder / _MARKER, config.folder / "checkpoint.safetensors"
    settings = hashlib.sha256(config.model_dump_json().encode()).hexdigest()
    if marker.exists() and path.exists():
        finished = json.loads(marker.read_text())
        if (finished["config_sha256"], finished["model"]) == (settings, checkpoints.read(path).model_id):
            seconds: float | None = finished["seconds"]
            return seconds
    fresh = not (config.folder / "state").exists()
    begin = time.monotonic()
    run(config)
    seconds = round(time.monotonic() - begin, 1) if fresh else None
    model = checkpoints.read(path).model_id
    marker.write_text(json.dumps({"config_sha256": settings, "model": model, "seconds": seconds}) + "\n")
    return seconds


def _measure(cell: Cell, pairs: dict[str, PairSet], seconds: float | None) -> Result:
    path = cell.config.folder / "checkpoint.safetensors"
    loaded = checkpoints.read(path)
    evaluations = {}
    for name, pair_set in pairs.items():
        figures = run_verification(pair_set, checkpoint=path, detector=None).document
        evaluations[name] = {key: value for key, value in figures.items() if key != "machine"}
    return Result(
        cell=cell.name,
        overrides=cell.overrides,
        run=cell.config.name,
        model=loaded.model_id,
        parameters=sum(parameter.numel() for parameter in instantiate(loaded).parameters()),
        training=loaded.metadata.training,
        seconds=seconds,
        evaluations=evaluations,
    )


def report(grid: Grid, results: Iterable[Result]) -> dict[str, Any]:
    """All that was measured, as one JSON document."""
    return {
        "grid": grid.name,
        "base": grid.base.name,
        "overrides": grid.overrides,
        "evaluations": list(grid.pairs),
        "machine": machine.describe(),
        "cells": [asdict(result) for result in results],
    }


def markdown(document: Mapping[str, Any]) -> str:
    """The report as one Markdown table, cells in the order of the grid, and a line on how to read it."""
    names: list[str] = document["evaluations"]
    head = ["cell", *(f"{name} {figure}" for name in names for figure in ("accuracy", "EER")), "parameters", "minutes"]
    lines = [_row(head), _row(["---", *["---:"] * (len(head) - 1)])]
    for cell in document["cells"]:
        if cell["failure"]:
            lines.append(_row([cell["cell"], *["diverged"] * (2 * len(names)), "", ""]))
            continue
        figures = [text for name in names for text in _figures(cell["evaluations"][name])]
        minutes = "" if cell["seconds"] is None else f"{cell['seconds'] / 60:.1f}"
        lines.append(_row([cell["cell"], *figures, f"{cell['parameters'] / 1e6:.2f} M", minutes]))
    facts = document["machine"]
    return "\n".join([
        *lines,
        "",
        "Percent: mean accuracy over the folds and equal error rate, with 95 % intervals by bootstrap over identities. "
        f"One run a cell. {facts['processor']}, {facts['threads']} threads, torch {facts['torch']}.",
    ])  # fmt: skip


def _figures(evaluation: Mapping[str, Any]) -> list[str]:
    intervals = evaluation["intervals"]
    return [
        f"{100 * value:.2f} [{100 * low:.1f}, {100 * high:.1f}]"
        for value, (low, high) in (
            (evaluation["accuracy_mean"], intervals["accuracy_mean"]),
            (evaluation["eer"], intervals["eer"]),
        )
    ]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
