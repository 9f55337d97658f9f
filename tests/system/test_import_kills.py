"""Imports by the command line: through a server, from CompreFace, and killed half-way."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from compreface_database import FIRST, fill
from launching.server import COMMAND
from transfer import portable

from models import checkpoint
from models.pretrained import RECOGNISER

ADMIN_KEY = "an admin key for tests only"
FACES = 4_000


@pytest.fixture
def environment(compiled: Path) -> dict[str, str]:
    return {"FACEMARGIN_ADMIN_KEY": ADMIN_KEY, "FACEMARGIN_CACHE_DIR": str(compiled), "FACEMARGIN_THREADS": "1"}


@pytest.fixture
def launch(environment: dict[str, str]) -> Callable[..., subprocess.Popen[str]]:
    """Start `facemargin ...`."""

    def started(*arguments: object) -> subprocess.Popen[str]:
        command = [COMMAND, *map(str, arguments)]
        inherited = {**os.environ, **environment}
        return subprocess.Popen(command, env=inherited, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return started


def finished(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Its report."""
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, out + err
    report: dict[str, Any] = json.loads(out)
    return report


def faces_in(database: Path, condition: str = "true") -> int:
    """How many faces are committed, of those that fulfil a condition; 0 before there is a table."""
    if not database.exists():
        return 0
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        try:
            return int(connection.execute(f"SELECT count(*) FROM faces WHERE {condition}").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


def portable_file(path: Path, count: int) -> Path:
    loaded = checkpoint.read(RECOGNISER)
    assert loaded.metadata.embedding_size is not None
    with path.open("wb") as file:
        for part in portable(count, loaded.metadata.embedding_size, loaded.model_id):
            file.write(part)
    return path


def test_an_import_killed_half_way_is_sent_again(launch: Any, tmp_path: Path) -> None:
    data_dir, file = tmp_path / "data", portable_file(tmp_path / "faces.ndjson", FACES)
    command = ("import", file, "--data-dir", data_dir, "--json")
    killed = launch(*command)
    deadline = time.monotonic() + 120
    while faces_in(data_dir / "facemargin.db") < 1000:
        assert killed.poll() is None, killed.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    before = faces_in(data_dir / "facemargin.db")
    assert 1000 <= before < FACES
    assert before % 1000 == 0, "a batch is whole or not there"
    assert sorted(path.name for path in data_dir.iterdir() if "spool" in path.name or path.suffix == ".part") == []

    report = finished(launch(*command))
    assert (report["imported"], report["skipped"], report["rejected"]) == (FACES - before, before, 0)
    assert faces_in(data_dir / "facemargin.db") == FACES
    with closing(sqlite3.connect(data_dir / "facemargin.db")) as connection:
        assert connection.execute("SELECT count(*) FROM subjects").fetchone()[0] == FACES // 4
        empty = "SELECT count(*) FROM subjects WHERE key NOT IN (SELECT subject_key FROM faces)"
        assert connection.execute(empty).fetchone()[0] == 0
    _seal_with_a_kill_half_way(launch, data_dir, tmp_path / "keys")


def _seal_with_a_kill_half_way(launch: Any, data_dir: Path, keys: Path) -> None:
    where = ("--data-dir", data_dir, "--encryption-key-file", keys)
    assert launch("service", "new-key", keys).wait(60) == 0
    killed = launch("service", "rotate-key", *where)
    while not 0 < faces_in(data_dir / "facemargin.db", "sealed_with IS NOT NULL") < FACES:
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert faces_in(data_dir / "facemargin.db", "sealed_with IS NULL") > 0
    assert finished(launch("service", "fsck", "--json", *where))["intact"] is True
    again = launch("service", "rotate-key", *where)
    assert again.wait(120) == 0
    assert faces_in(data_dir / "facemargin.db", "sealed_with IS NULL") == 0
    assert finished(launch("service", "fsck", "--json", *where))["intact"] is True


def test_a_server_killed_in_an_import_keeps_whole_batches_and_marks_its_job(
    launch: Any, start: Any, environment: dict[str, str], demo: Path, tmp_path: Path
) -> None:
    data_dir, people = tmp_path / "data", tmp_path / "people"
    for number in range(40):
        (people / f"s{number}").mkdir(parents=True)
        # Other bytes after the picture's end: another photo by its digest.
        (people / f"s{number}" / "1.jpg").write_bytes((demo / "obama.jpg").read_bytes() + bytes([number]))
    subprocess.run(["python3", "-m", "zipfile", "-c", tmp_path / "people.zip", people], check=True)
    photos = (tmp_path / "people.zip").read_bytes()
    server = start(data_dir, **environment).wait_until_ready()
    address, zipped = "/v1/collections/default/import", {"Content-Type": "application/zip"}
    with server.client() as client:
        job_id = client.post(address, content=photos, headers=zipped).json()["job_id"]
        while faces_in(data_dir / "facemargin.db") < 5:
            time.sleep(0.01)
    server.kill()
    before = faces_in(data_dir / "facemargin.db")
    assert not any(b"PK\x03\x04" in path.read_bytes() for path in data_dir.iterdir() if path.is_file())

    server = start(data_dir, **environment).wait_until_ready()
    with server.client() as client:
        assert client.get(f"/v1/jobs/{job_id}").json()["state"] == "interrupted"
        again = client.post(address, content=photos, headers=zipped).json()["job_id"]
        while (job := client.get(f"/v1/jobs/{again}").json())["state"] in ("queued", "running"):
            time.sleep(0.1)
        assert (job["report"]["enrolled"], job["report"]["skipped"]) == (40 - before, before)
    # The same people through the server, by the command line: all are there already.
    report = finished(launch("import", people, "--url", server.address, "--api-key", ADMIN_KEY, "--json"))
    assert (report["enrolled"], report["skipped"], report["rejected"]) == (0, 40, 0)
    server.stop()


def test_compreface_moves_over(
    launch: Any, start: Any, environment: dict[str, str], postgres: str, demo: Path, tmp_path: Path
) -> None:
    obama, ada = ((demo / name).read_bytes() for name in ("obama.jpg", "006_A.jpg"))
    fill(postgres, {FIRST: {"obama": [obama, None], "ada": [ada]}})
    server = start(tmp_path / "data", **environment).wait_until_ready()
    where = ("--url", server.address, "--api-key", ADMIN_KEY, "--json")
    report = finished(launch("import", postgres, "--from", "compreface", *where))
    assert (report["enrolled"], report["reasons"]) == (2, {"photo_not_kept": 1})
    with server.client() as client:
        seen = client.post("/v1/identify", files={"image": (demo / "obama3.jpg").read_bytes()}).json()["faces"][0]
    assert seen["candidates"][0]["subject_id"] == "obama"

    exported, copy = tmp_path / "faces.ndjson", tmp_path / "copy"
    assert launch("service", "export", exported, *where[:4]).wait(60) == 0
    assert finished(launch("import", exported, "--data-dir", copy, "--json"))["imported"] == 2
    wrong = launch("import", exported, "--url", server.address, "--api-key", "another")
    _, err = wrong.communicate(timeout=60)
    assert wrong.returncode == 2
    assert "401" in err
    assert len(err.strip().splitlines()) == 1
    server.stop()
