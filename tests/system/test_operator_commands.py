"""What an operator does to a gallery, with the commands as they are typed, and a real server before and after."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import checkpoint, probe
from models.network import instantiate, torch_forward
from models.pretrained import RECOGNISER

ADMIN_KEY = "an admin key for tests only"
COMMAND = Path(sys.executable).with_name("facemargin")
PEOPLE = {"a": ("006_A.jpg", "004_A.jpg"), "b": ("007_B.jpg",), "obama": ("obama.jpg", "obama2.jpg")}


@pytest.fixture
def environment(compiled: Path) -> dict[str, str]:
    return {"FACEMARGIN_ADMIN_KEY": ADMIN_KEY, "FACEMARGIN_CACHE_DIR": str(compiled), "FACEMARGIN_THREADS": "1"}


@pytest.fixture
def facemargin(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`facemargin("service", "fsck", ...)`; `status` is what it must exit with."""

    def run(*arguments: object, status: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [COMMAND, *map(str, arguments)],
            env={**os.environ, **environment, **more},
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture
def people(demo: Path, tmp_path: Path) -> Path:
    """A folder of subject/photo.jpg, with one photo that shows nobody."""
    folder = tmp_path / "people"
    for subject, photos in PEOPLE.items():
        (folder / subject).mkdir(parents=True)
        for photo in photos:
            shutil.copy(demo / photo, folder / subject)
    shutil.copy(demo / "017_0.jpg", folder / "b")
    return folder


def known(server: Any, photo: Path) -> str | None:
    """Who the best face of a photo is, by a running server."""
    with server.client() as client:
        face = client.post("/v1/identify", files={"image": photo.read_bytes()}).json()["faces"][0]
    return face["candidates"][0]["subject_id"] if face["candidates"] else None


def test_import_check_back_up_restore(
    facemargin: Any, start: Any, environment: dict[str, str], people: Path, demo: Path, tmp_path: Path
) -> None:
    data_dir, backup, restored = tmp_path / "data", tmp_path / "monday.fmbackup", tmp_path / "restored"
    report = tmp_path / "report.json"
    facemargin("import", people, "--data-dir", data_dir, "--report", report)
    document = json.loads(report.read_text())
    assert (document["enrolled"], document["rejected"], document["skipped"]) == (5, 1, 0)
    assert document["reasons"] == {"no_face": 1}
    facemargin("import", people, "--data-dir", data_dir, "--report", report)
    assert json.loads(report.read_text())["skipped"] == 5
    assert json.loads(facemargin("service", "fsck", "--json", "--data-dir", data_dir).stdout)["intact"] is True

    server = start(data_dir, **environment).wait_until_ready()
    facemargin("service", "backup", backup, "--data-dir", data_dir)  # while it is served
    refused = facemargin("import", people, "--data-dir", data_dir, status=2)
    assert len(refused.stderr.strip().splitlines()) == 1
    server.stop()
    facemargin("service", "restore", backup, "--data-dir", restored)
    facemargin("service", "restore", backup, "--data-dir", restored, status=2)
    server = start(restored, **environment).wait_until_ready()
    assert known(server, demo / "002_A.jpg") == "a"
    assert known(server, demo / "obama3.jpg") == "obama"
    with server.client() as client:
        entries = client.get("/v1/audit").json()["entries"]
    (noted,) = [entry for entry in entries if entry["action"] == "restore"]
    assert (noted["details"], noted["actor"]) == ({"faces": 5}, "facemargin service")
    server.stop()


def test_what_is_damaged_is_found(facemargin: Any, people: Path, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    facemargin("import", people, "--data-dir", data_dir)
    with sqlite3.connect(data_dir / "facemargin.db") as connection:
        connection.execute("UPDATE faces SET embedding = zeroblob(2048) WHERE key = 2")
        connection.execute("DELETE FROM revisions WHERE face_key = 3")
    found = json.loads(facemargin("service", "fsck", "--json", "--data-dir", data_dir, status=1).stdout)["findings"]
    assert len(found) >= 2
    assert any("revision" in finding["check"] for finding in found)


def test_keys_are_made_shown_once_and_revoked(
    facemargin: Any, start: Any, environment: dict[str, str], tmp_path: Path
) -> None:
    data_dir = tmp_path / "data"
    server = start(data_dir, **environment).wait_until_ready()
    secret = facemargin("keys", "create", "a camera", "--role", "read", "--data-dir", data_dir).stdout.strip()
    with server.client(secret) as client:
        own = client.get("/v1/keys/self").json()
        assert (own["name"], own["role"]) == ("a camera", "read")
        assert client.get("/v1/audit").status_code == 403
        listed = facemargin("keys", "list", "--data-dir", data_dir).stdout
        assert own["id"] in listed
        assert secret not in listed
        facemargin("keys", "revoke", own["id"], "--data-dir", data_dir)
        assert client.get("/v1/keys/self").status_code == 401
    facemargin("keys", "revoke", own["id"], "--data-dir", data_dir, status=2)
    facemargin("keys", "list", "--data-dir", tmp_path / "nothing", status=2)
    server.stop()


def test_an_encryption_key_is_replaced(facemargin: Any, people: Path, tmp_path: Path) -> None:
    data_dir, keys = tmp_path / "data", tmp_path / "keys"
    facemargin("import", people, "--data-dir", data_dir)
    where = ("--data-dir", data_dir, "--encryption-key-file", keys)
    for _ in range(2):  # in the clear to the first key, and from that to the second
        facemargin("service", "new-key", keys)
        facemargin("service", "rotate-key", *where)
        newest = keys.read_text().splitlines()[0]
        keys.write_text(newest + "\n")  # the older ones may go
        assert json.loads(facemargin("service", "fsck", "--json", *where).stdout)["intact"] is True
    without = facemargin("service", "fsck", "--json", "--data-dir", data_dir, status=1)
    assert "encryption key" in without.stdout


def test_a_gallery_moves_to_another_recogniser_by_its_crops(
    facemargin: Any, start: Any, environment: dict[str, str], people: Path, demo: Path, tmp_path: Path
) -> None:
    data_dir, bare, other = tmp_path / "data", tmp_path / "bare", tmp_path / "other.safetensors"
    loaded = checkpoint.read(RECOGNISER)
    weights = {name: np.asarray(array * 1.001).astype(array.dtype) for name, array in loaded.weights.items()}
    changed = checkpoint.Checkpoint(loaded.metadata, weights)
    fresh = probe.make(torch_forward(instantiate(changed)), 112, 112)
    written = checkpoint.write(other, weights, loaded.metadata.model_copy(update={"name": "other", "probe": fresh}))

    facemargin("import", people, "--data-dir", bare)
    refused = facemargin("service", "reembed", "--recogniser", other, "--data-dir", bare, status=2)
    assert "crop" in refused.stderr
    facemargin("import", people, "--data-dir", data_dir, FACEMARGIN_KEEP_CROPS="true")
    facemargin("models", "use", other, "--data-dir", data_dir, status=2)
    facemargin("service", "reembed", "--recogniser", other, "--data-dir", data_dir)
    assert written.model_id in facemargin("models", "use", other, "--data-dir", data_dir).stdout
    server = start(data_dir, **environment).wait_until_ready()
    with server.client() as client:
        assert client.get("/v1/model").json()["model"] == written.model_id
    assert known(server, demo / "002_A.jpg") == "a"
    server.stop()
