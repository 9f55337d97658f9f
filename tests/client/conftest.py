"""A server of its own, as its users start it, and the client on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from launching.server import ADMIN_KEY, Server

from facemargin.client import Client


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that is ready, with crops kept."""
    folder = tmp_path_factory.mktemp("client")
    server = Server(
        folder / "data", folder / "server.log", 0, FACEMARGIN_ADMIN_KEY=ADMIN_KEY, FACEMARGIN_KEEP_CROPS="true"
    )
    try:
        yield server.wait_until_ready()
    finally:
        server.kill()


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[Client]:
    """A client with the admin key."""
    with Client(server.address, ADMIN_KEY) as client:
        yield client


@pytest.fixture
def people(client: Client) -> Iterator[str]:
    """An empty collection."""
    collection = client.create_collection(name="People")
    yield collection.id
    client.delete_collection(collection.id)
