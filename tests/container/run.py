"""The container, end to end: `make container-test` builds the real image, uses it, kills it and looks again.

Needs a docker engine that answers (DOCKER_HOST is honoured), `docker compose` or `docker-compose`, and the
demonstration photos (see tests/conftest.py). Where one is missing it says so in one line and succeeds.

CONTAINER_BUILD_FLAGS: more flags for `docker build`, for machines that reach packages in their own way, as in
CONTAINER_BUILD_FLAGS="--network=host --build-arg PIP_FIND_LINKS=http://127.0.0.1:9000/".
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[2]
DEMO = Path(os.environ.get("FACEMARGIN_SHARED", ROOT.parent / "shared")) / "data" / "demo"
IMAGE = "facemargin:container-test"
HEALTHY_WITHIN_SECONDS = 120
ENROLLED = {"person-a": "004_A.jpg", "person-b": "007_B.jpg", "obama": "obama.jpg"}
SEEN_LATER = {"006_A.jpg": "person-a", "008_B.jpg": "person-b", "obama3.jpg": "obama", "biden.jpg": None}


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
        """The id of the service's container."""
        return self.command("ps", "--quiet", "facemargin").strip()

    def client(self) -> httpx.Client:
        """An HTTP client that carries the admin key."""
        return httpx.Client(base_url=self.base_url, headers={"X-API-Key": self.key}, timeout=60)


def main() -> int:
    """Run every check in order; 0 when all hold or the machine cannot run them."""
    compose = compose_command()
    if not DEMO.is_dir():
        print(f"container-test skipped: no demonstration photos in {DEMO} (set FACEMARGIN_SHARED)")
    elif shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True).returncode:
        print("container-test skipped: no docker engine answers here (set DOCKER_HOST if it listens elsewhere)")
    elif compose is None:
        print("container-test skipped: docker is here, but neither `docker compose` nor `docker-compose`")
    else:
        build()
        with deployed(compose) as deployment:
            confined(deployment)
            verifies(deployment)
            enrols(deployment)
            before = gallery(deployment)
            identifies(deployment)
            kill(deployment)
            check("the gallery is whole after kill -9", gallery(deployment) == before, before)
            identifies(deployment)
            stops_in_order(deployment)
        print("container-test passed")
    return 0


def compose_command() -> list[str] | None:
    """The compose of this machine: v2's plugin, else v1, else None."""
    if shutil.which("docker") and not subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


def build() -> None:
    """Build the server's image and print its size."""
    started = time.monotonic()
    flags = shlex.split(os.environ.get("CONTAINER_BUILD_FLAGS", ""))
    subprocess.run(["docker", "build", *flags, "--target", "server", "--tag", IMAGE, str(ROOT)], check=True)
    size = int(run(["docker", "image", "inspect", "--format", "{{.Size}}", IMAGE]))
    print(f"built {IMAGE} in {time.monotonic() - started:.0f} s: {size / 1e6:.0f} MB")


@contextmanager
def deployed(compose: list[str]) -> Iterator[Deployment]:
    """Bring docker-compose.yml up under a name of its own, wait for healthy, remove all of it afterwards."""
    port, key, project = free_port(), secrets.token_urlsafe(24), f"facemargin-test-{os.getpid()}"
    environment = {
        **os.environ,
        "FACEMARGIN_IMAGE": IMAGE,
        "FACEMARGIN_PUBLISHED_PORT": str(port),
        "FACEMARGIN_ADMIN_KEY": key,
    }
    command = [*compose, "--project-name", project, "--file", str(ROOT / "docker-compose.yml")]
    deployment = Deployment(command, environment, f"http://127.0.0.1:{port}", key)
    try:
        deployment.command("up", "--detach", "--no-build", "facemargin")
        wait_healthy(deployment)
        yield deployment
    except BaseException:
        print(deployment.command("logs", "--no-color", "facemargin"), file=sys.stderr)
        raise
    finally:
        deployment.command("down", "--volumes")


