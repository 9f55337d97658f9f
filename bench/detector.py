"""Our face detector beside YuNet, in the same run: forward time, average precision on wider-dev, landmarks.

    python bench/detector.py --json detector.json

Landmarks: on the portraits that training holds out. Their labels are single views of the peer; the mean over ten of its
views is steadier, so errors are given against both, and those of the labels against the mean.

Time: one thread each, a 640x480 input, medians of alternating runs; ours in the service's engine, the peer in
ONNX Runtime. Precision: ours enlarges small photos, so the peer is measured on the photos as they are and
enlarged alike.
"""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from models import checkpoint, pretrained
from models.detector.find import MAX_SIDE, find_faces
from models.detector.refine import refine_landmarks
from models.faces import Face, Forward
from service.recognition.engines import EngineOptions, OpenVinoEngine
from training.data.detection import read_photos
from training.data.pseudo_labels import complete
from training.evaluation.detection import Labels, landmark_errors, measure, peer_finder, read_labels
from training.evaluation.machine import describe
from training.evaluation.peers import Yunet, open_onnx

SHARED = Path(os.environ.get("FACEMARGIN_SHARED", Path(__file__).resolve().parents[2] / "shared"))
PEER = SHARED / "peers" / "yunet_n_dynamic.onnx"
PHOTOS = SHARED / "data" / "photos.tar"
WARM_UP = 5
TILE = 104  # a sixteenth of a photo
PEER_THRESHOLD = 0.5
HELD_OUT = 100  # portraits, as in training/configs/detector-4-close-ups.yaml


@click.command()
@click.option("--checkpoint", "path", type=click.Path(path_type=Path), default=pretrained.DETECTOR)
@click.option("--peer", type=click.Path(path_type=Path), default=PEER)
@click.option("--photos", type=click.Path(path_type=Path), default=PHOTOS)
@click.option("--rounds", type=click.IntRange(1), default=60, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), required=True)
def main(path: Path, peer: Path, photos: Path, rounds: int, output: Path) -> None:
    """Measure and write {"name", "machine", "rows", "ratios"}."""
    loaded = checkpoint.read(path)
    with tempfile.TemporaryDirectory() as scratch:
        ours = OpenVinoEngine.open(loaded, Path(scratch) / "cache", EngineOptions(threads=1))
        speed = forward_times(ours, open_onnx(peer, threads=1), rounds)
        further_looks = further_looks_time(ours, rounds)
        with tarfile.open(photos) as archive:
            archive.extractall(Path(scratch) / "photos", filter="data")
        precision = precisions(ours, Yunet(peer), Path(scratch) / "photos")
        landmarks = portrait_landmarks(ours, Yunet(peer), photos)
        tiles = face_free_tiles(ours, Yunet(peer), Path(scratch) / "photos")
    rows = [
        {
            "model": loaded.model_id,
            "engine": "openvino",
            "ms_640x480": speed[0],
            "ms_further_looks": further_looks,
            **precision[0],
        },
        {"model": peer.stem, "engine": "onnxruntime", "ms_640x480": speed[1], **precision[1]},
        {"model": f"{peer.stem}, photos enlarged", "engine": "onnxruntime", **precision[2]},
        {"model": loaded.model_id, "portraits": HELD_OUT, "landmark_error": landmarks},
        {"model": loaded.model_id, "false_positives_per_100_face_free_tiles": tiles},
    ]
    ratios = {
        "peer_over_ours_ms": round(speed[1] / speed[0], 3),
        "ours_over_peer_ap50_16": round(precision[0]["ap50"]["16"] / precision[2]["ap50"]["16"], 3),
        "ours_over_peer_ap50_32": round(precision[0]["ap50"]["32"] / precision[2]["ap50"]["32"], 3),
    }
    document = {"name": "detector", "machine": {**describe(), "threads": 1}, "rows": rows, "ratios": ratios}
    output.write_text(json.dumps(document, indent=2) + "\n")
    click.echo(json.dumps({"rows": rows, "ratios": ratios}, indent=2))


