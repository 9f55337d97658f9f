"""Our face detector beside YuNet, in the same run: forward time, average precision on wider-dev, landmarks.

    python bench/detector.py --json detector.json

Landmarks: on the portraits that training holds out. Their labels are single views of the peer; the mean over ten of its
views is steadier, so errors are given against both, and those of the labels against the mean.

Time: one thread each, a 640x480 input, medians of alternating runs; ours in the service's engine, the peer in
ONNX Runtime. Average precision: ours enlarges small photos, so the peer is measured on the photos as they are and
enlarged alike. Ours is run in the precision that the service takes on this processor, and in float32; where these
differ, all is measured for both, and how far the faces of the one are from those of the other. Faces are found and
scored as the service does, with two further looks at each; `search_alone_ap50` is without.
"""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models import checkpoint, pretrained
from models.detector.decode import overlaps
from models.detector.find import MAX_SIDE, find_faces
from models.detector.refine import detect, look_again
from models.faces import Face, Forward
from service.recognition.engines import EngineOptions, OpenVinoEngine
from training.data.detection import read_photos
from training.data.pseudo_labels import complete
from training.evaluation.detection import (
    Finder,
    Labels,
    find_looked_at,
    landmark_errors,
    measure,
    peer_finder,
    read_labels,
)
from training.evaluation.machine import describe
from training.evaluation.peers import Yunet, open_onnx

SHARED = Path(os.environ.get("FACEMARGIN_SHARED", Path(__file__).resolve().parents[2] / "shared"))
PEER = SHARED / "peers" / "yunet_n_dynamic.onnx"
PHOTOS = SHARED / "data" / "photos.tar"
WARM_UP = 5
TILE = 104  # a sixteenth of a photo
PEER_THRESHOLD = 0.5
SAME_FACE = 0.5  # IoU
HELD_OUT = 100  # portraits, as in training/configs/detector-1-search.yaml


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
        cache, extracted = Path(scratch) / "cache", Path(scratch) / "photos"
        quick, exact = (open_engines(loaded, cache, precision) for precision in ("auto", "f32"))
        measured = [quick] if quick[0].precision == "f32" else [quick, exact]
        *times, peer_time = forward_times([*(search for search, _ in measured), onnx_forward(peer)], rounds)
        with tarfile.open(photos) as archive:
            archive.extractall(extracted, filter="data")
        yunet = Yunet(peer)
        rows = [
            {
                "model": loaded.model_id,
                "engine": f"openvino {search.precision}",
                "ms_640x480": taken,
                "engine_further_looks": f"openvino {looks.precision}",
                "ms_further_looks": further_looks_time(looks, rounds),
                **precision(extracted, partial(find_looked_at, search, looks, MAX_SIDE)),
                "search_alone_ap50": precision(extracted, partial(find_ours, search))["ap50"],
                "portraits": HELD_OUT,
                "landmark_error": portrait_landmarks(search, looks, yunet, photos),
                "false_positives_per_100_face_free_tiles": face_free_tiles(search, looks, yunet, extracted),
                "off_f32": differences((search, looks), exact, extracted),
            }
            for (search, looks), taken in zip(measured, times, strict=True)
        ]
        as_they_are = precision(extracted, peer_finder(yunet))
        enlarged = precision(extracted, partial(find_enlarged, yunet))
    ratios = {
        "peer_over_ours_ms": round(peer_time / times[0], 3),
        "ours_over_peer_ap50_16": round(rows[0]["ap50"]["16"] / enlarged["ap50"]["16"], 3),
        "ours_over_peer_ap50_32": round(rows[0]["ap50"]["32"] / enlarged["ap50"]["32"], 3),
    }
    rows.append({"model": peer.stem, "engine": "onnxruntime", "ms_640x480": peer_time, **as_they_are})
    rows.append({"model": f"{peer.stem}, photos enlarged", "engine": "onnxruntime", **enlarged})
    document = {"name": "detector", "machine": {**describe(), "threads": 1}, "rows": rows, "ratios": ratios}
    output.write_text(json.dumps(document, indent=2) + "\n")
    click.echo(json.dumps({"rows": rows, "ratios": ratios}, indent=2))


def open_engines(
    loaded: checkpoint.Checkpoint, cache: Path, precision: Literal["auto", "f32"]
) -> tuple[OpenVinoEngine, OpenVinoEngine]:
    """That of the search and that of further looks; in `auto` those that the service would choose."""
    options = EngineOptions(threads=1, precision=precision)
    search = OpenVinoEngine.open(loaded, cache, options)
    looks = loaded.further_looks()
    return search, search if looks is None else OpenVinoEngine.open(looks, cache, options)


