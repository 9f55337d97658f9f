"""People out of other systems: what is taken, and what is refused with the remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from databases import postgres  # noqa: F401 - a fixture

from service.transfer.compreface import PHOTO_NOT_KEPT, CompreFaceDatabase
from service.transfer.errors import TransferError
from service.transfer.foreign import portable_lines
from service.transfer.format import decode_embedding, parse_face, parse_header
from service.transfer.photos import ImportedPhoto, Unreadable, Unusable

FIRST, SECOND = "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"
# CompreFace 1.2, by its own change log (db.changelog-0.0.4 and -0.1.7).
SCHEMA = """
CREATE TABLE model (id bigint PRIMARY KEY, name varchar(255) NOT NULL, guid varchar(36) NOT NULL, app_id bigint,
    api_key varchar(36) NOT NULL UNIQUE, type varchar(1));
CREATE TABLE subject (id uuid PRIMARY KEY, api_key varchar(36), subject_name varchar(255),
    UNIQUE (api_key, subject_name));
CREATE TABLE img (id uuid PRIMARY KEY, content bytea NOT NULL);
CREATE TABLE embedding (id uuid PRIMARY KEY, subject_id uuid REFERENCES subject (id) ON DELETE CASCADE,
    embedding float8[] NOT NULL, calculator varchar(255) NOT NULL, img_id uuid REFERENCES img (id));
"""


def fill(url: str, services: dict[str, dict[str, list[bytes | None]]]) -> None:
    """Rows as CompreFace writes them: {API key: {subject: [photo, or None if it was not kept]}}."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS embedding, img, subject, model; {SCHEMA}")
        for number, (api_key, subjects) in enumerate(services.items()):
            row = {"id": number, "name": f"service {number}", "guid": api_key, "api_key": api_key}
            connection.execute(sa.text("INSERT INTO model VALUES (:id, :name, :guid, 0, :api_key, 'R')"), row)
            for name, photos in subjects.items():
                subject = {"api_key": api_key, "name": name}
                of = connection.scalar(
                    sa.text("INSERT INTO subject VALUES (gen_random_uuid(), :api_key, :name) RETURNING id"), subject
                )
                for photo in photos:
                    image = photo and connection.scalar(
                        sa.text("INSERT INTO img VALUES (gen_random_uuid(), :photo) RETURNING id"), {"photo": photo}
                    )
                    connection.execute(
                        sa.text("INSERT INTO embedding VALUES (gen_random_uuid(), :of, :numbers, 'facenet', :image)"),
                        {"of": of, "numbers": [0.1] * 512, "image": image},
                    )
    engine.dispose()


def plain(url: str) -> str:
    """An address as CompreFace's users write it."""
    return url.replace("+psycopg", "")


def test_comprefaces_photos_come_out_with_their_subjects(postgres: str) -> None:  # noqa: F811
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


def test_comprefaces_services_are_kept_apart(postgres: str) -> None:  # noqa: F811
    fill(postgres, {FIRST: {"ada": [b"one"]}, SECOND: {"ada": [b"two"]}})
    with pytest.raises(TransferError, match=r"--service; .*'service 0', 'service 1'"):
        CompreFaceDatabase(postgres, None, 100)
    for name in ("service 1", SECOND):
        database = CompreFaceDatabase(postgres, name, 100)
        (photo,) = database
        assert isinstance(photo, ImportedPhoto)
        assert photo.read() == b"two"
        database.close()


def test_what_is_no_compreface(postgres: str) -> None:  # noqa: F811
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
