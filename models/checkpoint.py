"""The checkpoint: one safetensors file with its metadata, the contract between training and service.

Reading never unpickles and never needs torch; every way a file can be wrong is its own error.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from models.alignment import SIZE, TEMPLATE_NAME
from models.calibration import Calibration
from models.probe import Probe
from models.quality import QualityModel

LOOKS = "looks."
"""A detector's weights of this prefix replace those of the same name in the network of its further looks."""
_KEY = "facemargin"
_MAX_HEADER_BYTES = 100_000_000  # safetensors' own bound


class CheckpointError(ValueError):
    """A checkpoint file cannot be used; the message names the file and the remedy."""


class PickleRefused(CheckpointError):
    """The file is a pickle (.pth, .pt): loading it could run any code, so it is never opened."""


class CheckpointDamaged(CheckpointError):
    """The file is missing, truncated, altered, or not a Facemargin checkpoint."""


class WeightsMismatch(CheckpointError):
    """The weights do not fit the architecture that the metadata names."""


class InputSpec(BaseModel):
    """What the network eats: size in pixels, colour order, (x - mean) / scale, alignment template."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(SIZE, gt=0)
    height: int = Field(SIZE, gt=0)
    colour: Literal["RGB"] = "RGB"
    mean: float = 127.5
    scale: float = 127.5
    alignment: str | None = TEMPLATE_NAME


class Metadata(BaseModel):
    """All that is known of a checkpoint besides its weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    task: Literal["recognition", "detection"]
    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    architecture: str
    arguments: dict[str, Any] = {}
    input: InputSpec = InputSpec()
    embedding_size: int | None = None
    flip_average: bool = False
    training: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    calibration: Calibration | None = None
    quality: QualityModel | None = None
    probe: Probe | None = None
    looks_probe: Probe | None = Field(None, description="of the network of further looks, where it differs")
    int8_ranges: dict[str, tuple[float, float]] | None = Field(
        None, description="layers that an engine may run in int8: path to the smallest and largest input"
    )
    weights_sha256: str = ""


@dataclass(frozen=True)
class Checkpoint:
    """Weights (name -> float16 or float32 array, or integer buffers) and their metadata."""

    metadata: Metadata
    weights: dict[str, NDArray[Any]]

    @property
    def model_id(self) -> str:
        """`name@` and the first 12 hex digits of the SHA-256 of the weights."""
        return model_id(self.metadata)

    def further_looks(self) -> Checkpoint | None:
        """A detector's network of further looks (models.detector.refine); None where it is the detector itself."""
        own = {name.removeprefix(LOOKS): array for name, array in self.weights.items() if name.startswith(LOOKS)}
        if not own:
            return None
        weights = {name: array for name, array in self.weights.items() if not name.startswith(LOOKS)} | own
        changed: dict[str, Any] = {"looks_probe": None, "int8_ranges": None, "weights_sha256": digest(weights)}
        if told := self.metadata.looks_probe:
            seen = self.metadata.input.model_copy(update={"width": told.width, "height": told.height})
            changed |= {"probe": told, "input": seen}
        return Checkpoint(self.metadata.model_copy(update={"probe": None} | changed), weights)


def model_id(metadata: Metadata) -> str:
    """`name@` and the first 12 hex digits of the weights' SHA-256: what embeddings are stamped with."""
    return f"{metadata.name}@{metadata.weights_sha256[:12]}"


def digest(weights: dict[str, NDArray[Any]]) -> str:
    """SHA-256 (hex) over names, dtypes, shapes and bytes of the weights, in the order of their names."""
    sha = hashlib.sha256()
    for name in sorted(weights):
        array = np.ascontiguousarray(weights[name])
        sha.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def write(path: Path, weights: dict[str, NDArray[Any]], metadata: Metadata) -> Checkpoint:
    """Write a checkpoint atomically (temporary file, fsync, rename); the digest is computed here."""
    stamped = metadata.model_copy(update={"weights_sha256": digest(weights)})
    contiguous = {name: np.ascontiguousarray(array) for name, array in weights.items()}
    data = save(contiguous, metadata={_KEY: stamped.model_dump_json()})
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return Checkpoint(stamped, contiguous)


def read(path: Path) -> Checkpoint:
    """Read and verify a checkpoint.

    Raises PickleRefused, or CheckpointDamaged for a missing, truncated, altered or foreign file.
    """
    path = Path(path)
    _refuse_pickle(path)
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointDamaged(
            f"{path.name}: not a readable safetensors file, perhaps truncated ({error}); fetch it again"
        ) from error
    if _KEY not in header:
        raise CheckpointDamaged(
            f"{path.name}: a safetensors file without Facemargin metadata; export it with `facemargin train`"
        )
    metadata = _parse(path, header[_KEY])
    if digest(weights) != metadata.weights_sha256:
        raise CheckpointDamaged(f"{path.name}: the weights differ from their recorded digest; fetch it again")
    return Checkpoint(metadata, weights)


def _refuse_pickle(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start, brace = file.read(8), file.read(1)
    except OSError as error:
        raise CheckpointDamaged(f"{path}: cannot be read ({error.strerror})") from error
    # torch.save writes a zip archive, or in its old form a bare pickle (protocol byte 0x80). The first bytes of
    # safetensors are a length, which may look like either; its JSON follows.
    if brace != b"{" and start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        raise PickleRefused(
            f"{path.name}: a pickle, which could run any code when loaded, is never opened; convert it where "
            'you trust it: python -c "import sys, torch, safetensors.torch as s; '
            's.save_file(torch.load(sys.argv[1], weights_only=True), sys.argv[2])" OLD.pth NEW.safetensors'
        )
    if len(start) < 8 or int.from_bytes(start, "little") > _MAX_HEADER_BYTES:
        raise CheckpointDamaged(f"{path.name}: not a safetensors file (empty, truncated or another format)")


def _parse(path: Path, document: str) -> Metadata:
    try:
        return Metadata.model_validate(json.loads(document))
    except (json.JSONDecodeError, ValidationError) as error:
        reason = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        field = ".".join(str(part) for part in reason["loc"]) or "document"
        raise CheckpointDamaged(f"{path.name}: metadata field {field}: {reason['msg']}") from error
