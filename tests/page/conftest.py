"""The page as its users meet it: a server process, a browser, real photos."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from launching.server import ADMIN_KEY, Server
from page.browsing import Visit, launch, visiting
from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright

COLLECTION = "default"
expect.set_options(timeout=20_000)  # milliseconds: a busy machine is slow, not wrong


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that keeps crops."""
    folder = tmp_path_factory.mktemp("page")
    environment = {"FACEMARGIN_ADMIN_KEY": ADMIN_KEY, "FACEMARGIN_KEEP_CROPS": "true"}
    running = Server(folder / "data", folder / "server.log", 0, **environment)
    try:
        yield running.wait_until_ready()
    finally:
        running.stop()


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[httpx.Client]:
    """An administrator beside the browser."""
    with server.client() as opened:
        yield opened


@pytest.fixture(scope="session")
def new_key(client: httpx.Client) -> Callable[..., str]:
    """`new_key("read", collections=[...])` makes a key and gives its secret."""

    def make(role: str, **members: object) -> str:
        answer = client.post("/v1/keys", json={"name": f"a {role} key", "role": role, **members})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["secret"])

    return make


@pytest.fixture(scope="session")
def known(client: httpx.Client, demo: Path) -> str:
    """Somebody enrolled: the id of the person on biden.jpg."""
    subject = f"/v1/collections/{COLLECTION}/subjects/joe"
    client.put(subject, json={"name": "Joe Known"}).raise_for_status()
    with (demo / "biden.jpg").open("rb") as photo:
        client.post(f"{subject}/faces", files={"image": photo}).raise_for_status()
    return "joe"


@pytest.fixture(scope="session")
def camera(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the browser's camera sees: the person on biden.jpg, as MJPEG."""
    with Image.open(demo / "biden.jpg") as photo:
        photo.thumbnail((640, 640))
        frame = io.BytesIO()
        even = photo.crop((0, 0, photo.width // 2 * 2, photo.height // 2 * 2))  # Chromium refuses odd sizes
        even.convert("RGB").save(frame, "JPEG", quality=90)
    path = tmp_path_factory.mktemp("camera") / "camera.mjpeg"
    path.write_bytes(frame.getvalue() * 2)
    return path


@pytest.fixture(scope="session")
def browser(camera: Path) -> Iterator[Browser]:
    """One Chromium for all tests."""
    with sync_playwright() as playwright:
        opened = launch(playwright, camera)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser: Browser, server: Server) -> Iterator[Visit]:
    """Somebody at the page, not signed in; after the test nothing may have gone wrong unseen."""
    with visiting(browser, server.address, viewport={"width": 1280, "height": 900}) as opened:
        yield opened
        assert opened.faults == []


@pytest.fixture
def admin(visit: Visit) -> Visit:
    """An administrator, signed in."""
    return visit.sign_in(ADMIN_KEY)
