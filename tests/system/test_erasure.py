"""Erased is erased, and sealed is sealed: the files of the data folder are searched for the very bytes."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.security.sealing import add_key

ADMIN_KEY = "an admin key for tests only"
SUBJECTS = "/v1/collections/default/subjects"
PIECE = 64


@pytest.fixture
def environment(compiled: Path) -> dict[str, str]:
    return {
        "FACEMARGIN_ADMIN_KEY": ADMIN_KEY,
        "FACEMARGIN_CACHE_DIR": str(compiled),
        "FACEMARGIN_KEEP_CROPS": "true",
        "FACEMARGIN_SNAPSHOT_SECONDS": "0.5",
    }


def enrolled(client: httpx.Client, subject: str, photo: Path) -> list[bytes]:
    """Enrol a photo with an idempotency key; pieces of the embedding, the crop and the answer's face id."""
    data = photo.read_bytes()
    answer = client.post(
        f"{SUBJECTS}/{subject}/faces", files={"image": data}, headers={"Idempotency-Key": f"token-of-{subject}"}
    )
    assert answer.status_code == 201, answer.text
    face_id = answer.json()["indexed"][0]["face_id"]
    lines = client.get("/v1/collections/default/export").text.splitlines()
    (stored,) = [line for line in map(json.loads, lines) if line.get("face_id") == face_id]
    embedding = base64.b64decode(stored["embedding"])
    halved = np.frombuffer(embedding, "<f4").astype("<f2").tobytes()  # as an index may hold it
    crop = client.get(f"{SUBJECTS}/{subject}/faces/{face_id}/crop").content
    assert len(crop) > 1000
    pieces = [piece for whole in (embedding, halved, crop) for piece in _pieces(whole)]
    return [*pieces, face_id.encode(), subject.encode()]


def _pieces(data: bytes) -> list[bytes]:
    return [data[start : start + PIECE] for start in range(0, len(data) - PIECE, 5 * PIECE)]


def traces(folder: Path, pieces: list[bytes]) -> dict[str, int]:
    """How many of the pieces each file holds, of those that hold any."""
    found = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        data = file.read_bytes()
        count = sum(piece in data for piece in pieces)
        if count:
            found[str(file.relative_to(folder))] = count
    return found


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)


def test_nothing_of_an_erased_subject_is_left_in_any_file(
    start: Callable[..., Any], environment: dict[str, str], tmp_path: Path, demo: Path
) -> None:
    data_dir = tmp_path / "data"
    server = start(data_dir, **environment).wait_until_ready()
    with server.client() as client:
        kept = enrolled(client, "somebody-else", demo / "007_B.jpg")
        gone = enrolled(client, "the-one-who-leaves", demo / "006_A.jpg")
        until(lambda: any(name.startswith("index") for name in traces(data_dir, gone)))
        before = traces(data_dir, gone)
        assert any(name.startswith("facemargin.db") for name in before)
        assert any(name.startswith("index") for name in before), before
        assert client.delete(f"{SUBJECTS}/the-one-who-leaves").status_code == 200
        assert traces(data_dir, gone) == {}
        assert any(name.startswith("facemargin.db") for name in traces(data_dir, kept))
        again = enrolled(client, "the-one-who-leaves", demo / "006_A.jpg")
        assert client.delete(f"{SUBJECTS}/the-one-who-leaves").status_code == 200
    server.kill()
    assert traces(data_dir, gone + again) == {}
    server = start(data_dir, **environment).wait_until_ready()
    server.stop()
    assert traces(data_dir, gone + again) == {}
    assert traces(data_dir, kept) != {}


def test_with_encryption_no_file_holds_a_biometric(
    start: Callable[..., Any], environment: dict[str, str], tmp_path: Path, demo: Path
) -> None:
    data_dir, keys = tmp_path / "data", tmp_path / "keys"
    add_key(keys)
    sealed = environment | {"FACEMARGIN_ENCRYPTION_KEY_FILE": str(keys)}
    server = start(data_dir, **sealed).wait_until_ready()
    with server.client() as client:
        pieces = enrolled(client, "ada", demo / "006_A.jpg")
        biometric = pieces[:-2]
        until(lambda: list((data_dir / "index").iterdir()))
        assert list((data_dir / "index").iterdir())
        assert traces(data_dir, biometric) == {}
    server.kill()
    server = start(data_dir, **sealed).wait_until_ready()
    with server.client() as client:
        answer = client.post("/v1/identify", files={"image": (demo / "002_A.jpg").read_bytes()}).json()
        assert answer["faces"][0]["candidates"][0]["subject_id"] == "ada"
    server.stop()
    assert traces(data_dir, biometric) == {}
    without = start(data_dir, **environment)
    assert without.process.wait(60) == 2
    last = without.output.read_text().strip().splitlines()[-1]
    assert "encryption key" in last
    assert "Traceback" not in without.output.read_text()
