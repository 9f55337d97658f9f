"""The real application on a fresh gallery, with the shipped checkpoints, called in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.gallery.database import open_engine
from service.security.keys import KeyStore
from service.security.roles import Role
from service.settings import Settings

ADMIN_KEY = "an admin key for tests only"


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Small limits, so that they can be reached quickly."""
    return Settings(
        data_dir=tmp_path_factory.mktemp("data"),
        threads=1,
        max_image_bytes=12_000_000,
        max_request_bytes=16_000_000,
        max_images=4,
        rate_limit=10_000,
        rate_burst=100_000,
    )


@pytest.fixture(scope="session")
def keys(settings: Settings) -> dict[Role, str]:
    """One key of each role."""
    store = KeyStore(open_engine(settings.gallery_url))
    store.bootstrap(ADMIN_KEY)
    issued = {role: store.create(f"a {role} key", role).secret for role in (Role.READ, Role.ENROL)}
    return {**issued, Role.ADMIN: ADMIN_KEY}


Serve = Callable[[Settings], AbstractContextManager[TestClient]]


@pytest.fixture(scope="session")
def serve() -> Serve:
    """`with serve(settings) as client`: a client without a key, of an application of its own that is ready."""
    return _serving


@contextmanager
def _serving(settings: Settings) -> Iterator[TestClient]:
    def fail() -> None:
        pytest.fail(f"the service did not start: {app.state.startup.failure}")

    engine = open_engine(settings.gallery_url)
    app = create_app(settings, engine, fail)
    with TestClient(app, raise_server_exceptions=False) as client:
        deadline = time.monotonic() + 120
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline, "not ready after two minutes"
            time.sleep(0.1)
        yield client
    engine.dispose()


@pytest.fixture(scope="session")
def anonymous(serve: Serve, settings: Settings, keys: dict[Role, str]) -> Iterator[TestClient]:
    """A client without a key, of an application that is ready."""
    with serve(settings) as client:
        yield client


@pytest.fixture(scope="session")
def as_role(anonymous: TestClient, keys: dict[Role, str]) -> Callable[[Role], TestClient]:
    """A client that sends a key of this role. It shares the running application."""

    def client(role: Role) -> TestClient:
        return TestClient(anonymous.app, headers={"X-API-Key": keys[role]}, raise_server_exceptions=False)

    return client


@pytest.fixture(scope="session")
def client(as_role: Callable[[Role], TestClient]) -> TestClient:
    """A client with the admin key."""
    return as_role(Role.ADMIN)
