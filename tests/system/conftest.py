"""The server as its users start it: a process of its own, reached over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from launching.server import ADMIN_KEY, Server

__all__ = ["ADMIN_KEY", "Server"]

Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start servers; those still running after the test are ended."""
    servers: list[Server] = []

    def started(data_dir: Path, port: int = 0, **environment: str) -> Server:
        server = Server(data_dir, tmp_path / f"server-{len(servers)}.log", port, **environment)
        servers.append(server)
        return server

    yield started
    for server in servers:
        if server.process.poll() is None:
            server.kill()


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of compiled networks for all servers, so that only the first has to compile."""
    return tmp_path_factory.mktemp("compiled")
