"""Embeddings that deepface or InsightFace computed, as lines of the portable format.

The file must say by which model they are: only those of the served checkpoint can be compared.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from service.transfer.errors import TransferError
from service.transfer.format import FaceLine, Header, LineBox, encode_embedding, render
from service.transfer.photos import subject_named

Tool = Literal["deepface", "insightface"]
_MARKS: Final = ("model", "model_name")


def portable_lines(path: Path, tool: Tool) -> Iterator[bytes]:
    """An .npz or .json of `tool` as a portable file. Raises TransferError that names the remedy.

    npz: `embeddings` (N, D), `subjects` (N,) text, `model` text, and if known `boxes` (N, 4; x, y, width, height)
    and `scores` (N,). json: `{"model": ..., "faces": [...]}`, each face with `subject`, `embedding` and what the
    tool answers besides: `facial_area` and `face_confidence`, or `bbox` and `det_score`.
    """
    try:
        model, faces = _npz(path) if path.suffix == ".npz" else _json(path, tool)
    except OSError as error:
        raise TransferError(f"{path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise TransferError(f"{path}: cannot be read as embeddings of {tool}: {error}") from error
    if not faces:
        raise TransferError(f"{path}: holds no faces")
    return _lines(path, model, faces)


def _lines(path: Path, model: str, faces: list[dict[str, Any]]) -> Iterator[bytes]:
    sizes = {face["embedding"].shape for face in faces}
    if len(sizes) != 1 or len(next(iter(sizes))) != 1:
        raise TransferError(f"{path}: the embeddings are not all of one length")
    yield render(Header(model=model, embedding_size=len(faces[0]["embedding"]), faces=len(faces)))
    for number, face in enumerate(faces):
        subject = subject_named(face["subject"])
        if subject is None:
            raise TransferError(f"{path}: face {number} names no subject")
        yield render(
            FaceLine(
                subject_id=subject.id,
                name=subject.name,
                embedding=encode_embedding(_unit(face["embedding"])),
                box=face.get("box", LineBox(x=0, y=0, width=0, height=0)),
                detection_score=min(1.0, max(0.0, float(face.get("score", 1.0)))),
            )
        )


def _npz(path: Path) -> tuple[str, list[dict[str, Any]]]:
    with np.load(path, allow_pickle=False) as arrays:
        model = _mark(path, {name: str(arrays[name]) for name in _MARKS if name in arrays})
        embeddings = np.asarray(arrays["embeddings"], np.float32)
        faces = [
            {"subject": str(subject), "embedding": embedding}
            for subject, embedding in zip(arrays["subjects"].tolist(), embeddings, strict=True)
        ]
        for name, field in (("boxes", "box"), ("scores", "score")):
            if name in arrays:
                for face, value in zip(faces, np.asarray(arrays[name], float).tolist(), strict=True):
                    face[field] = _box(*value) if field == "box" else value
    return model, faces


def _json(path: Path, tool: Tool) -> tuple[str, list[dict[str, Any]]]:
    document = json.loads(path.read_text())
    if not isinstance(document, dict):
        document = {"faces": document}
    model = _mark(path, document)
    return model, [_face(face, tool) for face in document["faces"]]


def _face(given: dict[str, Any], tool: Tool) -> dict[str, Any]:
    face: dict[str, Any] = {
        "subject": str(given.get("subject") or given.get("subject_id") or given.get("identity") or ""),
        "embedding": np.asarray(given["embedding"], np.float32),
    }
    if tool == "deepface":
        area, score = given.get("facial_area"), given.get("face_confidence")
        if area:
            face["box"] = _box(area["x"], area["y"], area["w"], area["h"])
    else:
        corners, score = given.get("bbox"), given.get("det_score")
        if corners:
            left, top, right, bottom = corners
            face["box"] = _box(left, top, right - left, bottom - top)
    if score is not None:
        face["score"] = float(score)
    return face


def _mark(path: Path, document: dict[str, Any]) -> str:
    for name in _MARKS:
        if document.get(name):
            return str(document[name])
    raise TransferError(
        f"{path}: does not say by which model its embeddings are; add `model` with the id that GET /v1/model answers "
        "if they are of that checkpoint, else import the photos themselves"
    )


def _box(x: float, y: float, width: float, height: float) -> LineBox:
    return LineBox(x=x, y=y, width=max(0.0, width), height=max(0.0, height))


def _unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of unit length; what has none stays, and is refused with its line."""
    norm = float(np.linalg.norm(vector))
    return vector / norm if np.isfinite(norm) and norm > 1e-6 else vector
