"""Full load for a long time: memory must not grow, nothing may fail.

Several clients call without a pause: verify, identify, detect, embed, enrol and erase, lists, and requests that must be
refused. Memory is that of the server's process; its growth is that between the end of the warm-up (a fifth of the
time) and the end, each the median of a twentieth of the time.

Example: python bench/soak.py --seconds 600 --json soak.json
"""

from __future__ import annotations

import json
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import httpx
from launching.server import ADMIN_KEY, Server

_SUBJECTS = "/v1/collections/default/subjects"
_WARM_UP = 0.2
_WINDOW = 0.05
_MOST_GROWTH = 1.05
_LONG_ENOUGH = 300  # seconds; in less, caches still fill
_PHOTOS = ("obama.jpg", "biden.jpg", "007_B.jpg", "008_B.jpg", "009_C.jpg", "011_3.jpg", "015_6.jpg", "017_0.jpg")


@dataclass
class Tally:
    """Latencies in seconds by call, and what went wrong."""

    latencies: dict[str, list[float]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, call: str, seconds: float, error: str | None) -> None:
        """One call ended."""
        with self.lock:
            self.latencies.setdefault(call, []).append(seconds)
            if error is not None:
                self.errors.append(f"{call}: {error}")


class Client:
    """One caller: at most a few subjects of its own at a time, so that the gallery does not grow."""

    def __init__(self, number: int, server: Server, photos: list[bytes], tally: Tally, until: float) -> None:
        self._number = number
        self._server = server
        self._photos = photos
        self._tally = tally
        self._until = until
        self._chance = random.Random(number)
        self._enrolled: list[str] = []
        self._made = 0

    def run(self) -> None:
        """Call until the time is up."""
        calls: list[Callable[[httpx.Client], None]] = [
            self._verify,
            self._identify,
            self._identify,
            self._detect,
            self._embed,
            self._enrol_or_erase,
            self._list,
            self._status,
            self._refused,
        ]
        with self._server.client() as http:
            while time.monotonic() < self._until:
                self._chance.choice(calls)(http)

    def _photo(self) -> bytes:
        return self._chance.choice(self._photos)

    def _verify(self, http: httpx.Client) -> None:
        # 422: a photo without a face.
        files = {"source": self._photo(), "target": self._photo()}
        self._call(http, "verify", "POST", "/v1/verify", (200, 422), files=files)

    def _identify(self, http: httpx.Client) -> None:
        self._call(http, "identify", "POST", "/v1/identify", (200,), files={"image": self._photo()})

    def _detect(self, http: httpx.Client) -> None:
        self._call(http, "detect", "POST", "/v1/detect", (200,), files={"image": self._photo()})

    def _embed(self, http: httpx.Client) -> None:
        self._call(http, "embed", "POST", "/v1/embed", (200,), files={"image": self._photo()})

    def _enrol_or_erase(self, http: httpx.Client) -> None:
        if len(self._enrolled) < 3:
            subject = f"client{self._number}-{self._made}"
            self._made += 1
            files = {"image": self._photos[self._made % 4]}
            self._call(http, "enrol", "POST", f"{_SUBJECTS}/{subject}/faces", (201,), files=files)
            self._enrolled.append(subject)
        else:
            self._call(http, "erase", "DELETE", f"{_SUBJECTS}/{self._enrolled.pop(0)}", (200,))

    def _list(self, http: httpx.Client) -> None:
        self._call(http, "list", "GET", _SUBJECTS, (200,))

    def _status(self, http: httpx.Client) -> None:
        path = self._chance.choice(("/v1/status", "/metrics", "/readyz"))
        self._call(http, path, "GET", path, (200,))

    def _refused(self, http: httpx.Client) -> None:
        if self._chance.random() < 0.5:
            self._call(http, "refused", "POST", "/v1/detect", (400,), files={"image": self._photo()[:500]})
        else:
            self._call(http, "refused", "GET", f"{_SUBJECTS}/nobody-{self._chance.random()}", (404,))

    def _call(
        self, http: httpx.Client, name: str, method: str, path: str, expected: tuple[int, ...], **content: Any
    ) -> None:
        began = time.perf_counter()
        try:
            answer = http.request(method, path, **content)
            error = None if answer.status_code in expected else f"{answer.status_code} {answer.text[:200]}"
        except httpx.TransportError as failed:
            error = repr(failed)
        self._tally.note(name, time.perf_counter() - began, error)