def forward_times(ours: Forward, peer: onnxruntime.InferenceSession, rounds: int) -> tuple[float, float]:
    """Median milliseconds of ours and of the peer, run in turns so that both meet the same noise."""
    planes = np.random.default_rng(0).uniform(-1, 1, (1, 3, 480, 640)).astype(np.float32)
    name = peer.get_inputs()[0].name
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(WARM_UP + rounds):
        for run, kept in zip((ours, lambda x: peer.run(None, {name: x})), times, strict=True):
            started = time.perf_counter()
            run(planes)
            if turn >= WARM_UP:
                kept.append((time.perf_counter() - started) * 1e3)
    return round(median(times[0]), 3), round(median(times[1]), 3)


def further_looks_time(ours: Forward, rounds: int) -> float:
    """Median milliseconds of the further looks at one face, of a photo of 640x480."""
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    face = Face((200.0, 120.0, 90.0, 120.0), np.zeros((5, 2), np.float32), 0.9)
    times = []
    for _ in range(WARM_UP + rounds):
        started = time.perf_counter()
        refine_landmarks(image, [face], ours)
        times.append((time.perf_counter() - started) * 1e3)
    return round(median(times[WARM_UP:]), 3)


def precisions(ours: Forward, peer: Yunet, photos: Path) -> list[dict[str, Any]]:
    """The measure of ours, of the peer, and of the peer on enlarged photos."""
    labels = read_labels(photos / "wider-dev.json")

    def enlarged(image: NDArray[np.uint8], score: float) -> list[Face]:
        scale = MAX_SIDE / max(image.shape[:2])
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        pixels = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        found = peer.find(pixels, score_threshold=score)
        return [Face(tuple(value / scale for value in face.box), face.landmarks / scale, face.score) for face in found]

    finders = (
        lambda image, score: find_faces(image, ours, score_threshold=score),
        peer_finder(peer),
        enlarged,
    )
    return [measure(photos, labels, find) for find in finders]


def face_free_tiles(ours: Forward, peer: Yunet, photos: Path) -> dict[str, float]:
    """Faces found in 100 square tiles of wider-dev that touch no labelled face, each detector at its own threshold."""
    found = {"tiles": 0, "ours": 0, "peer": 0}
    for labels in read_labels(photos / "wider-dev.json"):
        image = np.asarray(Image.open(photos / labels.image).convert("RGB"))
        for top in range(0, image.shape[0] - TILE + 1, TILE):
            for left in range(0, image.shape[1] - TILE + 1, TILE):
                start = np.array([left, top], np.float32)
                ends = labels.boxes[:, :2] + labels.boxes[:, 2:]
                if ((labels.boxes[:, :2] < start + TILE) & (ends > start)).all(axis=1).any():
                    continue
                tile = np.ascontiguousarray(image[top : top + TILE, left : left + TILE])
                found["tiles"] += 1
                found["ours"] += len(find_faces(tile, ours))
                found["peer"] += len(peer.find(tile, score_threshold=PEER_THRESHOLD))
    rates = {name: round(100 * found[name] / found["tiles"], 2) for name in ("ours", "peer")}
    return {"side": TILE, "tiles": found["tiles"], "peer_threshold": PEER_THRESHOLD, **rates}


def portrait_landmarks(ours: Forward, peer: Yunet, photos: Path) -> dict[str, float]:
    """Median errors, in inter-ocular distances, of what is named first against what is named second."""
    errors: dict[str, list[float]] = defaultdict(list)
    for photo in read_photos(photos, "celeba")[-HELD_OUT:]:
        mean = Labels(photo.name, photo.boxes, complete(photo, peer).landmarks)
        labels = Labels(photo.name, photo.boxes, photo.landmarks)
        labelled = [
            Face(tuple(box.tolist()), points, 1.0) for box, points in zip(photo.boxes, photo.landmarks, strict=True)
        ]
        pixels = np.asarray(photo.image)
        first = find_faces(pixels, ours)
        found = refine_landmarks(pixels, first, ours)
        errors["first_look_to_labels"] += landmark_errors(first, labels)
        errors["ours_to_labels"] += landmark_errors(found, labels)
        errors["ours_to_mean_view"] += landmark_errors(found, mean)
        errors["labels_to_mean_view"] += landmark_errors(labelled, mean)
    return {name: round(median(values), 4) for name, values in errors.items()}


if __name__ == "__main__":
    main()
