"""A folder of people as a gallery in memory: for the command line, without a server or a database."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.gallery.index import FlatIndex
from service.gallery.subjects import SubjectIndex
from service.recognition.analyser import Analyser
from service.recognition.errors import ImageError


@dataclass(frozen=True)
class FolderGallery:
    """names[i] is the subject with key i in the index; skipped: photos left out, and why."""

    names: list[str]
    index: SubjectIndex
    skipped: list[tuple[Path, str]]

    def search(self, embedding: NDArray[np.float32], top_k: int) -> list[tuple[str, float]]:
        """Subjects by the cosine of their most similar face to a unit embedding (D,), best first. Exact."""
        (hits,) = self.index.search(embedding[None], top_k)
        return [(self.names[hit.subject_key], hit.similarity) for hit in hits]


async def enrol_folder(analyser: Analyser, folder: Path) -> FolderGallery:
    """Enrol the best face of each FOLDER/SUBJECT/PHOTO. Raises OSError for an unreadable folder."""
    index = SubjectIndex(FlatIndex(analyser.embedding_size))
    names: list[str] = []
    skipped: list[tuple[Path, str]] = []
    for person in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
        found = 0
        for photo in sorted(path for path in person.iterdir() if path.is_file()):
            try:
                seen = await analyser.analyse(photo.read_bytes(), max_faces=1)
            except ImageError as error:
                skipped.append((photo, str(error)))
                continue
            embedding = seen.faces[0].embedding if seen.faces else None
            if embedding is None:
                skipped.append((photo, "no face was found"))
                continue
            index.add(np.array([index.faces]), np.array([len(names)]), embedding[None])
            found += 1
        if found:
            names.append(person.name)
    return FolderGallery(names, index, skipped)
