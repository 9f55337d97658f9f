"""The server as its users start it: a process of its own, reached over HTTP."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

ADMIN_KEY = "an admin key for tests only"
_COMMAND = Path(sys.executable).with_name("facemargin")
_PATIENCE = 200.0  # the first start compiles the networks, on whatever else the machine does


class Server:
    """A running `facemargin serve`. output: the file its output goes to."""

    def __init__(self, data_dir: Path, output: Path, port: int, **environment: str) -> None:
        self.output = output
        inherited = {name: value for name, value in os.environ.items() if name != "FACEMARGIN_ADMIN_KEY"}
        with output.open("w") as file:
            self.process = subprocess.Popen(
                [_COMMAND, "serve", "--port", str(port), "--threads", "1", "--data-dir", data_dir],
                env={**inherited, **environment},
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def wait_until_ready(self) -> Server:
        """Wait for /readyz; fails with the server's output."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(f"{self.address}/readyz").status_code == 200:
                    return self
            except (httpx.TransportError, LookupError):
                pass  # not listening yet, or its address is not printed yet
            time.sleep(0.1)
        pytest.fail(f"the server is not ready:\n{self.output.read_text()}")

    @property
    def address(self) -> str:
        """Where it listens, as it printed. Raises LookupError before it did."""
        found = re.search(r"Page\s+(http://\S+)/", self.output.read_text())
        if found is None:
            raise LookupError("no address printed yet")
        return found[1]

    def client(self, key: str = ADMIN_KEY) -> httpx.Client:
        """A client that sends this key."""
        return httpx.Client(base_url=self.address, headers={"X-API-Key": key}, timeout=60)

    def kill(self) -> None:
        """End it without a warning, as a crash or the loss of power would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """Ask it to end; its exit code."""
        self.process.terminate()
        return self.process.wait(timeout=40)


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
