"""The image and the compose project that the container test looks at."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "facemargin:container-test"
POSTGRES = "postgres:17"  # as docker-compose.yml names it
POSTGRES_STAND_IN = "facemargin-postgres:stand-in"
HEALTHY_WITHIN_SECONDS = 120
_NEW_KEY = "facemargin service new-key /tmp/keys >&2 && cat /tmp/keys"


class CheckFailed(AssertionError):
    """The container did not do what it must; the message says which check, and what came instead."""


@dataclass(frozen=True)
class Deployment:
    """One compose project: how to command it, where it answers, and with which key."""

    compose: list[str]
    environment: dict[str, str]
    base_url: str
    key: str

    def command(self, *arguments: str) -> str:
        """Run a compose command; its standard output."""
        return run([*self.compose, *arguments], self.environment)

    @property
    def container(self) -> str:
        """The id of the service's container, running or not."""
        return self.command("ps", "--all", "--quiet", "facemargin").strip()

    def client(self) -> httpx.Client:
        """An HTTP client that carries the admin key."""
        return httpx.Client(base_url=self.base_url, headers={"X-API-Key": self.key}, timeout=60)

    def inside(self, program: str) -> str:
        """What a line of Python prints inside the container."""
        return run(["docker", "exec", self.container, "python", "-c", program]).strip()

    def wait_healthy(self) -> None:
        """Return once the image's own health check says healthy."""
        started, state = time.monotonic(), "absent"
        while time.monotonic() - started < HEALTHY_WITHIN_SECONDS:
            state = run(["docker", "inspect", "--format", "{{.State.Health.Status}}", self.container]).strip()
            if state == "healthy":
                return print(f"ok    healthy after {time.monotonic() - started:.1f} s")
            time.sleep(0.5)
        raise CheckFailed(f"not healthy within {HEALTHY_WITHIN_SECONDS} s, but {state}")


def compose_command() -> list[str] | None:
    """The compose of this machine: v2's plugin, else v1, else None."""
    if shutil.which("docker") and not subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


def build() -> float:
    """Build the server's image; its size in MB."""
    started = time.monotonic()
    _build(["--target", "server", "--tag", IMAGE, str(ROOT)])
    size = int(run(["docker", "image", "inspect", "--format", "{{.Size}}", IMAGE])) / 1e6
    print(f"built {IMAGE} in {time.monotonic() - started:.0f} s: {size:.0f} MB")
    return size


def postgres_image() -> str:
    """The official image, or, where it is neither here nor can be pulled, one of Debian's PostgreSQL."""
    for command in (["docker", "image", "inspect", POSTGRES], ["docker", "pull", "--quiet", POSTGRES]):
        if not subprocess.run(command, capture_output=True).returncode:
            return POSTGRES
    print(f"{POSTGRES} cannot be pulled here: {POSTGRES_STAND_IN} is built from Debian's PostgreSQL in its place")
    _build(["--tag", POSTGRES_STAND_IN, str(Path(__file__).parent / "postgres")])
    return POSTGRES_STAND_IN


def _build(arguments: list[str]) -> None:
    flags = shlex.split(os.environ.get("CONTAINER_BUILD_FLAGS", ""))
    subprocess.run(["docker", "build", *flags, *arguments], check=True)


@contextmanager
def deployed(compose: list[str], postgres: str | None = None) -> Iterator[Deployment]:
    """Bring docker-compose.yml up under a name of its own, wait for healthy, remove all of it afterwards.

    postgres: the image of the database to bring up beside it; without one the gallery is SQLite in the volume.
    """
    port, key = free_port(), secrets.token_urlsafe(24)
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "FACEMARGIN_IMAGE": IMAGE, "FACEMARGIN_PUBLISHED_PORT": str(port)}
        environment |= _secrets(Path(folder), key, postgres)
        command = [*compose, "--project-name", f"facemargin-test-{os.getpid()}"]
        command += ["--file", str(ROOT / "docker-compose.yml")]
        command += ["--profile", "postgres"] if postgres else []
        services = ["postgres", "facemargin"] if postgres else ["facemargin"]
        deployment = Deployment(command, environment, f"http://127.0.0.1:{port}", key)
        try:
            deployment.command("up", "--detach", "--no-build", *services)
            deployment.wait_healthy()
            yield deployment
        except BaseException:
            print(deployment.command("logs", "--no-color", *services), file=sys.stderr)
            raise
        finally:
            deployment.command("down", "--volumes")


def _secrets(folder: Path, key: str, postgres: str | None) -> dict[str, str]:
    """Secrets in files, as docker-compose.yml explains, and the variables that name them."""
    folder.chmod(0o755)
    contents = {"ADMIN_KEY": ("admin_key", key)}
    new_key = run(["docker", "run", "--rm", IMAGE, "sh", "-c", _NEW_KEY])
    contents["ENCRYPTION_KEYS"] = ("encryption_keys", new_key)
    variables = {
        "FACEMARGIN_ADMIN_KEY_FILE": "/run/secrets/admin_key",
        "FACEMARGIN_ENCRYPTION_KEY_FILE": "/run/secrets/encryption_keys",
    }
    if postgres is not None:
        password = secrets.token_urlsafe(24)
        contents["POSTGRES_PASSWORD"] = ("postgres_password", password)
        url = f"postgresql+psycopg://facemargin:{password}@postgres/facemargin"
        contents["DATABASE_URL"] = ("database_url", url)
        variables |= {
            "FACEMARGIN_DATABASE_URL_FILE": "/run/secrets/database_url",
            "FACEMARGIN_POSTGRES_IMAGE": postgres,
        }
    for variable, (name, text) in contents.items():
        file = folder / name
        file.write_text(text)
        file.chmod(0o444)  # the container's user is nobody here
        variables[f"FACEMARGIN_{variable}_SECRET"] = str(file)
    return variables


def check(name: str, holds: bool, found: object) -> None:
    """Print one line for what holds; raise CheckFailed with what was found instead."""
    if not holds:
        raise CheckFailed(f"{name}\nfound: {found}")
    print(f"ok    {name}")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(command: list[str], environment: dict[str, str] | None = None) -> str:
    """Standard output of a command; CheckFailed with its standard error when it fails."""
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    if result.returncode:
        raise CheckFailed(f"{shlex.join(command)} failed with {result.returncode}\n{result.stderr}")
    return result.stdout
