"""The whole service from outside: photos in, answers out, nothing lost when it is killed."""

from __future__ import annotations

import pickle
import re
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from models import pretrained

ADMIN_KEY = "an admin key for tests only"
SUBJECTS = "/v1/collections/default/subjects"


@pytest.fixture
def environment(compiled: Path) -> dict[str, str]:
    return {"FACEMARGIN_ADMIN_KEY": ADMIN_KEY, "FACEMARGIN_CACHE_DIR": str(compiled)}


def enrol(client: httpx.Client, subject: str, photo: Path) -> httpx.Response:
    return client.post(f"{SUBJECTS}/{subject}/faces", files={"image": photo.read_bytes()})


def names(client: httpx.Client, photo: Path) -> list[str | None]:
    """Who each face of a photo is, best face first; None for unknown."""
    answer = client.post("/v1/identify", files={"image": photo.read_bytes()})
    assert answer.status_code == 200, answer.text
    return [
        face["candidates"][0]["subject_id"] if face["decision"] == "known" else None for face in answer.json()["faces"]
    ]


def test_from_the_first_start_to_a_kill_and_back(
    start: Callable[..., Any], environment: dict[str, str], tmp_path: Path, demo: Path
) -> None:
    data_dir = tmp_path / "data"
    server = start(data_dir, **environment).wait_until_ready()
    with server.client() as client:
        files = {"source": (demo / "006_A.jpg").read_bytes(), "target": (demo / "002_A.jpg").read_bytes()}
        assert client.post("/v1/verify", files=files).json()["match"] is True
        files["target"] = (demo / "009_C.jpg").read_bytes()
        assert client.post("/v1/verify", files=files).json()["match"] is False
        for subject, photo in (("a", "006_A.jpg"), ("b", "007_B.jpg"), ("obama", "obama.jpg")):
            assert enrol(client, subject, demo / photo).status_code == 201
    server.kill()

    server = start(data_dir, **environment).wait_until_ready()
    with server.client() as client:
        assert names(client, demo / "002_A.jpg")[0] == "a"
        assert names(client, demo / "008_B.jpg")[0] == "b"
        assert names(client, demo / "obama3.jpg")[0] == "obama"
        assert names(client, demo / "009_C.jpg")[0] is None
        listed = client.get(SUBJECTS).json()["subjects"]
        assert [(subject["subject_id"], subject["faces"]) for subject in listed] == [
            ("a", 1),
            ("b", 1),
            ("obama", 1),
        ]
    server.stop()
    assert "Traceback" not in server.output.read_text()


def test_every_acknowledged_face_survives_a_kill_in_the_middle(
    start: Callable[..., Any], environment: dict[str, str], tmp_path: Path, demo: Path
) -> None:
    data_dir = tmp_path / "data"
    server = start(data_dir, **environment).wait_until_ready()
    acknowledged: set[str] = set()
    photo = demo / "obama.jpg"

    def enrol_until_it_is_gone(worker: int) -> None:
        with server.client() as client:
            for number in range(1000):
                try:
                    answer = enrol(client, f"worker{worker}-{number}", photo)
                except httpx.TransportError:
                    return
                acknowledged.update(face["face_id"] for face in answer.json()["indexed"])
                enough.release()

    enough = threading.Semaphore(0)
    workers = [threading.Thread(target=enrol_until_it_is_gone, args=(number,)) for number in range(3)]
    for worker in workers:
        worker.start()
    for _ in range(12):
        assert enough.acquire(timeout=60)
    server.kill()
    for worker in workers:
        worker.join()

    server = start(data_dir, **environment).wait_until_ready()
    with server.client() as client:
        present: list[str] = []
        for subject in client.get(SUBJECTS, params={"limit": 1000}).json()["subjects"]:
            faces = client.get(f"{SUBJECTS}/{subject['subject_id']}/faces").json()["faces"]
            assert len(faces) == 1, "a subject without its face is a half-written enrolment"
            present += [face["face_id"] for face in faces]
        assert acknowledged <= set(present)
        found = client.post("/v1/identify?top_k=100&threshold=0.9", files={"image": photo.read_bytes()}).json()[
            "faces"
        ][0]["candidates"]
        assert sorted(candidate["face_id"] for candidate in found) == sorted(present)


