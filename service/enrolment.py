"""A folder of people as a gallery in memory: for the command line, without a server or a database."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.recognition.analyser import Analyser
from service.recognition.errors import ImageError


@dataclass(frozen=True)
class Enrolled:
    """subjects[i] owns embeddings[i], float32 (N, D) unit rows; skipped: photos left out, and why."""

    subjects: list[str]
    embeddings: NDArray[np.float32]
    skipped: list[tuple[Path, str]]


async def enrol_folder(analyser: Analyser, folder: Path) -> Enrolled:
    """Enrol the best face of each FOLDER/SUBJECT/PHOTO. Raises OSError for an unreadable folder."""
    subjects: list[str] = []
    embeddings: list[NDArray[np.float32]] = []
    skipped: list[tuple[Path, str]] = []
    people = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    for photo in (path for person in people for path in sorted(person.iterdir()) if path.is_file()):
        try:
            seen = await analyser.analyse(photo.read_bytes(), max_faces=1)
        except ImageError as error:
            skipped.append((photo, str(error)))
            continue
        embedding = seen.faces[0].embedding if seen.faces else None
        if embedding is None:
            skipped.append((photo, "no face was found"))
            continue
        subjects.append(photo.parent.name)
        embeddings.append(embedding)
    stacked = np.stack(embeddings) if embeddings else np.zeros((0, analyser.embedding_size), np.float32)
    return Enrolled(subjects, stacked, skipped)


def rank(enrolled: Enrolled, embedding: NDArray[np.float32]) -> list[tuple[str, float]]:
    """Subjects by the cosine of their most similar face to a unit embedding (D,), best first. Exact."""
    best: dict[str, float] = {}
    cosines = np.clip(enrolled.embeddings @ embedding, -1.0, 1.0)
    for subject, cosine in zip(enrolled.subjects, cosines.tolist(), strict=True):
        best[subject] = max(cosine, best.get(subject, -1.0))
    return sorted(best.items(), key=lambda item: -item[1])
