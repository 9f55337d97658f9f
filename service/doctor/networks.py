"""Checks of the networks: their files, and the engines that run them."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from models import checkpoint
from models.checkpoint import Checkpoint, CheckpointError
from models.probe import ProbeMismatch
from models.registry import UnknownArchitecture
from service.doctor.finding import Finding
from service.recognition.engines import EngineOptions, OpenVinoEngine
from service.recognition.errors import EngineError
from service.settings import Settings

_RUNS: Final = 15


def network(name: str, path: Path, task: Literal["recognition", "detection"], settings: Settings) -> Iterator[Finding]:
    """The checkpoint's file, then its engines; these are left out when the file fails."""
    remedy = f"give another with --{name} or FACEMARGIN_{name.upper()}"
    try:
        loaded = checkpoint.read(path)
    except CheckpointError as error:
        yield Finding(name, False, str(error), remedy)
        return
    if loaded.metadata.task != task:
        yield Finding(name, False, f"{path.name} is a checkpoint for {loaded.metadata.task}", remedy)
        return
    calibrated = "" if loaded.metadata.calibration or task == "detection" else ", not calibrated"
    yield Finding(name, True, f"{loaded.model_id}, digest right{calibrated}")
    yield _engine(f"{name} engine", loaded, settings)
    if looks := loaded.further_looks():
        yield _engine(f"{name} engine, further looks", looks, settings)


def _engine(name: str, loaded: Checkpoint, settings: Settings) -> Finding:
    options = EngineOptions(settings.threads or os.cpu_count() or 1, precision=settings.precision)
    remedy = f"remove {settings.cache_dir} and try again"
    try:
        engine = OpenVinoEngine.open(loaded, settings.cache_dir, options)
        deviation = engine.check()
    except ProbeMismatch as error:
        return Finding(name, False, str(error), remedy)
    except (EngineError, CheckpointError, UnknownArchitecture, OSError) as error:
        return Finding(name, False, str(error), "see the message")
    spec = loaded.metadata.input
    planes = np.zeros((1, 3, spec.height, spec.width), dtype=np.float32)
    speed = f"{_milliseconds(engine, planes):.1f} ms at {spec.width}x{spec.height}"
    return Finding(
        name, True, f"probe right within {deviation:.1g}; {speed} in {engine.precision}, {options.threads} thread(s)"
    )


def _milliseconds(engine: OpenVinoEngine, planes: np.ndarray[Any, np.dtype[np.float32]]) -> float:
    """Median time of a forward pass."""
    times = []
    for _ in range(_RUNS):
        started = time.perf_counter()
        engine(planes)
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e3
