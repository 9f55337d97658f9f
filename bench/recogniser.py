"""Forward time of our recogniser in the service's engine, beside a peer's in ONNX Runtime, in the same run.

    python bench/recogniser.py --json recogniser.json

One thread each, batches of 1, 2 and 8 aligned crops, medians over turns of five forwards; milliseconds a crop. The
first forward of a turn finds another network's data in the processor's caches, as where a photo has just been searched,
and is told apart from those that follow it. Ours is run in the precision that the service takes on this processor, and
in float32; where these differ, the accuracy of both on the pairs of cfp-dev says what that costs.
"""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from models import checkpoint, pretrained
from models.embedding import embed
from models.faces import Forward
from service.recognition.engines import EngineOptions, OpenVinoEngine
from training.evaluation.embeddings import cosines, embed_images, read_aligned
from training.evaluation.machine import describe
from training.evaluation.pair_sets import listed_pairs
from training.evaluation.peers import OnnxRecogniser
from training.evaluation.verification import verify

SHARED = Path(os.environ.get("FACEMARGIN_SHARED", Path(__file__).resolve().parents[2] / "shared"))
PEER = SHARED / "peers" / "mobilefacenet_128.onnx"
DATA = SHARED / "data"
BATCHES = (1, 2, 8)  # 2: a crop and its mirror image, as the service embeds a face
WARM_UP = 5
IN_A_ROW = 5  # forwards of one network before it is another's turn


@click.command()
@click.option("--checkpoint", "path", type=click.Path(path_type=Path), default=pretrained.RECOGNISER)
@click.option("--peer", type=click.Path(path_type=Path), default=PEER)
@click.option("--rounds", type=click.IntRange(1), default=60, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), required=True)
def main(path: Path, peer: Path, rounds: int, output: Path) -> None:
    """Measure and write {"name", "machine", "rows", "accuracy", "ratios"}."""
    loaded = checkpoint.read(path)
    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(scratch) / "cache"
        ours = OpenVinoEngine.open(loaded, cache, EngineOptions(threads=1, precision="auto"))
        engines = [ours]
        if ours.precision != "f32":
            engines.append(OpenVinoEngine.open(loaded, cache, EngineOptions(threads=1)))
        theirs = OnnxRecogniser(peer, threads=1).forward
        rows, ratios = [], {}
        for batch in BATCHES:
            *times, peer_times = measure([*engines, theirs], batch, rounds)
            for engine, taken in zip(engines, times, strict=True):
                rows.append(_row(loaded.model_id, f"openvino {engine.precision}", batch, taken))
            rows.append(_row(peer.stem, "onnxruntime", batch, peer_times))
            for name, ours_time in times[0].items():
                ratios[f"ours_over_peer_batch_{batch}_{name}"] = round(ours_time / peer_times[name], 3)
        accuracy = accuracies(engines, Path(scratch)) if len(engines) > 1 else []
    document = {
        "name": "recogniser",
        "machine": {**describe(), "threads": 1},
        "rows": rows,
        "accuracy": accuracy,
        "ratios": ratios,
    }
    output.write_text(json.dumps(document, indent=2) + "\n")
    click.echo(json.dumps({"rows": rows, "accuracy": accuracy, "ratios": ratios}, indent=2))


def measure(forwards: Sequence[Forward], batch: int, rounds: int) -> list[dict[str, float]]:
    """Median milliseconds a crop of each, `first` of a turn and `in_a_row` after it; in turns, so noise is shared."""
    planes = np.random.default_rng(0).uniform(-1, 1, (batch, 3, 112, 112)).astype(np.float32)
    turns: list[list[list[float]]] = [[] for _ in forwards]
    for _ in range(WARM_UP + rounds):
        for forward, kept in zip(forwards, turns, strict=True):
            kept.append([_time(forward, planes) / batch for _ in range(IN_A_ROW)])
    return [
        {"first": median(turn[0] for turn in kept), "in_a_row": median(taken for turn in kept for taken in turn[1:])}
        for kept in (kept[WARM_UP:] for kept in turns)
    ]


def _time(forward: Forward, planes: NDArray[np.float32]) -> float:
    started = time.perf_counter()
    forward(planes)
    return (time.perf_counter() - started) * 1e3


def accuracies(engines: Sequence[OpenVinoEngine], scratch: Path) -> list[dict[str, Any]]:
    """For each pair list of cfp-dev the accuracy of each engine, and how far its cosines are from the last one's."""
    with tarfile.open(DATA / "cfp-dev.tar.gz") as archive:
        archive.extractall(scratch / "cfp-dev", filter="data")
    rows = []
    for name in ("FF", "FP"):
        pairs = listed_pairs(scratch / "cfp-dev", DATA / f"cfp-dev-{name}.csv")
        found: list[NDArray[np.float64]] = []
        for engine in engines:
            embedded = embed_images(
                pairs.images, read_aligned, lambda crops, run=engine: embed(crops, run, run.metadata.flip_average)
            )
            found.append(cosines(embedded, pairs.first, pairs.second))
        for engine, these in zip(engines, found, strict=True):
            summary = verify(these, pairs.same, pairs.fold).summary()
            off = np.abs(these - found[-1])
            rows.append(
                {
                    "set": f"cfp-dev {name}",
                    "precision": engine.precision,
                    "accuracy_mean": summary["accuracy_mean"],
                    "tar_at_fmr": summary["tar_at_fmr"],
                    "cosine_off_rms": round(float(np.sqrt((off**2).mean())), 5),
                    "cosine_off_max": round(float(off.max()), 5),
                }
            )
    return rows


def _row(model: str, engine: str, batch: int, taken: dict[str, float]) -> dict[str, Any]:
    times = {f"{name}_ms_per_crop": round(milliseconds, 3) for name, milliseconds in taken.items()}
    return {"model": model, "engine": engine, "threads": 1, "batch": batch, **times}


if __name__ == "__main__":
    main()