def wait_healthy(deployment: Deployment) -> None:
    """Return once the image's own health check says healthy."""
    started, state = time.monotonic(), "absent"
    while time.monotonic() - started < HEALTHY_WITHIN_SECONDS:
        state = run(["docker", "inspect", "--format", "{{.State.Health.Status}}", deployment.container]).strip()
        if state == "healthy":
            return print(f"ok    healthy after {time.monotonic() - started:.1f} s")
        time.sleep(0.5)
    raise CheckFailed(f"not healthy within {HEALTHY_WITHIN_SECONDS} s, but {state}")


def confined(deployment: Deployment) -> None:
    """A plain user, a read-only root, no capabilities, no torch, nothing that reports to others."""
    host = json.loads(run(["docker", "inspect", deployment.container]))[0]["HostConfig"]
    check("the root file system is read-only", host["ReadonlyRootfs"], host["ReadonlyRootfs"])
    check("all capabilities are dropped", host["CapDrop"] == ["ALL"], host["CapDrop"])
    user = inside(deployment, "import os; print(os.getuid())")
    check("the service is not root", user not in ("", "0"), user)
    for module in ("torch", "openvino_telemetry"):
        found = inside(deployment, f"import importlib.util; print(importlib.util.find_spec({module!r}))")
        check(f"{module} is not installed", found == "None", found)


def verifies(deployment: Deployment) -> None:
    """Two photos of one person match; two of different people do not."""
    for target, expected in (("006_A.jpg", True), ("007_B.jpg", False)):
        with deployment.client() as client:
            answer = client.post("/v1/verify", files={"source": photo("004_A.jpg"), "target": photo(target)}).json()
        outcome = f"match {answer.get('match')}, similarity {answer.get('similarity')}"
        check(f"verify 004_A.jpg {target}: {outcome}", answer.get("match") is expected, answer)


def enrols(deployment: Deployment) -> None:
    """Three people, one photo each."""
    for subject, name in ENROLLED.items():
        with deployment.client() as client:
            answer = client.post(f"/v1/collections/default/subjects/{subject}/faces", files={"image": photo(name)})
        check(f"enrol {subject} from {name}", answer.status_code == 201, answer.text)


def identifies(deployment: Deployment) -> None:
    """Other photos of the three are known by name; a stranger is unknown."""
    for name, expected in SEEN_LATER.items():
        with deployment.client() as client:
            answer = client.post("/v1/identify", params={"max_faces": 1}, files={"image": photo(name)}).json()
        face: dict[str, Any] = answer["faces"][0] if answer.get("faces") else {}
        known = face.get("decision") == "known" and face["candidates"][0]["subject_id"]
        check(f"identify {name}: {face.get('decision')} {known or ''}", known == (expected or False), answer)


def gallery(deployment: Deployment) -> dict[str, list[str]]:
    """The face ids of each enrolled subject."""
    with deployment.client() as client:
        return {
            subject: sorted(
                face["face_id"]
                for face in client.get(f"/v1/collections/default/subjects/{subject}/faces").json()["faces"]
            )
            for subject in ENROLLED
        }


def kill(deployment: Deployment) -> None:
    """kill -9 of the container, then the same container again."""
    run(["docker", "kill", "--signal", "KILL", deployment.container])
    run(["docker", "start", deployment.command("ps", "--all", "--quiet", "facemargin").strip()])
    print("ok    killed with -9 and started again")
    wait_healthy(deployment)


def stops_in_order(deployment: Deployment) -> None:
    """SIGTERM ends the service by itself, well before docker would kill it."""
    container = deployment.container
    deployment.command("stop", "facemargin")
    code = run(["docker", "inspect", "--format", "{{.State.ExitCode}}", container]).strip()
    check("SIGTERM stops it in order", code in ("0", "143"), f"exit code {code}")


def inside(deployment: Deployment, program: str) -> str:
    """What a line of Python prints inside the container."""
    return run(["docker", "exec", deployment.container, "python", "-c", program]).strip()


def check(name: str, holds: bool, found: object) -> None:
    """Print one line for what holds; raise CheckFailed with what was found instead."""
    if not holds:
        raise CheckFailed(f"{name}\nfound: {found}")
    print(f"ok    {name}")


def photo(name: str) -> tuple[str, bytes, str]:
    """A demonstration photo as httpx wants a file."""
    return name, (DEMO / name).read_bytes(), "image/jpeg"


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


if __name__ == "__main__":
    sys.exit(main())
