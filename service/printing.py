"""What the sub-commands print, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from service.api.photos import detected, policy_of
from service.gallery.matcher import Threshold
from service.recognition.analyser import AnalysedPhoto


def document(path: Path, photo: AnalysedPhoto) -> dict[str, Any]:
    """One photo as `detect` and `embed` print it: the API's fields, and the embedding if there is one."""
    faces = []
    for face in photo.faces:
        embedding = {} if face.embedding is None else {"embedding": face.embedding.tolist()}
        faces.append({**detected(0, face).model_dump(exclude={"image"}), **embedding})
    frame = {"width": photo.width, "height": photo.height}
    return {"photo": str(path), **frame, "faces": faces, "timing_ms": photo.timing_ms}


def policy(limit: Threshold) -> dict[str, Any]:
    """The threshold and where it comes from, in the API's fields."""
    return {"threshold": limit.similarity, "threshold_policy": policy_of(limit).model_dump()}


def promise(limit: Threshold) -> str:
    """The threshold in words."""
    if limit.far is None:
        return f"threshold {limit.similarity:.3f} (yours)"
    guess = ", extrapolated beyond the calibration" if limit.extrapolated else ""
    return f"threshold {limit.similarity:.3f} (false match rate {limit.far:g}{guess})"


def face_lines(photos: Sequence[Path], seen: Sequence[AnalysedPhoto]) -> Iterator[str]:
    """Photos and their faces, a line each."""
    for path, photo in zip(photos, seen, strict=True):
        yield f"{path}: {photo.width}x{photo.height}, {len(photo.faces)} face(s)"
        for face in photo.faces:
            x, y, width, height = (round(value) for value in face.face.box)
            faults = f"  {', '.join(face.reasons)}" if face.reasons else ""
            grades = f"score {face.face.score:.2f}  quality {face.quality:.2f}"
            yield f"  {width}x{height} at {x},{y}  {grades}{faults}"


def identity(face: dict[str, Any]) -> str:
    """One line: where a face is, and who."""
    box = {side: round(pixels) for side, pixels in face["box"].items()}
    where = "{width}x{height} at {x},{y}".format(**box)
    names = ", ".join(f"{one['subject_id']} ({one['similarity']:.3f})" for one in face["candidates"])
    return f"{where}: {names or 'unknown'}"
