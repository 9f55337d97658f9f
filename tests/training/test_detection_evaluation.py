"""The measure of a detector: average precision by hand, and a real peer on real photos."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from models.faces import Face
from training.evaluation.detection import (
    Labels,
    assign,
    average_precision,
    false_positives,
    landmark_errors,
    measure,
    peer_finder,
    read_labels,
)
from training.evaluation.embeddings import EvaluationError
from training.evaluation.peers import Yunet

POINTS = np.array([[10, 10], [30, 10], [20, 20], [12, 30], [28, 30]], np.float32)


def face(x: float, score: float, side: float = 40) -> Face:
    return Face((x, 0, side, side), POINTS, score)


def labels(*boxes: tuple[float, float, float, float]) -> Labels:
    return Labels("photo.jpg", np.array(boxes, np.float32).reshape(-1, 4), np.tile(POINTS, (len(boxes), 1, 1)))


def test_all_found_and_nothing_else_is_one() -> None:
    photo = labels((0, 0, 40, 40), (100, 0, 40, 40))
    assert average_precision([([face(0, 0.9), face(100, 0.8)], photo)], 32) == pytest.approx(1.0)


def test_precision_recall_by_hand() -> None:
    # By score: hit, miss, hit of two wanted: precision 1 up to recall 1/2, then 2/3 up to 1.
    photo = labels((0, 0, 40, 40), (100, 0, 40, 40))
    found = [face(0, 0.9), face(300, 0.8), face(100, 0.7)]
    assert average_precision([(found, photo)], 32) == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_scores_are_ranked_over_all_photos() -> None:
    one, other = labels((0, 0, 40, 40)), labels()
    found = [([face(0, 0.5)], one), ([face(0, 0.9)], other)]
    assert average_precision(found, 32) == pytest.approx(0.5)


def test_a_second_detection_of_a_face_is_wrong() -> None:
    photo = labels((0, 0, 40, 40), (100, 0, 40, 40))
    found = [face(0, 0.9), face(2, 0.8), face(100, 0.7)]
    assert average_precision([(found, photo)], 32) == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_small_faces_are_neither_wanted_nor_wrong() -> None:
    photo = labels((0, 0, 40, 40), (100, 0, 20, 20))
    found = [face(100, 0.9, side=20), face(0, 0.8)]
    assert average_precision([(found, photo)], 32) == pytest.approx(1.0)
    assert average_precision([([face(0, 0.8)], photo)], 16) == pytest.approx(0.5)


def test_nothing_wanted_or_found_is_zero() -> None:
    assert average_precision([([face(0, 0.9)], labels())], 16) == 0
    assert average_precision([([], labels((0, 0, 40, 40)))], 16) == 0


def test_the_better_overlap_is_assigned() -> None:
    boxes = labels((0, 0, 40, 40), (8, 0, 40, 40)).boxes
    assert assign([face(8, 0.9), face(1, 0.8)], boxes, np.ones(2, bool)) == [1, 0]


def test_landmark_error_is_in_inter_ocular_distances() -> None:
    shifted = Face((0, 0, 40, 40), POINTS + np.array([2, 0], np.float32), 0.9)
    assert landmark_errors([shifted], labels((0, 0, 40, 40))) == [pytest.approx(0.1)]


def test_only_confident_detections_are_false_positives() -> None:
    photo = labels((0, 0, 40, 40))
    assert false_positives([face(0, 0.99), face(200, 0.9), face(300, 0.05)], photo, 16) == 1


def test_malformed_labels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    for document in ([{"image": "a.jpg"}], {"a": 1}, [3]):
        path.write_text(json.dumps(document))
        with pytest.raises(EvaluationError, match=r"labels\.json"):
            read_labels(path)


def test_a_peer_finds_what_the_crowd_photos_label(shared: Path, unpacked) -> None:  # type: ignore[no-untyped-def]
    photos = unpacked("photos")
    peer = Yunet(shared / "peers/yunet_n_dynamic.onnx")
    report = measure(photos, read_labels(photos / "wider-dev.json")[:20], peer_finder(peer))
    assert report["ap50"]["32"] > 0.6
    assert report["landmark_error"] is None  # hand-made boxes come without landmarks
