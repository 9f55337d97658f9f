"""The service as its users start it: a process of its own, reached over HTTP."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

ADMIN_KEY = "an admin key for tests only"
COMMAND = Path(sys.executable).with_name("facemargin")
_PATIENCE = 200.0  # the first start compiles the networks, on whatever else the machine does


class NotReady(AssertionError):
    """The server ended, or did not become ready; the message holds what it printed."""


class Server:
    """A running `facemargin serve`. output: the file its output goes to."""

    def __init__(self, data_dir: Path, output: Path, port: int, **environment: str) -> None:
        self.output = output
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FACEMARGIN_ADMIN_KEY")}
        with output.open("w") as file:
            self.process = subprocess.Popen(
                [COMMAND, "serve", "--port", str(port), "--threads", "1", "--data-dir", data_dir],
                env={**inherited, **environment},
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def wait_until_ready(self) -> Server:
        """Wait for /readyz. Raises NotReady."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(f"{self.address}/readyz").status_code == 200:
                    return self
            except (httpx.TransportError, LookupError):
                pass  # not listening yet, or its address is not printed yet
            time.sleep(0.1)
        raise NotReady(f"the server is not ready:\n{self.output.read_text()}")

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
        return self.process.wait(timeout=60)

    def resident_bytes(self) -> int:
        """Memory that the process holds now (Linux)."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
