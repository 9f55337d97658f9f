"""Stopping: what runs is answered, what comes is told to go elsewhere, and all of it ends in time."""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from launching.server import ADMIN_KEY, Server

from models import pretrained


@pytest.fixture
def environment(compiled: Path) -> dict[str, str]:
    return {"FACEMARGIN_ADMIN_KEY": ADMIN_KEY, "FACEMARGIN_CACHE_DIR": str(compiled)}


class Trickle(threading.Thread):
    """A request whose body comes slowly, so that it still runs when the server is told to stop."""

    def __init__(self, server: Server, photo: bytes) -> None:
        super().__init__(daemon=True)
        self.enough = threading.Event()
        self.answer: httpx.Response | None = None
        self.failure: httpx.TransportError | None = None
        self.begun = threading.Event()
        self._server = server
        self._photo = photo
        self.start()
        assert self.begun.wait(60)
        time.sleep(0.5)

    def run(self) -> None:
        def body() -> Any:
            yield b'--cut\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n' + self._photo
            self.begun.set()
            self.enough.wait(60)
            yield b"\r\n--cut--\r\n"

        headers = {"X-API-Key": ADMIN_KEY, "Content-Type": "multipart/form-data; boundary=cut"}
        try:
            self.answer = httpx.post(f"{self._server.address}/v1/identify", content=body(), headers=headers, timeout=30)
        except httpx.TransportError as failure:
            self.failure = failure


def await_draining(server: Server) -> None:
    """Told to stop, it soon says that it is not ready any more."""
    deadline = time.monotonic() + 20
    while (ready := httpx.get(f"{server.address}/readyz")).status_code != 503:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert ready.json()["code"] == "draining"


def test_running_requests_finish_and_new_ones_are_refused(
    start: Callable[..., Any], environment: dict[str, str], tmp_path: Path, demo: Path
) -> None:
    server = start(tmp_path / "data", **environment).wait_until_ready()
    request = Trickle(server, (demo / "obama.jpg").read_bytes())
    server.process.send_signal(signal.SIGTERM)
    await_draining(server)

    assert httpx.get(f"{server.address}/healthz").status_code == 200
    refused = httpx.get(f"{server.address}/v1/model", headers={"X-API-Key": ADMIN_KEY})
    assert (refused.status_code, refused.json()["code"]) == (503, "draining")
    assert refused.headers["Retry-After"].isdecimal()
    assert refused.headers["Connection"] == "close"

    request.enough.set()
    request.join()
    assert request.answer is not None, request.failure
    assert request.answer.status_code == 200
    assert request.answer.json()["faces"][0]["decision"] == "unknown"
    assert server.process.wait(30) in (0, -signal.SIGTERM)
    assert "Traceback" not in server.output.read_text()


def test_a_notice_lets_a_load_balancer_look_elsewhere_first(
    start: Callable[..., Any], environment: dict[str, str], tmp_path: Path
) -> None:
    server = start(tmp_path / "data", **environment, FACEMARGIN_DRAIN_NOTICE="5").wait_until_ready()
    server.process.send_signal(signal.SIGTERM)
    await_draining(server)
    with server.client() as client:
        assert client.get("/v1/model").status_code == 200
    assert server.process.wait(30) in (0, -signal.SIGTERM)


def test_a_request_that_never_ends_does_not_hold_the_server(
    start: Callable[..., Any], environment: dict[str, str], tmp_path: Path, demo: Path
) -> None:
    server = start(tmp_path / "data", **environment, FACEMARGIN_DRAIN_SECONDS="1").wait_until_ready()
    request = Trickle(server, (demo / "obama.jpg").read_bytes())
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(30)
    assert time.monotonic() - began < 20
    request.enough.set()
    request.join()
    assert request.answer is None or request.answer.status_code >= 400


def test_a_checkpoint_replaced_under_a_running_server_changes_nothing_until_it_restarts(
    start: Callable[..., Any], environment: dict[str, str], tmp_path: Path, demo: Path
) -> None:
    recogniser = tmp_path / "mine.safetensors"
    shutil.copy(pretrained.RECOGNISER, recogniser)
    chosen = {"FACEMARGIN_RECOGNISER": str(recogniser)}
    server = start(tmp_path / "data", **environment, **chosen).wait_until_ready()
    with server.client() as client:
        before = client.get("/v1/status").json()
        assert before["restart_needed"] is False
        recogniser.write_bytes(b"not a checkpoint any more" * 1000)
        after = client.get("/v1/status").json()
        assert after["restart_needed"] is True
        assert after["model"] == before["model"]
        files = {"source": (demo / "006_A.jpg").read_bytes(), "target": (demo / "002_A.jpg").read_bytes()}
        assert client.post("/v1/verify", files=files).json()["match"] is True
        assert "facemargin_restart_needed 1.0" in client.get("/metrics").text
    server.stop()
    warned = [json.loads(line) for line in server.output.read_text().splitlines() if line.startswith("{")]
    assert [line["level"] for line in warned if "mine.safetensors" in line["message"]] == ["WARNING"]

    again = start(tmp_path / "data", **environment, **chosen)
    assert again.process.wait(timeout=60) == 2
    assert "mine.safetensors" in again.output.read_text()


def test_the_index_is_saved_now_and_then_and_on_stopping(
    start: Callable[..., Any], environment: dict[str, str], tmp_path: Path, demo: Path
) -> None:
    often = {"FACEMARGIN_SNAPSHOT_SECONDS": "0.5"}
    server = start(tmp_path / "data", **environment, **often).wait_until_ready()

    def enrol(client: httpx.Client, subject: str) -> int:
        files = {"image": (demo / "obama.jpg").read_bytes()}
        answer = client.post(f"/v1/collections/default/subjects/{subject}/faces", files=files)
        return int(answer.json()["gallery_revision"])

    def saved(client: httpx.Client) -> int | None:
        (index,) = client.get("/v1/status").json()["index"]
        revision: int | None = index["snapshot_revision"]
        return revision

    with server.client() as client:
        first = enrol(client, "a")
        deadline = time.monotonic() + 60
        while saved(client) != first:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    server.stop()

    server = start(tmp_path / "data", **environment, FACEMARGIN_SNAPSHOT_SECONDS="3600").wait_until_ready()
    with server.client() as client:
        assert saved(client) == first
        second = enrol(client, "b")
        assert saved(client) == first
    server.stop()

    server = start(tmp_path / "data", **environment).wait_until_ready()
    with server.client() as client:
        assert saved(client) == second
        photo = {"image": (demo / "obama2.jpg").read_bytes()}
        (face,) = client.post("/v1/identify?threshold=0.3", files=photo).json()["faces"]
        assert {candidate["subject_id"] for candidate in face["candidates"]} == {"a", "b"}