def soak(server: Server, photos: list[bytes], seconds: float, clients: int) -> tuple[Tally, list[tuple[float, int]]]:
    """Load the server; the clients' tally, and (second, bytes) of its memory about ten times a second."""
    began = time.monotonic()
    until = began + seconds
    tally = Tally()
    threads = [threading.Thread(target=Client(number, server, photos, tally, until).run) for number in range(clients)]
    for thread in threads:
        thread.start()
    memory = []
    while time.monotonic() < until and server.process.poll() is None:
        memory.append((time.monotonic() - began, server.resident_bytes()))
        time.sleep(0.1)
    for thread in threads:
        thread.join()
    return tally, memory


def growth(memory: list[tuple[float, int]], seconds: float) -> float:
    """Memory at the end over memory after the warm-up."""

    def around(begin: float, end: float) -> float:
        return statistics.median(size for second, size in memory if begin <= second <= end)

    warm = _WARM_UP * seconds
    window = _WINDOW * seconds
    return around(seconds - window, seconds) / around(warm, warm + window)


def row(call: str, latencies: list[float], seconds: float) -> dict[str, Any]:
    """One call's latencies, in milliseconds."""
    ordered = sorted(latencies)
    at = {name: ordered[min(len(ordered) - 1, int(share * len(ordered)))] for name, share in _SHARES.items()}
    milliseconds = {f"{name}_ms": round(value * 1e3, 1) for name, value in at.items()}
    return {"call": call, "calls": len(ordered), "a_second": round(len(ordered) / seconds, 1), **milliseconds}


_SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@click.command()
@click.option(
    "--shared",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=lambda: os.environ.get("FACEMARGIN_SHARED", Path(__file__).resolve().parents[2] / "shared"),
    help="Folder of data/demo; default: $FACEMARGIN_SHARED, or `shared` beside the checkout.",
)
@click.option("--seconds", type=click.FloatRange(5), default=30, show_default=True, help="600 is the full size.")
@click.option("--clients", type=click.IntRange(1), default=6, show_default=True)
@click.option("--json", "output", type=click.Path(dir_okay=False, path_type=Path), required=True)
def main(shared: Path, seconds: float, clients: int, output: Path) -> None:
    """Load, measure, and write name, machine, rows and ratios as JSON; fails on an error of the service."""
    from training.evaluation import machine

    photos = [(shared / "data" / "demo" / name).read_bytes() for name in _PHOTOS]
    settings = {"FACEMARGIN_ADMIN_KEY": ADMIN_KEY, "FACEMARGIN_RATE_LIMIT": "100000", "FACEMARGIN_RATE_BURST": "100000"}
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "data", Path(folder) / "log", 0, **settings).wait_until_ready()
        try:
            tally, memory = soak(server, photos, seconds, clients)
            code = server.stop()
        finally:
            if server.process.poll() is None:
                server.kill()
        traced = "Traceback" in server.output.read_text()
    rows = [row(call, latencies, seconds) for call, latencies in sorted(tally.latencies.items())]
    grown = growth(memory, seconds)
    document = {
        "name": "soak",
        "machine": machine.describe(),
        "rows": rows,
        "ratios": {
            "memory at the end / after warm-up": round(grown, 4),
            "errors / calls": len(tally.errors) / sum(line["calls"] for line in rows),
        },
        "seconds": seconds,
        "clients": clients,
        "resident_mib": [
            [round(second), round(size / 2**20, 1)] for second, size in memory[:: max(1, len(memory) // 60)]
        ],
        "errors": tally.errors[:20],
        "exit_code": code,
    }
    output.write_text(json.dumps(document, indent=2) + "\n")
    for line in rows:
        click.echo(json.dumps(line))
    click.echo(f"memory at the end / after warm-up: {grown:.3f}; errors: {len(tally.errors)}")
    if tally.errors or traced:
        raise click.ClickException(f"the service failed: {tally.errors[:3] or 'a traceback in its log'}")
    if seconds >= _LONG_ENOUGH and grown > _MOST_GROWTH:
        raise click.ClickException(f"memory grew by {grown - 1:.1%}")


if __name__ == "__main__":
    main()
