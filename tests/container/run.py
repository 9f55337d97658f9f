"""The container, end to end: `make container-test` builds the real image, uses it, kills it and looks again.

Once with SQLite in its volume, once with PostgreSQL (`--profile postgres`); with every secret from a file, and the
embeddings encrypted. Needs a docker engine that answers (DOCKER_HOST is honoured), `docker compose` or
`docker-compose`, and the demonstration photos (see tests/conftest.py). Where one is missing it says so in one line and
succeeds.

CONTAINER_BUILD_FLAGS: more flags for `docker build`, for machines that reach packages in their own way, as in
CONTAINER_BUILD_FLAGS="--network=host --build-arg PIP_FIND_LINKS=http://127.0.0.1:9000/".
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
from deployment import ROOT, CheckFailed, Deployment, build, check, compose_command, deployed, postgres_image, run

DEMO = Path(os.environ.get("FACEMARGIN_SHARED", ROOT.parent / "shared")) / "data" / "demo"
LARGEST_IMAGE_MB = 900
ENROLLED = {"person-a": "004_A.jpg", "person-b": "007_B.jpg", "obama": "obama.jpg"}
SEEN_LATER = {"006_A.jpg": "person-a", "008_B.jpg": "person-b", "obama3.jpg": "obama", "biden.jpg": None}
UNDER_FIRE = {"clients": 4, "acknowledged": 20}


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
        size = build()
        check(f"the image has {size:.0f} MB, below {LARGEST_IMAGE_MB}", size < LARGEST_IMAGE_MB, size)
        postgres = postgres_image()
        for name, database in (("SQLite", None), (f"PostgreSQL of {postgres}", postgres)):
            print(f"with {name}")
            with deployed(compose, database) as deployment:
                use(deployment)
        print("container-test passed")
    return 0


def use(deployment: Deployment) -> None:
    """All that a deployment must do."""
    confined(deployment)
    keeps_secrets(deployment)
    verifies(deployment)
    enrols(deployment)
    before = gallery(deployment)
    identifies(deployment)
    loses_nothing_under_fire(deployment)
    check("the gallery is whole after kill -9", gallery(deployment) == before, before)
    identifies(deployment)
    watches(deployment)
    stops_in_order(deployment)


def confined(deployment: Deployment) -> None:
    """A plain user, a read-only root, no capabilities, no torch, nothing that reports to others."""
    host = json.loads(run(["docker", "inspect", deployment.container]))[0]["HostConfig"]
    check("the root file system is read-only", host["ReadonlyRootfs"], host["ReadonlyRootfs"])
    check("all capabilities are dropped", host["CapDrop"] == ["ALL"], host["CapDrop"])
    user = deployment.inside("import os; print(os.getuid())")
    check("the service is not root", user not in ("", "0"), user)
    for module in ("torch", "openvino_telemetry"):
        found = deployment.inside(f"import importlib.util; print(importlib.util.find_spec({module!r}))")
        check(f"{module} is not installed", found == "None", found)


def keeps_secrets(deployment: Deployment) -> None:
    """Secrets come from files: they stand neither in what docker knows of the container nor in its log."""
    said = run(["docker", "inspect", deployment.container]) + deployment.command("logs", "--no-color", "facemargin")
    check("no secret in `docker inspect` or the log", deployment.key not in said, "the admin key")


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


def loses_nothing_under_fire(deployment: Deployment) -> None:
    """kill -9 of the container while clients enrol; every face it acknowledged is there and found afterwards."""
    acknowledged: dict[str, str] = {}
    enough = threading.Semaphore(0)
    faces = "/v1/collections/under-fire/subjects/{}/faces"

    def enrol(worker: int) -> None:
        with deployment.client() as client:
            for number in range(1000):
                subject = f"{worker}-{number}"
                try:
                    answer = client.post(faces.format(subject), files={"image": photo("obama.jpg")})
                except httpx.TransportError:
                    return
                if answer.status_code != 201:
                    raise CheckFailed(answer.text)
                acknowledged[subject] = answer.json()["indexed"][0]["face_id"]
                enough.release()

    with deployment.client() as client:
        client.put("/v1/collections/under-fire").raise_for_status()
    workers = [threading.Thread(target=enrol, args=(number,)) for number in range(UNDER_FIRE["clients"])]
    for worker in workers:
        worker.start()
    for _ in range(UNDER_FIRE["acknowledged"]):
        check_in_time = enough.acquire(timeout=60)
        if not check_in_time:
            raise CheckFailed("enrolling is too slow, or was refused")
    run(["docker", "kill", "--signal", "KILL", deployment.container])
    for worker in workers:
        worker.join()
    run(["docker", "start", deployment.container])
    print(f"ok    killed with -9 after {len(acknowledged)} acknowledged faces, and started again")
    deployment.wait_healthy()
    query = {"collection": "under-fire", "top_k": 100, "threshold": 0.9}
    with deployment.client() as client:
        found = client.post("/v1/identify", params=query, files={"image": photo("obama.jpg")}).json()
        candidates = found["faces"][0]["candidates"]
        there = {candidate["subject_id"]: candidate["face_id"] for candidate in candidates}
        held = client.get("/v1/collections/under-fire").json()
    lost = {subject for subject, face in acknowledged.items() if there.get(subject) != face}
    check("every acknowledged face is found", not lost, lost)
    once = len(there) == len(candidates) == held["subjects"] == held["faces"]
    check("each is found once, and none is half-written", once, held)


def watches(deployment: Deployment) -> None:
    """Metrics and status answer; the log is JSON and names nobody."""
    with deployment.client() as client:
        metrics, status = client.get("/metrics").text, client.get("/v1/status").json()
    check("metrics count the faces", f"facemargin_index_faces {status['faces']:.1f}" in metrics, status)
    lines = deployment.command("logs", "--no-color", "--no-log-prefix", "facemargin").splitlines()
    requests = [json.loads(line) for line in lines if line.startswith("{")]
    check("the log has a line for a request", any(line.get("route") == "/v1/identify" for line in requests), lines[-5:])
    named = [line for line in requests if "person-a" in json.dumps(line)]
    check("the log names nobody", not named, named)


def stops_in_order(deployment: Deployment) -> None:
    """SIGTERM ends the service by itself, well before docker would kill it."""
    container = deployment.container
    deployment.command("stop", "facemargin")
    code = run(["docker", "inspect", "--format", "{{.State.ExitCode}}", container]).strip()
    check("SIGTERM stops it in order", code in ("0", "143"), f"exit code {code}")


def photo(name: str) -> tuple[str, bytes, str]:
    """A demonstration photo as httpx wants a file."""
    return name, (DEMO / name).read_bytes(), "image/jpeg"


if __name__ == "__main__":
    sys.exit(main())
