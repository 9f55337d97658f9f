"""Hostile inputs against a real server: no 5xx, no crash, no trace in the log, memory bounded, every error well told.

Each input is made from the seed and its number alone, so that a fault names an input that can be sent again.
Real photos, where a folder of them is given, are only read, reduced and damaged.

Examples: python bench/hostile.py --json hostile.json
          python bench/hostile.py --inputs 10000 --json hostile.json
          python bench/hostile.py --only 4711 --json hostile.json
"""

from __future__ import annotations

import json
import os
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import httpx
from hostile_inputs.addresses import Addresses
from hostile_inputs.archives import Archives
from hostile_inputs.cases import ADMIN_KEY, Case, Maker
from hostile_inputs.documents import Documents
from hostile_inputs.exchange import Answer, NoAnswer, Sender
from hostile_inputs.forms import Forms
from hostile_inputs.photos import Photos, drawn, encode
from hostile_inputs.verdict import fault
from hostile_inputs.wire import Wire
from launching.server import Server

from training.evaluation.machine import describe

_SHOWN_FAULTS = 30
_SHOWN_TRACE = 1500
_MIB = 2**20
_PARTS = 4


def makers(photos: Path | None) -> list[tuple[Maker, int]]:
    """Everything that makes hostile inputs, and how often each is asked."""
    images, documents, forms = Photos(photos), Documents(), Forms()
    addresses, archives, wire = Addresses(), Archives(), Wire()
    return [
        *((images.mutated, 12), (images.rearranged, 5), (images.truncated, 6), (images.bomb, 4), (images.polyglot, 3)),
        *((images.foreign, 4), (documents.typed, 9), (documents.broken, 6), (documents.deep, 3), (documents.giant, 3)),
        *((documents.mislabelled, 4), (documents.compressed, 1), (archives.imported, 2), (forms.misnamed, 4)),
        *((forms.repeated, 2), (forms.malformed, 5), (forms.mistyped, 2), (addresses.identified, 8)),
        *((addresses.questioned, 5), (addresses.headed, 6), (wire.measured, 3), (wire.chunked, 2), (wire.smuggled, 2)),
        *((wire.foreign, 4), (wire.slow, 1), (wire.broken_off, 2)),
    ]


@dataclass
class Tally:
    """What came of the inputs. Filled by several threads."""

    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, number: int, case: Case, answers: Iterable[Answer], seconds: float) -> None:
        """Note the answers to one input."""
        with self._lock:
            for answer in answers:
                self.statuses[group(case.kind), str(answer.status or "closed")] += 1
                if (wrong := fault(case, answer)) is not None:
                    self.faults.append(f"input {number} ({case.kind}, {case.method} {case.target[:80]}): {wrong}")
            self.slowest = max(self.slowest, (round(seconds, 2), f"input {number} ({case.kind})"))

    def blame(self, number: int, case: Case, wrong: str) -> None:
        """Note an input that had no answer."""
        with self._lock:
            self.faults.append(f"input {number} ({case.kind}, {case.method} {case.target[:80]}): {wrong}")


def group(kind: str) -> str:
    """The kind of a row: without the details that would make a row of every format."""
    first = kind.split(":")[0].split(" ")[0]
    return first if first in _GROUPS else kind.split(":")[0]


_GROUPS = ("mutated", "rearranged", "truncated", "polyglot", "foreign", "bomb", "form", "JSON")


def send_all(address: str, numbers: Iterable[int], seed: int, made_by: list[tuple[Maker, int]], clients: int) -> Tally:
    """Send the inputs of these numbers, several at once."""
    tally = Tally()
    chosen, weights = zip(*made_by, strict=True)
    local = threading.local()
    senders: list[Sender] = []

    def send(number: int) -> None:
        if not hasattr(local, "sender"):
            local.sender = Sender(address)
            senders.append(local.sender)
        random_ = random.Random(f"{seed}:{number}")
        case = random_.choices(chosen, weights)[0](random_)
        began = time.perf_counter()
        try:
            tally.add(number, case, local.sender.send(case), time.perf_counter() - began)
        except (NoAnswer, httpx.TransportError, OSError) as error:
            tally.blame(number, case, f"{type(error).__name__}: {error}")

    with ThreadPoolExecutor(clients) as pool:
        for _ in pool.map(send, numbers):
            pass
    for sender in senders:
        sender.close()
    return tally


def check_alive(server: Server) -> list[str]:
    """What is wrong with the server after it all: ended, no longer ready, mistaken, or a trace in its log."""
    wrong = []
    if server.process.poll() is not None:
        return [f"the server ended with code {server.process.returncode}"]
    with server.client(ADMIN_KEY) as client:
        if client.get("/readyz").status_code != 200:
            wrong.append("the server is no longer ready")
        answer = client.post("/v1/detect", files={"image": encode(drawn(224), "PNG")})
        if answer.status_code != 200:
            wrong.append(f"a good photo is answered with {answer.status_code}")
        if client.get("/v1/collections/default").status_code != 200:
            wrong.append("the collection `default` is gone")
    log = server.output.read_text(errors="replace")
    if "Traceback" in log:
        trace = log[log.index("Traceback") :]
        end = trace.find('", "')  # in a log of JSON a trace is one member of one line
        shown = trace[: end if end > 0 else _SHOWN_TRACE]
        wrong.append(f"the log holds {log.count('Traceback')} traces, the first ends: {shown[-_SHOWN_TRACE:]}")
    return wrong


