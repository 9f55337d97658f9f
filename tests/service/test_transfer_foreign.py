"""People out of other systems: what is taken, and what is refused with the remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compreface_database import FIRST, SECOND, fill

from service.transfer.compreface import PHOTO_NOT_KEPT, CompreFaceDatabase
from service.transfer.errors import TransferError
from service.transfer.foreign import portable_lines
from service.transfer.format import decode_embedding, parse_face, parse_header
from service.transfer.photos import ImportedPhoto, Unreadable, Unusable


def plain(url: str) -> str:
    """An address as CompreFace's users write it."""
    return url.replace("+psycopg", "")


def test_comprefaces_photos_come_out_with_their_subjects(postgres: str) -> None:
    fill(postgres, {FIRST: {"ada": [b"one", None], "José": [b"two", bytes(200)]}})
    database = CompreFaceDatabase(plain(postgres), None, largest=100)
    seen: list[Any] = []
    for entry in database:
        try:
            seen.append(entry.reason if isinstance(entry, Unusable) else (entry.subject.name, entry.read()))
        except Unreadable as error:
            seen.append(str(error))
    assert len(database) == 4
    assert sorted(seen, key=str) == sorted(
        [("ada", b"one"), PHOTO_NOT_KEPT, ("José", b"two"), "too_many_bytes"], key=str
    )
    database.close()


def test_comprefaces_services_are_kept_apart(postgres: str) -> None:
    fill(postgres, {FIRST: {"ada": [b"one"]}, SECOND: {"ada": [b"two"]}})
    with pytest.raises(TransferError, match=r"--service; .*'service 0', 'service 1'"):
        CompreFaceDatabase(postgres, None, 100)
    for name in ("service 1", SECOND):
        database = CompreFaceDatabase(postgres, name, 100)
        (photo,) = database
        assert isinstance(photo, ImportedPhoto)
        assert photo.read() == b"two"
        database.close()


def test_what_is_no_compreface(postgres: str) -> None:
    with pytest.raises(TransferError, match="cannot be read"):
        CompreFaceDatabase(postgres.rsplit("/", 1)[0] + "/elsewhere", None, 100)
    with pytest.raises(TransferError, match="postgresql://"):
        CompreFaceDatabase("people/", None, 100)


def vectors(count: int = 3, size: int = 8) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(1).standard_normal((count, size)).astype(np.float32)


def test_insightface_arrays(tmp_path: Path) -> None:
    file, given = tmp_path / "faces.npz", vectors()
    np.savez(file, embeddings=given, subjects=np.array(["ada", "ada", "José"]), model="net@1", scores=[0.5, 0.6, 0.7])
    header, *lines = list(portable_lines(file, "insightface"))
    assert (parse_header(header).model, parse_header(header).faces) == ("net@1", 3)
    faces = [parse_face(line) for line in lines]
    assert [face.name for face in faces] == ["ada", "ada", "José"]
    assert [face.detection_score for face in faces] == [0.5, 0.6, 0.7]
    for face, vector in zip(faces, given, strict=True):
        assert face.embedding is not None
        np.testing.assert_allclose(decode_embedding(face.embedding, 8), vector / np.linalg.norm(vector), rtol=1e-6)


def test_documents_as_the_tools_answer_them(tmp_path: Path) -> None:
    file, vector = tmp_path / "faces.json", vectors(1)[0].tolist()
    deepface = {
        "subject": "ada",
        "embedding": vector,
        "facial_area": {"x": 1, "y": 2, "w": 30, "h": 40, "left_eye": None},
        "face_confidence": 0.9,
    }
    insightface = {"subject": "ada", "embedding": vector, "bbox": [1.0, 2.0, 31.0, 42.0], "det_score": 0.9}
    file.write_text(json.dumps({"model_name": "net@1", "faces": [deepface]}))
    first = parse_face(list(portable_lines(file, "deepface"))[1])
    file.write_text(json.dumps({"model": "net@1", "faces": [insightface]}))
    assert parse_face(list(portable_lines(file, "insightface"))[1]) == first
    assert first.box.model_dump() == {"x": 1, "y": 2, "width": 30, "height": 40}


def test_files_that_cannot_be_taken(tmp_path: Path) -> None:
    file = tmp_path / "faces.json"
    for document, words in (
        ([{"subject": "ada", "embedding": [1.0]}], "does not say by which model"),
        ({"model": "net@1", "faces": []}, "holds no faces"),
        ({"model": "net@1", "faces": [{"subject": "ada"}]}, "cannot be read as embeddings"),
        ({"model": "net@1", "faces": [{"subject": "", "embedding": [1.0]}]}, "names no subject"),
        (
            {"model": "net@1", "faces": [{"subject": "a", "embedding": [1.0]}, {"subject": "a", "embedding": [1, 0]}]},
            "not all of one length",
        ),
    ):
        file.write_text(json.dumps(document))
        with pytest.raises(TransferError, match=words):
            list(portable_lines(file, "deepface"))
    pickled = tmp_path / "faces.npz"
    np.savez(pickled, embeddings=vectors(), subjects=np.array(["a", 1, None], object), model="net@1")
    with pytest.raises(TransferError, match="cannot be read"):
        list(portable_lines(pickled, "insightface"))
