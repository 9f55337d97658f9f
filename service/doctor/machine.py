"""Checks of the machine: what is installed, where data goes, the clock, the port."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import socket
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from models.quiet_openvino import openvino
from service.doctor.finding import Finding

_PACKAGES: Final = ("facemargin", "numpy", "openvino", "faiss-cpu", "pillow", "pillow-heif", "fastapi", "sqlalchemy")
_LEAST_FREE: Final = 2**30
_WRITTEN: Final = datetime(2025, 1, 1, tzinfo=UTC)


def python() -> Finding:
    """Which Python, and where."""
    return Finding("python", True, f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def packages() -> Finding:
    """Whether what the service needs is installed."""
    versions, missing = [], []
    for name in _PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    detail = f"missing: {', '.join(missing)}" if missing else ", ".join(versions)
    return Finding("packages", not missing, detail, "pip install 'facemargin[serve]'")


def processor() -> Finding:
    """What computes."""
    core = openvino.Core()
    name = core.get_property("CPU", "FULL_DEVICE_NAME")
    abilities = ", ".join(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    return Finding("processor", True, f"{name}, {os.cpu_count()} cores; {abilities}")


def data_folder(folder: Path) -> Finding:
    """Whether the data folder can be written, durably."""
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


def disk(folder: Path) -> Finding:
    """Room for the database, its log and two snapshots of the index."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    usage = shutil.disk_usage(there)
    detail = f"{usage.free / 2**30:.1f} GiB free of {usage.total / 2**30:.1f} GiB"
    remedy = "make room, or choose another --data-dir: a full disk refuses every enrolment"
    return Finding("disk space", usage.free >= _LEAST_FREE, detail, remedy)


def clock() -> Finding:
    """Whether the clock can be right at all; the gallery's own times are compared where it is looked at."""
    now = datetime.now(UTC)
    remedy = "set the clock (timedatectl set-ntp true): expiry of keys and the audit log depend on it"
    return Finding("clock", now > _WRITTEN, now.isoformat(timespec="seconds"), remedy)


def port(host: str, port: int) -> Finding:
    """Whether the service could listen there."""
    name = f"{host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        return Finding("port", False, f"{name}: {error.strerror}", "choose another --port, or stop its owner")
    return Finding("port", True, f"{name} is free")