def run(inputs: list[int], seed: int, photos: Path | None, clients: int, growth_limit: int) -> dict[str, Any]:
    """Start a server, send the inputs, look at what is left of it; the document without name and machine."""
    with tempfile.TemporaryDirectory(prefix="facemargin-hostile-") as scratch:
        environment = {"FACEMARGIN_ADMIN_KEY": ADMIN_KEY, "FACEMARGIN_RATE_LIMIT": "1e6"}
        environment |= {"FACEMARGIN_RATE_BURST": "1000000", "OMP_NUM_THREADS": "1"}
        folder = Path(scratch)
        server = Server(folder / "data", folder / "log", 0, **environment)
        try:
            server.wait_until_ready()
            made_by = makers(photos)
            # Memory is compared with that of a server at work: buffers and pools grow once.
            first = max(1, min(len(inputs) // 5, 1000))
            began = time.perf_counter()
            tallies = [send_all(server.address, inputs[:first], seed, made_by, clients)]
            resident = [server.resident_bytes()]
            for part in _parts(inputs[first:]):
                tallies.append(send_all(server.address, part, seed, made_by, clients))
                resident.append(server.resident_bytes() if server.process.poll() is None else 0)
            seconds = time.perf_counter() - began
            alive = check_alive(server)
            peak = _peak_bytes(server) if server.process.poll() is None else 0
        finally:
            if server.process.poll() is None:
                server.stop()
    grown = resident[-1] - resident[0]
    if grown > growth_limit * _MIB:
        alive.append(f"memory grew by {grown // _MIB} MiB, more than {growth_limit} MiB")
    memory = {"resident_mib": [held // _MIB for held in resident], "peak_mib": peak // _MIB}
    return _document(tallies, alive, seconds, len(inputs), memory)


def _parts(inputs: list[int]) -> list[list[int]]:
    """Quarters, so that memory can be seen to level off."""
    size = -(-len(inputs) // _PARTS) or 1
    return [inputs[start : start + size] for start in range(0, len(inputs), size)]


def _document(
    tallies: list[Tally], faults: list[str], seconds: float, inputs: int, memory: dict[str, Any]
) -> dict[str, Any]:
    statuses: Counter[tuple[str, str]] = sum((tally.statuses for tally in tallies), Counter())
    kinds = sorted({kind for kind, _ in statuses})
    rows: list[dict[str, Any]] = [
        {"kind": kind, **{status: count for (of, status), count in sorted(statuses.items()) if of == kind}}
        for kind in kinds
    ]
    total = Counter[str]()
    for (_, status), count in statuses.items():
        total[status] += count
    every = [*faults, *(found for tally in tallies for found in tally.faults)]
    slowest = max(tally.slowest for tally in tallies)
    summary = {
        "inputs": inputs,
        "seconds": round(seconds, 1),
        "statuses": dict(sorted(total.items())),
        "faults": len(every),
        **memory,
        "slowest_s": slowest[0],
        "slowest": slowest[1],
    }
    return {"rows": rows, "ratios": {}, "summary": summary, "faults": every[:_SHOWN_FAULTS]}


def _peak_bytes(server: Server) -> int:
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def _demo_photos() -> Path | None:
    shared = Path(os.environ.get("FACEMARGIN_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    folder = shared / "data" / "demo"
    return folder if folder.is_dir() else None


@click.command()
@click.option("--inputs", type=click.IntRange(1), default=1000, show_default=True, help="How many to send.")
@click.option("--only", type=int, multiple=True, help="Send only the input of this number; may be repeated.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--photos", type=click.Path(exists=True, file_okay=False, path_type=Path), default=_demo_photos)
@click.option("--clients", type=click.IntRange(1), default=4, show_default=True)
@click.option("--growth-limit", type=click.IntRange(1), default=300, show_default=True, help="In MiB.")
@click.option("--json", "output", type=click.Path(dir_okay=False, path_type=Path), required=True)
def main(
    inputs: int, only: tuple[int, ...], seed: int, photos: Path | None, clients: int, growth_limit: int, output: Path
) -> None:
    """Send, and write name, machine, rows and ratios as JSON. Exit code 1 if anything was at fault."""
    document = run(list(only) or list(range(inputs)), seed, photos, clients, growth_limit)
    output.write_text(json.dumps({"name": "hostile", "machine": describe(), **document}, indent=2) + "\n")
    for row in document["rows"]:
        click.echo("  ".join(f"{name} {value}" for name, value in row.items()))
    click.echo(json.dumps({**document["summary"], "growth_limit_mib": growth_limit}, indent=2))
    for found in document["faults"]:
        click.echo(found, err=True)
    raise SystemExit(1 if document["summary"]["faults"] else 0)


if __name__ == "__main__":
    main()