def onnx_forward(path: Path) -> Forward:
    """A graph of one input in ONNX Runtime."""
    session = open_onnx(path, threads=1)
    name = session.get_inputs()[0].name
    return lambda planes: session.run(None, {name: planes})


def forward_times(forwards: Sequence[Forward], rounds: int) -> list[float]:
    """Median milliseconds of each, run in turns so that all meet the same noise."""
    planes = np.random.default_rng(0).uniform(-1, 1, (1, 3, 480, 640)).astype(np.float32)
    times: list[list[float]] = [[] for _ in forwards]
    for turn in range(WARM_UP + rounds):
        for forward, kept in zip(forwards, times, strict=True):
            started = time.perf_counter()
            forward(planes)
            if turn >= WARM_UP:
                kept.append((time.perf_counter() - started) * 1e3)
    return [round(median(kept), 3) for kept in times]


def further_looks_time(looks: Forward, rounds: int) -> float:
    """Median milliseconds of the further looks at one face, of a photo of 640x480."""
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    face = Face((200.0, 120.0, 90.0, 120.0), np.zeros((5, 2), np.float32), 0.9)
    times = []
    for _ in range(WARM_UP + rounds):
        started = time.perf_counter()
        look_again(image, [face], looks)
        times.append((time.perf_counter() - started) * 1e3)
    return round(median(times[WARM_UP:]), 3)


def precision(photos: Path, find: Finder) -> dict[str, Any]:
    """The measure of a detector on wider-dev."""
    return measure(photos, read_labels(photos / "wider-dev.json"), find)


def find_ours(ours: Forward, image: NDArray[np.uint8], score: float) -> list[Face]:
    """The search of the service, without further looks."""
    return find_faces(image, ours, score_threshold=score)


def find_enlarged(peer: Yunet, image: NDArray[np.uint8], score: float) -> list[Face]:
    """The peer's faces of a photo brought to the size that ours brings it to."""
    scale = MAX_SIDE / max(image.shape[:2])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    pixels = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    found = peer.find(pixels, score_threshold=score)
    return [Face(tuple(value / scale for value in face.box), face.landmarks / scale, face.score) for face in found]


def differences(quick: tuple[Forward, Forward], exact: tuple[Forward, Forward], photos: Path) -> dict[str, float]:
    """How far the faces that one (search, looks) finds in wider-dev are from those of the other that overlap them most.

    landmarks: the mean distance of a face's five, in inter-ocular distances.
    """
    off: dict[str, list[float]] = defaultdict(list)
    missed = 0
    for labels in read_labels(photos / "wider-dev.json"):
        image = np.asarray(Image.open(photos / labels.image).convert("RGB"))
        found = detect(image, *quick)
        boxes = np.array([face.box for face in found], np.float32).reshape(-1, 4)
        for face in detect(image, *exact):
            shared = overlaps(np.array(face.box, np.float32), boxes)
            if not len(shared) or shared.max() < SAME_FACE:
                missed += 1
                continue
            same = found[int(shared.argmax())]
            apart = np.linalg.norm(same.landmarks - face.landmarks, axis=1).mean()
            off["box_1_minus_iou"].append(float(1 - shared.max()))
            off["landmarks"].append(float(apart / np.linalg.norm(face.landmarks[0] - face.landmarks[1])))
            off["score"].append(abs(same.score - face.score))
    return {
        "missed": missed,
        **{f"{name}_mean": round(float(np.mean(values)), 5) for name, values in off.items()},
        **{f"{name}_95_percent": round(float(np.quantile(values, 0.95)), 5) for name, values in off.items()},
    }


def face_free_tiles(search: Forward, looks: Forward, peer: Yunet, photos: Path) -> dict[str, float]:
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
                found["ours"] += len(detect(tile, search, looks))
                found["peer"] += len(peer.find(tile, score_threshold=PEER_THRESHOLD))
    rates = {name: round(100 * found[name] / found["tiles"], 2) for name in ("ours", "peer")}
    return {"side": TILE, "tiles": found["tiles"], "peer_threshold": PEER_THRESHOLD, **rates}


def portrait_landmarks(ours: Forward, looks: Forward, peer: Yunet, photos: Path) -> dict[str, float]:
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
        found = look_again(pixels, first, looks)
        errors["first_look_to_labels"] += landmark_errors(first, labels)
        errors["ours_to_labels"] += landmark_errors(found, labels)
        errors["ours_to_mean_view"] += landmark_errors(found, mean)
        errors["labels_to_mean_view"] += landmark_errors(labelled, mean)
    return {name: round(median(values), 4) for name, values in errors.items()}


if __name__ == "__main__":
    main()
