"""A real PostgreSQL server of its own, on a loopback port, gone afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from launching.server import free_port

_USER = "facemargin"
_DAEMON = "nobody"  # PostgreSQL refuses to run as root


class PostgresMissing(RuntimeError):
    """No PostgreSQL server is installed here."""


def postgres_programs() -> Path:
    """The folder of `initdb` and `postgres`. Raises PostgresMissing."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    # Debian keeps them out of PATH.
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise PostgresMissing("no PostgreSQL server is installed (on Debian and Ubuntu: apt install postgresql)")


@contextmanager
def postgres_server() -> Iterator[str]:
    """Start one, durable as by default, and yield its SQLAlchemy URL. Raises PostgresMissing."""
    programs = postgres_programs()
    user = _DAEMON if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="facemargin-postgres-") as name:
        folder, port = Path(name), free_port()
        if user is not None:
            shutil.chown(folder, user)
        data, log = folder / "data", folder / "log"
        initdb = [programs / "initdb", "-D", data, "-U", _USER, "-A", "trust", "-E", "UTF8", "--locale=C"]
        _run(initdb, user)
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder}"
        control = [programs / "pg_ctl", "-D", data, "-w"]
        _run([*control, "-l", log, "-o", options, "start"], user)
        try:
            yield f"postgresql+psycopg://{_USER}@127.0.0.1:{port}/postgres"
        finally:
            _run([*control, "-m", "immediate", "stop"], user)


def _run(command: list[str | Path], user: str | None) -> None:
    subprocess.run(
        command, user=user, check=True, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=120
    )