def test_the_first_key_is_printed_once_and_works(start: Callable[..., Any], compiled: Path, tmp_path: Path) -> None:
    cache = {"FACEMARGIN_CACHE_DIR": str(compiled)}
    server = start(tmp_path / "data", **cache).wait_until_ready()
    printed = re.search(r"API key\s+(fm_\S+)", server.output.read_text())
    assert printed is not None
    with server.client(printed[1]) as client:
        assert client.get("/v1/model").status_code == 200
    with server.client("fm_another") as client:
        assert client.get("/v1/model").status_code == 401
    server.stop()
    again = start(tmp_path / "data", **cache).wait_until_ready()
    assert "fm_" not in again.output.read_text()
    with again.client(printed[1]) as client:
        assert client.get("/v1/model").status_code == 200


def refused(server: Any, words: str) -> None:
    """The server ended with exit code 2 and one line that holds these words."""
    assert server.process.wait(timeout=60) == 2, server.output.read_text()
    said = server.output.read_text()
    assert "Traceback" not in said
    lines = [line for line in said.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, said
    assert re.search(words, lines[0]), said


def test_a_port_in_use(start: Callable[..., Any], environment: dict[str, str], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused(start(tmp_path / "data", port=port, **environment), f"127.0.0.1:{port}.*--port")


def test_a_data_folder_that_cannot_be_one(
    start: Callable[..., Any], environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    refused(start(tmp_path / "file", **environment), "data folder.*--data-dir")


def test_a_data_folder_in_use(start: Callable[..., Any], environment: dict[str, str], tmp_path: Path) -> None:
    start(tmp_path / "data", **environment).wait_until_ready()
    refused(start(tmp_path / "data", **environment), "another facemargin")


def test_a_database_that_cannot_be_reached(
    start: Callable[..., Any], environment: dict[str, str], tmp_path: Path
) -> None:
    elsewhere = {"FACEMARGIN_DATABASE_URL": "sqlite:////nonexistent/folder/gallery.db"}
    refused(start(tmp_path / "data", **environment, **elsewhere), "database.*cannot be used")


def test_a_database_elsewhere(start: Callable[..., Any], environment: dict[str, str], tmp_path: Path) -> None:
    elsewhere = {"FACEMARGIN_DATABASE_URL": f"sqlite:///{tmp_path / 'elsewhere.db'}"}
    start(tmp_path / "data", **environment, **elsewhere).wait_until_ready()
    assert (tmp_path / "elsewhere.db").stat().st_size > 0


@pytest.mark.parametrize("kind", ["truncated", "pickle", "wrong task"])
def test_a_bad_checkpoint(start: Callable[..., Any], environment: dict[str, str], tmp_path: Path, kind: str) -> None:
    bad = tmp_path / "bad.safetensors"
    good = pretrained.RECOGNISER.read_bytes()
    if kind == "truncated":
        bad.write_bytes(good[: len(good) // 2])
    elif kind == "pickle":
        bad.write_bytes(pickle.dumps({"weight": [0.0] * 100}))
    else:
        shutil.copy(pretrained.DETECTOR, bad)
    refused(start(tmp_path / "data", **environment, FACEMARGIN_RECOGNISER=str(bad)), "bad.safetensors")


def test_a_wrong_option(start: Callable[..., Any], environment: dict[str, str], tmp_path: Path) -> None:
    refused(start(tmp_path / "data", **environment, FACEMARGIN_MAX_FACES="none"), "FACEMARGIN_MAX_FACES")
