"""Two whole services over one PostgreSQL gallery."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.gallery.database import open_engine
from service.security.keys import KeyStore
from service.settings import Settings

KEY = "an admin key for the replicas"
FACES = "/v1/collections/default/subjects/ada/faces"


@pytest.fixture
def replicas(
    serve: Callable[[Settings], AbstractContextManager[TestClient]], settings: Settings, postgres: str, tmp_path: Path
) -> list[Settings]:
    engine = open_engine(postgres)
    KeyStore(engine).bootstrap(KEY)
    engine.dispose()
    own = {"database_url": postgres, "cache_dir": settings.cache_dir, "threads": 1, "rate_limit": 10_000}
    return [Settings(data_dir=tmp_path / name, **own) for name in ("here", "there")]


def test_who_is_enrolled_on_one_is_known_on_the_other_and_erased_on_both(
    serve: Callable[[Settings], AbstractContextManager[TestClient]], replicas: list[Settings], demo: Path
) -> None:
    photo, other = ((demo / name).read_bytes() for name in ("004_A.jpg", "006_A.jpg"))
    with serve(replicas[0]) as here, serve(replicas[1]) as there:
        for client in (here, there):
            client.headers["X-API-Key"] = KEY

        def knows(client: TestClient) -> bool:
            answer = client.post("/v1/identify", files={"image": other})
            return any(face["decision"] == "known" for face in answer.json()["faces"])

        assert not knows(there)
        assert here.post(FACES, files={"image": photo}).status_code == 201
        began = time.monotonic()
        while not knows(there):
            assert time.monotonic() - began < 60
        lag = "facemargin_replica_lag_revisions 0.0"
        assert lag in there.get("/metrics").text
        assert there.delete("/v1/collections/default/subjects/ada").status_code == 200
        assert not knows(here)
        assert not knows(there)
