"""Accuracy of the shipped recogniser next to the peer MobileFaceNet-128, on the same pairs in the same run.

cfp-dev (frontal-frontal, frontal-profile) are crops aligned once for everybody; lfw-devtest goes
through the whole pipeline: our detector and alignment for ours, YuNet and the same alignment for the peer's.

Example: python bench/recognition.py --shared ../shared --json bench/recognition.json
"""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import click
import torch

from models.pretrained import DETECTOR, RECOGNISER
from training.evaluation import machine
from training.evaluation.report import evaluate_verification

_PEER = "mobilefacenet_128"
_KEPT = ("model", "detector", "accuracy_mean", "accuracy_std", "auc", "eer", "tar_at_fmr", "failed_detections")


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a tar and give the folder that holds its people."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    entries = list(folder.iterdir())
    return entries[0] if len(entries) == 1 else folder


def measure(shared: Path, scratch: Path, recogniser: Path, detector: Path) -> list[dict[str, Any]]:
    """One row a set and model, ours first."""
    data, peers = shared / "data", shared / "peers"
    cfp = unpack(data / "cfp-dev.tar.gz", scratch / "cfp-dev")
    lfw = unpack(data / "lfw-devtest.tar", scratch / "lfw-devtest")
    crops, whole = [peers / f"{_PEER}.onnx"], [peers / f"{_PEER}.onnx", peers / "yunet_n_dynamic.onnx"]
    rows = []
    for name, images, pairs, finder, measured_with in (
        ("cfp-dev FF", cfp, data / "cfp-dev-FF.csv", None, crops),
        ("cfp-dev FP", cfp, data / "cfp-dev-FP.csv", None, crops),
        ("lfw-devtest", lfw, lfw / "pairs.txt", detector, whole),
    ):
        report = evaluate_verification(images, pairs, checkpoint=recogniser, detector=finder, peers=measured_with)
        for measured in (report, report["peer"][_PEER]):
            rows.append({"set": name, **{key: measured[key] for key in _KEPT}})
    return rows


def ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Errors of ours over errors of the peer's (below 1: ours is better), for each set."""
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return {
        f"{ours['set']} error, ours / peer": (1 - ours["accuracy_mean"]) / max(1 - peer["accuracy_mean"], 1e-9)
        for ours, peer in pairs
    }


@click.command()
@click.option(
    "--shared",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=lambda: os.environ.get("FACEMARGIN_SHARED", Path(__file__).resolve().parents[2] / "shared"),
    help="Folder of data/ and peers/; default: $FACEMARGIN_SHARED, or `shared` beside the checkout.",
)
@click.option("--recogniser", type=click.Path(exists=True, path_type=Path), default=RECOGNISER)
@click.option("--detector", type=click.Path(exists=True, path_type=Path), default=DETECTOR)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--json", "output", type=click.Path(dir_okay=False, path_type=Path), required=True)
def main(shared: Path, recogniser: Path, detector: Path, threads: int, output: Path) -> None:
    """Measure, and write name, machine, rows and ratios as JSON."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as scratch:
        rows = measure(shared, Path(scratch), recogniser, detector)
    document = {"name": "recognition", "machine": machine.describe(), "rows": rows, "ratios": ratios(rows)}
    output.write_text(json.dumps(document, indent=2) + "\n")
    for row in rows:
        click.echo(f"{row['set']:12} {row['model']:32} {row['accuracy_mean']:.2%} ± {row['accuracy_std']:.2%}")


if __name__ == "__main__":
    main()
