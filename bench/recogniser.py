"""Forward time of our recogniser in the service's engine, beside a peer's in ONNX Runtime, in the same run.

    python bench/recogniser.py --json recogniser.json

One thread each, batches of 1 and 8 aligned crops, medians of alternating runs; milliseconds a face.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np

from models import checkpoint, pretrained
from models.faces import Forward
from service.recognition.engines import EngineOptions, OpenVinoEngine
from training.evaluation.machine import describe
from training.evaluation.peers import OnnxRecogniser

SHARED = Path(os.environ.get("FACEMARGIN_SHARED", Path(__file__).resolve().parents[2] / "shared"))
PEER = SHARED / "peers" / "mobilefacenet_128.onnx"
BATCHES = (1, 8)
WARM_UP = 5


@click.command()
@click.option("--checkpoint", "path", type=click.Path(path_type=Path), default=pretrained.RECOGNISER)
@click.option("--peer", type=click.Path(path_type=Path), default=PEER)
@click.option("--rounds", type=click.IntRange(1), default=60, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), required=True)
def main(path: Path, peer: Path, rounds: int, output: Path) -> None:
    """Measure and write {"name", "machine", "rows", "ratios"}."""
    loaded = checkpoint.read(path)
    with tempfile.TemporaryDirectory() as cache:
        ours = OpenVinoEngine.open(loaded, Path(cache), EngineOptions(threads=1))
        theirs = OnnxRecogniser(peer, threads=1).forward
        pairs = [measure((loaded.model_id, ours), (peer.stem, theirs), batch, rounds) for batch in BATCHES]
    rows = [row for pair in pairs for row in pair]
    ratios = {
        f"peer_over_ours_batch_{mine['batch']}": round(other["ms_per_face"] / mine["ms_per_face"], 3)
        for mine, other in pairs
    }
    document = {"name": "recogniser", "machine": {**describe(), "threads": 1}, "rows": rows, "ratios": ratios}
    output.write_text(json.dumps(document, indent=2) + "\n")
    click.echo(json.dumps({"rows": rows, "ratios": ratios}, indent=2))


def measure(
    ours: tuple[str, Forward], peer: tuple[str, Forward], batch: int, rounds: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A row for ours and one for the peer, run in turns so that both meet the same noise."""
    planes = np.random.default_rng(0).uniform(-1, 1, (batch, 3, 112, 112)).astype(np.float32)
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(WARM_UP + rounds):
        for (_, forward), kept in zip((ours, peer), times, strict=True):
            started = time.perf_counter()
            forward(planes)
            if turn >= WARM_UP:
                kept.append((time.perf_counter() - started) * 1e3 / batch)
    setting = {"threads": 1, "batch": batch}
    return (
        {"model": ours[0], "engine": "openvino", **setting, "ms_per_face": round(median(times[0]), 3)},
        {"model": peer[0], "engine": "onnxruntime", **setting, "ms_per_face": round(median(times[1]), 3)},
    )


if __name__ == "__main__":
    main()
