"""The tiered index beside the exact one and plain FAISS, in the same run: recall, time, memory, who is identified.

    python bench/index.py --json index.json                                        (20,000 and 100,000 faces)
    python bench/index.py --json index.json --size 1000000 --dimension 256

Faces: three photos each of made-up people, whose directions are spread about as unevenly as those of real embeddings
(as if they had some 80 dimensions); two photos of one person have cosines about 0.6. Half of the queries are another
photo of somebody enrolled, half are strangers. `flat` is FlatIndex, `tiered` is made to use lists at every size, the
peer is faiss.IndexFlatIP; all with the same threads, in turns, medians. Identified: at the threshold at which the exact
index takes one stranger in a hundred for somebody. Busy: searches while all is filed into lists for the first time;
quiet: just before.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import click
import faiss
import numpy as np
from numpy.typing import NDArray

from service.gallery.index import FlatIndex, VectorIndex
from service.gallery.snapshots import SnapshotFolder
from service.gallery.subjects import SubjectIndex
from service.gallery.tiered import TieredIndex
from service.security.sealing import Sealer
from training.evaluation.machine import describe

PHOTOS_EACH = 3
QUERIES = 1000
TOP = 10
FPIR = 0.01
BLOCK = 5000
ALIKE, ALIKE_SPREAD = 0.78, 0.08  # cosine of a photo to its person's direction
Floats = NDArray[np.float32]


class Crowd:
    """Made-up people: photos of them, and strangers."""

    def __init__(self, people: int, dimension: int) -> None:
        self._draw = np.random.default_rng(1)
        self._spread = (np.arange(1, dimension + 1) ** -0.4).astype(np.float32)
        self.people = self.directions(people)

    def directions(self, count: int) -> Floats:
        """(count, D) unit vectors, more spread along some axes than along others."""
        vectors = self._draw.standard_normal((count, len(self._spread)), np.float32) * self._spread
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def photos(self, people: Floats) -> Floats:
        """One of each."""
        alike = self._draw.normal(ALIKE, ALIKE_SPREAD, (len(people), 1)).clip(0.4, 0.95).astype(np.float32)
        away = self.directions(len(people))
        away -= np.sum(away * people, axis=1, keepdims=True) * people
        away /= np.linalg.norm(away, axis=1, keepdims=True)
        return alike * people + np.sqrt(1 - alike**2) * away


def measure(size: int, dimension: int, repeats: int) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Rows of the peer, flat and tiered, and their ratios, at one size."""
    crowd = Crowd(size // PHOTOS_EACH, dimension)
    faces = np.concatenate([crowd.photos(crowd.people) for _ in range(PHOTOS_EACH)])
    owners = np.tile(np.arange(len(crowd.people)), PHOTOS_EACH)
    chosen = np.random.default_rng(2).choice(len(crowd.people), QUERIES // 2, replace=False)
    mates, strangers = crowd.photos(crowd.people[chosen]), crowd.photos(crowd.directions(QUERIES // 2))

    peer = faiss.IndexFlatIP(dimension)
    flat, tiered = FlatIndex(dimension), TieredIndex(dimension, switch_size=len(faces))
    built = {
        "faiss.IndexFlatIP": _seconds(lambda: peer.add(faces)),
        "flat": _seconds(lambda: _fill(flat, faces)),
        "tiered": _seconds(lambda: _fill(tiered, faces)),
    }
    filing = busy(tiered, mates)
    searches: dict[str, Callable[[Floats, int], Any]] = {
        "faiss.IndexFlatIP": peer.search, "flat": flat.search, "tiered": tiered.search
    }  # fmt: skip
    times = {count: in_turns(searches, mates[:count], repeats) for count in (1, 64)}
    exact, strange = flat.search(mates, TOP)[1], flat.search(strangers, 1)[0][:, 0]
    threshold = float(np.quantile(strange, 1 - FPIR))
    rows = []
    for name, search in searches.items():
        similarities, keys = search(mates, TOP)
        right = (owners[keys[:, 0]] == chosen) & (similarities[:, 0] >= threshold)
        rows.append({
            "index": name,
            "faces": len(faces),
            "dimension": dimension,
            "ms_1_query": round(times[1][name], 3),
            "ms_64_queries": round(times[64][name], 2),
            "recall_nearest": round(float(np.mean(keys[:, 0] == exact[:, 0])), 4),
            "recall_10": round(float(np.mean([np.isin(a, b).mean() for a, b in zip(exact, keys, strict=True)])), 4),
            "threshold": round(threshold, 3),
            "identified": round(float(np.mean(right)), 4),
            "false_positives": round(float(np.mean(search(strangers, 1)[0][:, 0] >= threshold)), 4),
            "build_s": round(built[name], 2),
        })  # fmt: skip
    memory = {"faiss.IndexFlatIP": faces.nbytes, "flat": faces.nbytes + 8 * len(faces), "tiered": tiered.bytes}
    for row in rows:
        row["bytes_per_face"] = round(memory[row["index"]] / len(faces))
    rows[-1] |= _lists(tiered) | filing | snapshot(tiered, owners)
    return rows, _ratios(rows, len(faces))


def _lists(tiered: TieredIndex) -> dict[str, int]:
    assert tiered.clusters is not None
    return {"lists": len(tiered.clusters.centres), "probes": tiered.clusters.probes}


def busy(tiered: TieredIndex, queries: Floats) -> dict[str, float]:
    """File everything into lists; milliseconds of single searches in peace, and meanwhile."""
    quiet = [_seconds(lambda: tiered.search(queries[:1], TOP)) * 1e3 for _ in range(100)]
    began = time.perf_counter()
    thread = threading.Thread(target=tiered.compact_now)
    thread.start()
    during = []
    while thread.is_alive():
        during.append(_seconds(lambda: tiered.search(queries[:1], TOP)) * 1e3)
        time.sleep(0.002)
    return {
        "filing_s": round(time.perf_counter() - began, 2),
        "busy_ms_median": round(median(during), 3),
        "busy_ms_p99": round(float(np.quantile(during, 0.99)), 2),
        "quiet_ms_p99": round(float(np.quantile(quiet, 0.99)), 2),
    }


def snapshot(tiered: TieredIndex, owners: NDArray[np.int64]) -> dict[str, float]:
    """Seconds to save and to load, plain."""
    index = SubjectIndex.restored(tiered, np.arange(len(owners)), owners)
    with tempfile.TemporaryDirectory() as scratch:
        folder = SnapshotFolder(Path(scratch), "bench", Sealer.none()).open()
        saving = _seconds(lambda: folder.save(1, 1, datetime.now(UTC), folder.state_of(index)))
        size = sum(file.stat().st_size for file in Path(scratch).iterdir())
        loading = _seconds(lambda: folder.load(1))
    return {"snapshot_mb": round(size / 1e6, 1), "save_s": round(saving, 2), "load_s": round(loading, 2)}


def in_turns(searches: dict[str, Callable[[Floats, int], Any]], queries: Floats, repeats: int) -> dict[str, float]:
    """Median milliseconds of each, run in turns so that all meet the same noise."""
    times: dict[str, list[float]] = {name: [] for name in searches}
    for turn in range(repeats + 1):
        for name, search in searches.items():
            taken = _seconds(lambda search=search: search(queries, TOP)) * 1e3
            if turn:
                times[name].append(taken)
    return {name: median(taken) for name, taken in times.items()}


def _fill(index: VectorIndex, faces: Floats) -> None:
    for start in range(0, len(faces), BLOCK):
        block = faces[start : start + BLOCK]
        index.add(np.arange(start, start + len(block)), block)


def _ratios(rows: Sequence[dict[str, Any]], size: int) -> dict[str, float]:
    peer, flat, tiered = rows
    found = {}
    for name, row in (("flat", flat), ("tiered", tiered)):
        for measured in ("ms_1_query", "ms_64_queries"):
            found[f"peer_over_{name}_{measured}_{size}"] = round(peer[measured] / row[measured], 2)
    found[f"tiered_over_exact_identified_{size}"] = round(tiered["identified"] / flat["identified"], 4)
    found[f"tiered_over_peer_bytes_{size}"] = round(tiered["bytes_per_face"] / peer["bytes_per_face"], 3)
    return found


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@click.command()
@click.option("--size", "sizes", type=click.IntRange(3000), multiple=True, default=(20_000, 100_000), show_default=True)
@click.option("--dimension", type=click.IntRange(8), default=512, show_default=True)
@click.option("--repeats", type=click.IntRange(1), default=15, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--json", "output", type=click.Path(dir_okay=False, path_type=Path), required=True)
def main(sizes: tuple[int, ...], dimension: int, repeats: int, threads: int, output: Path) -> None:
    """Measure, and write name, machine, rows and ratios as JSON."""
    faiss.omp_set_num_threads(threads)
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for size in sizes:
        measured, found = measure(size, dimension, repeats)
        rows += measured
        ratios |= found
        for row in measured:
            click.echo(json.dumps(row))
    document = {"name": "index", "machine": {**describe(), "threads": threads}, "rows": rows, "ratios": ratios}
    output.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
