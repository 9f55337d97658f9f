"""Import and export of embeddings in one call, through a real server, beside what its parts alone would need.

    python bench/transfer.py --json transfer.json                    (10,000 faces)
    python bench/transfer.py --json transfer.json --faces 100000

The limit, measured in the same run: the same embeddings into a bare SQLite table (durable, a thousand a transaction)
and a bare FAISS index, by one thread, without JSON, HTTP, identities or a revision log. Memory: the server's resident
bytes beyond those it had when it was ready, and how many of them the embeddings themselves are.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import faiss
import numpy as np
from launching.server import ADMIN_KEY, Server
from numpy.typing import NDArray

from service.transfer.format import FaceLine, Header, encode_embedding, render
from service.transfer.remote import fetch_faces, send_faces
from training.evaluation.machine import describe

BATCH = 1000
FACES_OF_A_SUBJECT = 4


def vectors(count: int, size: int, seed: int = 1) -> Iterator[NDArray[np.float32]]:
    """`count` unit vectors (B, D) in blocks, the same every time."""
    dice = np.random.default_rng(seed)
    for start in range(0, count, BATCH):
        block = dice.standard_normal((min(BATCH, count - start), size), np.float32)
        yield block / np.linalg.norm(block, axis=1, keepdims=True)


def portable(count: int, size: int, model: str) -> Iterator[bytes]:
    """A portable file of `count` faces, four a subject."""
    yield render(Header(model=model, embedding_size=size, faces=count))
    number = 0
    for block in vectors(count, size):
        lines = []
        for vector in block:
            face_id = str(uuid.UUID(int=number + 1))
            subject = f"subject-{number // FACES_OF_A_SUBJECT}"
            lines.append(render(FaceLine(subject_id=subject, face_id=face_id, embedding=encode_embedding(vector))))
            number += 1
        yield b"".join(lines)


def limit(count: int, size: int, folder: Path) -> float:
    """Seconds of the bare parts."""
    blocks = list(vectors(count, size))
    started = time.perf_counter()
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(size))
    with closing(sqlite3.connect(folder / "bare.db")) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE faces (key INTEGER PRIMARY KEY, embedding BLOB)")
        for number, block in enumerate(blocks):
            keys = np.arange(len(block)) + number * BATCH
            with database:
                rows = zip(keys.tolist(), (vector.tobytes() for vector in block), strict=True)
                database.executemany("INSERT INTO faces VALUES (?, ?)", rows)
            index.add_with_ids(block, keys)
    return time.perf_counter() - started


class PeakMemory(threading.Thread):
    """Watches a server's resident bytes."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._ending = threading.Event()
        self.before = self.peak = server.resident_bytes()

    def run(self) -> None:
        """Look twenty times a second."""
        while not self._ending.wait(0.05):
            self.peak = max(self.peak, self._server.resident_bytes())

    def stop(self) -> None:
        """No longer look."""
        self._ending.set()
        self.join()


def measure(faces: int, data_dir: Path, output: Path) -> list[dict[str, Any]]:
    """Import, the same import again, and export, each in one call."""
    server = Server(data_dir, output, 0, FACEMARGIN_ADMIN_KEY=ADMIN_KEY).wait_until_ready()
    try:
        with server.client() as client:
            client.timeout = 600
            model = client.get("/v1/model").json()
            size = model["embedding_size"]
            sent = list(portable(faces, size, model["model"]))
            rows = []
            for name, expected in (("import", {"imported": faces}), ("the same import again", {"skipped": faces})):
                memory = PeakMemory(server)
                memory.start()
                started = time.perf_counter()
                report = send_faces(client, "default", iter(sent))
                seconds = time.perf_counter() - started
                memory.stop()
                if not expected.items() <= report.items() or report["rejected"]:
                    raise click.ClickException(f"{name}: {report}")
                rows.append(_row(name, faces, seconds, memory, size))
            memory = PeakMemory(server)
            memory.start()
            started = time.perf_counter()
            lines = sum(chunk.count(b"\n") for chunk in fetch_faces(client, "default"))
            rows.append(_row("export", faces, time.perf_counter() - started, memory, size))
            memory.stop()
            if lines != faces + 1:
                raise click.ClickException(f"the export has {lines} lines for {faces} faces")
    finally:
        server.stop()
    return [*rows, {"what": "limit: bare SQLite and FAISS", "faces": faces, "seconds": limit(faces, size, data_dir)}]


def _row(what: str, faces: int, seconds: float, memory: PeakMemory, size: int) -> dict[str, Any]:
    return {
        "what": what,
        "faces": faces,
        "seconds": seconds,
        "faces_per_second": faces / seconds,
        "memory_growth_mib": (memory.peak - memory.before) / 2**20,
        "embeddings_mib": faces * size * 4 / 2**20,
    }


@click.command()
@click.option("--faces", type=click.IntRange(1), default=10_000, show_default=True)
@click.option("--json", "output", type=click.Path(dir_okay=False, path_type=Path), required=True)
def main(faces: int, output: Path) -> None:
    """Measure, and write name, machine, rows and ratios as JSON."""
    with tempfile.TemporaryDirectory() as scratch:
        rows = measure(faces, Path(scratch) / "data", Path(scratch) / "server.log")
    seconds = {row["what"]: row["seconds"] for row in rows}
    bare = seconds["limit: bare SQLite and FAISS"]
    ratios = {"import, ours / limit": seconds["import"] / bare, "export, ours / limit": seconds["export"] / bare}
    document = {"name": "transfer", "machine": describe(), "rows": rows, "ratios": ratios}
    output.write_text(json.dumps(document, indent=2) + "\n")
    for row in rows:
        memory = f"  +{row['memory_growth_mib']:.0f} MiB" if "memory_growth_mib" in row else ""
        click.echo(f"{row['what']:30} {row['faces']:8} faces {row['seconds']:8.2f} s{memory}")


if __name__ == "__main__":
    main()
