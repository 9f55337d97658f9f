"""No acknowledged face is lost: clients enrol while the server is killed with -9 at random, again and again.

Half of the clients send an interrupted enrolment again under its Idempotency-Key: it must take effect exactly
once. The others give it up: it must have taken effect wholly or not at all. Each enrolment brings two faces at once.
Afterwards every acknowledged face must be found exactly once, nothing half-written, and `service fsck` content.

Example: python bench/durability.py --kills 100 --json durability.json
"""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import httpx
from launching.postgres import PostgresMissing, postgres_server
from launching.server import ADMIN_KEY, COMMAND, Server, free_port
from PIL import Image

CLIENTS = 8
_SUBJECTS_A_COLLECTION = 90  # one search ranks at most 100
_PHOTO_WIDTH = 320  # small, so that there are many enrolments to interrupt
_AT_WORK_SECONDS = (0.2, 1.6)
_STARTING_SECONDS = (0.3, 1.2)
_KILLED_WHILE_STARTING = 0.15
_FACES_EACH = 2


class FaceLost(AssertionError):
    """The gallery does not hold what was acknowledged; the message says what differs."""


@dataclass
class Ledger:
    """What the clients were told. acknowledged: face ids by (collection, subject)."""

    acknowledged: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    interrupted: int = 0
    errors: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class Outcome:
    """What a run did. seconds: all of it; restart_seconds: from each start to ready."""

    kills: int
    acknowledged_faces: int
    interrupted_requests: int
    seconds: float
    restart_seconds: list[float]

    def row(self, database: str) -> dict[str, Any]:
        """As a row of the bench."""
        ready = sorted(self.restart_seconds)
        return {
            "database": database,
            "kills": self.kills,
            "clients": CLIENTS,
            "acknowledged_faces": self.acknowledged_faces,
            "lost_faces": 0,
            "interrupted_requests": self.interrupted_requests,
            "restart_seconds_median": round(ready[len(ready) // 2], 2),
            "seconds": round(self.seconds, 1),
        }


def survive(folder: Path, photos: list[bytes], kills: int, seed: int, **environment: str) -> Outcome:
    """Enrol from 8 clients through so many kills, then look. photos: two people's, small.

    Raises FaceLost.
    """
    began = time.monotonic()
    port = free_port()
    environment = {"FACEMARGIN_ADMIN_KEY": ADMIN_KEY, "FACEMARGIN_RATE_LIMIT": "10000", **environment}
    ledger, stop = Ledger(), threading.Event()
    clients = [
        threading.Thread(target=_Client(number, f"http://127.0.0.1:{port}", photos, ledger, stop).run)
        for number in range(CLIENTS)
    ]

    server = _Restarted(folder, port, environment)
    try:
        server.start().wait_until_ready()
        for client in clients:
            client.start()
        try:
            server.kill_at_random(kills, random.Random(seed), ledger)
        finally:
            stop.set()
            for client in clients:
                client.join()
        _check(server.now, photos, ledger)
        code = server.now.stop()
    finally:
        server.end()
    _expect("Traceback" not in server.now.output.read_text(), f"exit code {code}:\n{server.now.output.read_text()}")
    _fsck(folder / "data", environment)
    faces = sum(len(ids) for ids in ledger.acknowledged.values())
    return Outcome(kills, faces, ledger.interrupted, time.monotonic() - began, server.restart_seconds)


class _Restarted:
    """A server on one port and one data folder, started again after each kill."""

    def __init__(self, folder: Path, port: int, environment: dict[str, str]) -> None:
        self.restart_seconds: list[float] = []
        self._folder = folder
        self._port = port
        self._environment = environment
        self._servers: list[Server] = []

    @property
    def now(self) -> Server:
        """The one that was started last."""
        return self._servers[-1]

    def start(self) -> Server:
        """Start one more."""
        log = self._folder / f"server-{len(self._servers)}.log"
        self._servers.append(Server(self._folder / "data", log, self._port, **self._environment))
        return self.now

    def kill_at_random(self, kills: int, chance: random.Random, ledger: Ledger) -> None:
        """Kill and start it so many times; it is ready at the end. Raises FaceLost once a client was refused."""
        for number in range(kills):
            began = time.monotonic()
            # Also in the middle of coming up, where the index is built and what a crash left is cleared away.
            if number and chance.random() < _KILLED_WHILE_STARTING:
                time.sleep(chance.uniform(*_STARTING_SECONDS))
            else:
                self.now.wait_until_ready()
                self.restart_seconds.append(time.monotonic() - began)
                time.sleep(chance.uniform(*_AT_WORK_SECONDS))
            self.now.kill()
            _expect(
                not ledger.errors, f"a client was refused: {ledger.errors[:3]}\n{self.now.output.read_text()[-4000:]}"
            )
            self.start()
        self.now.wait_until_ready()

    def end(self) -> None:
        """Leave no process behind."""
        if self.now.process.poll() is None:
            self.now.kill()


class _Client:
    """One caller, who enrols one subject after the other until told to stop."""

    def __init__(self, number: int, address: str, photos: list[bytes], ledger: Ledger, stop: threading.Event) -> None:
        self._number = number
        self._address = address
        self._photos = photos
        self._ledger = ledger
        self._stop = stop
        self._insists = number % 2 == 0

    def run(self) -> None:
        """Enrol until stopped; an insisting client then still finishes what it has begun."""
        with httpx.Client(base_url=self._address, headers={"X-API-Key": ADMIN_KEY}, timeout=60) as http:
            subject = 0
            while not self._stop.is_set() and not self._ledger.errors:
                collection = f"client{self._number}-{subject // _SUBJECTS_A_COLLECTION}"
                if subject % _SUBJECTS_A_COLLECTION == 0:
                    self._send(http, "PUT", f"/v1/collections/{collection}", insists=True)
                name = f"subject{subject}"
                answer = self._send(
                    http,
                    "POST",
                    f"/v1/collections/{collection}/subjects/{name}/faces?face_policy=largest",
                    insists=self._insists,
                    files=[("image", (f"{number}.jpg", photo)) for number, photo in enumerate(self._photos)],
                )
                if answer is not None:
                    ids = [face["face_id"] for face in answer["indexed"]]
                    with self._ledger.lock:
                        self._ledger.acknowledged[collection, name] = ids
                subject += 1

    def _send(self, http: httpx.Client, method: str, path: str, *, insists: bool, **content: Any) -> Any:
        """The answer's document; None if it was interrupted and this client does not insist."""
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        while True:
            try:
                answer = http.request(method, path, headers=headers, **content)
            except httpx.ConnectError:
                time.sleep(0.1)  # nothing was sent
                continue
            except httpx.TransportError:
                with self._ledger.lock:
                    self._ledger.interrupted += 1
                if not insists:
                    return None
                continue
            if answer.status_code == 503:
                time.sleep(0.1)  # still loading, or busy
                continue
            if answer.status_code not in (200, 201):
                with self._ledger.lock:
                    self._ledger.errors.append(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
                return None
            return answer.json()


def _check(server: Server, photos: list[bytes], ledger: Ledger) -> None:
    """Every acknowledged face is found once, by each photo; what was not acknowledged is whole or absent."""
    with server.client() as http:
        for collection in _pages(http, "/v1/collections", "collections"):
            name = collection["id"]
            subjects = {
                row["subject_id"]: row["faces"] for row in _pages(http, f"/v1/collections/{name}/subjects", "subjects")
            }
            halves = {subject: faces for subject, faces in subjects.items() if faces != _FACES_EACH}
            _expect(not halves, f"{name}: half-written or doubled: {halves}")
            told = {subject: ids for (where, subject), ids in ledger.acknowledged.items() if where == name}
            _expect(told.keys() <= subjects.keys(), f"{name}: lost: {told.keys() - subjects.keys()}")
            for number, photo in enumerate(photos):
                found = _search(http, name, photo)
                once = sorted(found) == sorted(subjects)
                _expect(once, f"{name}: searchable {len(found)} of {len(subjects)}, not once each")
                wrong = [subject for subject, ids in told.items() if found[subject] != ids[number]]
                _expect(not wrong, f"{name}: another face than the acknowledged one: {wrong}")


def _search(http: httpx.Client, collection: str, photo: bytes) -> dict[str, str]:
    """The best face of every subject of a collection. Raises FaceLost when a subject appears twice."""
    query = {"collection": collection, "top_k": 100, "threshold": -1, "max_faces": 1}
    answer = http.post("/v1/identify", params=query, files={"image": photo})
    _expect(answer.status_code == 200, answer.text)
    candidates = answer.json()["faces"][0]["candidates"]
    found = {candidate["subject_id"]: candidate["face_id"] for candidate in candidates}
    _expect(len(found) == len(candidates), f"{collection}: a subject is found twice")
    return found


def _pages(http: httpx.Client, path: str, name: str) -> Iterator[dict[str, Any]]:
    cursor: str | None = None
    while True:
        query = {"limit": 1000, **({"cursor": cursor} if cursor else {})}
        page = http.get(path, params=query).raise_for_status().json()
        yield from page[name]
        cursor = page["next_cursor"]
        if cursor is None:
            return


def _fsck(data_dir: Path, environment: dict[str, str]) -> None:
    command = [COMMAND, "service", "fsck", "--data-dir", data_dir]
    result = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    _expect(result.returncode == 0, f"fsck: {result.stdout}{result.stderr}")


def _expect(holds: bool, message: str) -> None:
    if not holds:
        raise FaceLost(message)


def small_photos(demo: Path) -> list[bytes]:
    """Photos of two people, small enough to be enrolled quickly."""
    return [_shrunk(demo / name) for name in ("obama.jpg", "biden.jpg")]


def _shrunk(path: Path) -> bytes:
    with Image.open(path) as image:
        width, height = image.size
        small = image.convert("RGB").resize((_PHOTO_WIDTH, round(height * _PHOTO_WIDTH / width)))
    encoded = io.BytesIO()
    small.save(encoded, "JPEG", quality=90)
    return encoded.getvalue()


@contextmanager
def database(name: str) -> Iterator[dict[str, str]]:
    """The environment of a server over `sqlite` (in its data folder) or `postgresql` (a server of its own)."""
    if name == "sqlite":
        yield {}
    else:
        with postgres_server() as url:
            yield {"FACEMARGIN_DATABASE_URL": url}


@click.command()
@click.option(
    "--shared",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=lambda: os.environ.get("FACEMARGIN_SHARED", Path(__file__).resolve().parents[2] / "shared"),
    help="Folder of data/demo; default: $FACEMARGIN_SHARED, or `shared` beside the checkout.",
)
@click.option("--kills", type=click.IntRange(1), default=5, show_default=True, help="100 is the full size.")
@click.option("--seed", type=int, default=5, show_default=True)
@click.option("--databases", default="sqlite,postgresql", show_default=True)
@click.option("--json", "output", type=click.Path(dir_okay=False, path_type=Path), required=True)
def main(shared: Path, kills: int, seed: int, databases: str, output: Path) -> None:
    """Kill, restart, look; write name, machine, rows and ratios as JSON."""
    from training.evaluation import machine  # it needs torch, which the tests that import this module do not

    photos = small_photos(shared / "data" / "demo")
    rows = []
    for name in databases.split(","):
        try:
            with tempfile.TemporaryDirectory() as folder, database(name) as environment:
                cache = {"FACEMARGIN_CACHE_DIR": str(Path(folder) / "cache")}
                rows.append(survive(Path(folder), photos, kills, seed, **cache, **environment).row(name))
        except PostgresMissing as error:
            rows.append({"database": name, "skipped": str(error)})
        click.echo(json.dumps(rows[-1]))
    document = {"name": "durability", "machine": machine.describe(), "rows": rows, "ratios": {}}
    output.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
