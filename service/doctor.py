"""What an operator needs to know before trusting an installation: each check with its remedy."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from models import checkpoint
from models.checkpoint import Checkpoint, CheckpointError
from models.probe import ProbeMismatch
from models.quiet_openvino import openvino
from models.registry import UnknownArchitecture
from service.recognition.engines import EngineOptions, OpenVinoEngine
from service.recognition.errors import EngineError
from service.settings import Settings

_PACKAGES = ("facemargin", "numpy", "openvino", "faiss-cpu", "pillow", "pillow-heif", "fastapi", "sqlalchemy")
_RUNS = 15


@dataclass(frozen=True)
class Finding:
    """One check: what was looked at, whether it is in order, what was seen, and what to do if it is not."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""

    @property
    def line(self) -> str:
        """For people."""
        remedy = f"; {self.remedy}" if self.remedy and not self.ok else ""
        return f"{'ok  ' if self.ok else 'FAIL'}  {self.name}: {self.detail}{remedy}"

    @property
    def document(self) -> dict[str, Any]:
        """For programs."""
        remedy = {} if self.ok else {"remedy": self.remedy}
        return {"name": self.name, "ok": self.ok, "detail": self.detail, **remedy}


def examine(settings: Settings) -> list[Finding]:
    """Run every check. Exports the networks' graphs into the cache where they are missing."""
    found = [_python(), _packages(), _processor(), _data_dir(settings.data_dir)]
    found += _network("recogniser", settings.recogniser, "recognition", settings)
    found += _network("detector", settings.detector, "detection", settings)
    return [*found, _port(settings.host, settings.port)]


def _python() -> Finding:
    return Finding("python", True, f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _packages() -> Finding:
    versions, missing = [], []
    for name in _PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    detail = f"missing: {', '.join(missing)}" if missing else ", ".join(versions)
    return Finding("packages", not missing, detail, "pip install 'facemargin[serve]'")


def _processor() -> Finding:
    core = openvino.Core()
    name = core.get_property("CPU", "FULL_DEVICE_NAME")
    abilities = ", ".join(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    return Finding("processor", True, f"{name}, {os.cpu_count()} cores; {abilities}")


def _data_dir(folder: Path) -> Finding:
    remedy = "choose another --data-dir, or give this user the right to write there"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"facemargin")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return Finding("data folder", False, f"{folder}: {error.strerror}", remedy)
    return Finding("data folder", True, f"{folder.absolute()} can be written")


def _network(name: str, path: Path, task: Literal["recognition", "detection"], settings: Settings) -> Iterator[Finding]:
    """The checkpoint's file, then its engine; the second is left out when the first fails."""
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


def _engine(name: str, loaded: Checkpoint, settings: Settings) -> Finding:
    options = EngineOptions(threads=settings.threads or os.cpu_count() or 1)
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
    return Finding(name, True, f"probe right within {deviation:.1g}; {speed}, {options.threads} thread(s)")


def _milliseconds(engine: OpenVinoEngine, planes: np.ndarray[Any, np.dtype[np.float32]]) -> float:
    """Median time of a forward pass."""
    times = []
    for _ in range(_RUNS):
        started = time.perf_counter()
        engine(planes)
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e3


def _port(host: str, port: int) -> Finding:
    name = f"{host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        return Finding("port", False, f"{name}: {error.strerror}", "choose another --port, or stop its owner")
    return Finding("port", True, f"{name} is free")
