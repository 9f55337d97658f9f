"""WIDER FACE's measure on .mat files written as the official ones are nested, by hand and by its pseudo-code."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from models.faces import Face
from training.cli import main
from training.evaluation.embeddings import EvaluationError
from training.evaluation.wider import WiderPhoto, read_wider, wider_average_precision

DIFFICULTIES = ("easy", "medium", "hard")
Photos = dict[str, dict[str, tuple[list[list[float]], dict[str, list[int]]]]]


def column(items: Sequence[object]) -> np.ndarray:
    array = np.empty((len(items), 1), object)
    for number, item in enumerate(items):
        array[number, 0] = item
    return array


def write_mats(folder: Path, photos: Photos) -> Path:
    """event -> photo -> (boxes, difficulty -> the 1-based numbers of the boxes that it counts)."""
    events = list(photos)
    boxes = column([column([np.array(b, float).reshape(-1, 4) for b, _ in photos[e].values()]) for e in events])
    contents = {"event_list": column(events), "file_list": column([column(list(photos[e])) for e in events])}
    savemat(folder / "wider_face_val.mat", {**contents, "face_bbx_list": boxes})
    for name in DIFFICULTIES:
        lists = [column([np.array(w[name], np.uint8).reshape(-1, 1) for _, w in photos[e].values()]) for e in events]
        savemat(folder / f"wider_{name}_val.mat", {**contents, "gt_list": column(lists)})
    return folder


def face(box: Sequence[float], score: float) -> Face:
    x, y, width, height = box
    return Face((x, y, width, height), np.zeros((5, 2), np.float32), score)


def everyone(*numbers: int) -> dict[str, list[int]]:
    return {name: list(numbers) for name in DIFFICULTIES}


def test_the_nested_lists_are_read(tmp_path: Path) -> None:
    photos: Photos = {
        "0--Parade": {"a": ([[0, 0, 10, 10], [20, 0, 5, 5]], {"easy": [1], "medium": [1, 2], "hard": [2]})},
        "1--Handshaking": {"b": ([], everyone()), "c": ([[1, 2, 3, 4]], {"easy": [], "medium": [], "hard": [1]})},
    }
    read = read_wider(write_mats(tmp_path, photos))
    assert [photo.image for photo in read] == ["0--Parade/a.jpg", "1--Handshaking/b.jpg", "1--Handshaking/c.jpg"]
    assert read[0].wanted["easy"].tolist() == [True, False]
    assert read[0].wanted["hard"].tolist() == [False, True]
    assert [len(photo.boxes) for photo in read] == [2, 0, 1]
    assert read[2].wanted["easy"].tolist() == [False]


def test_average_precision_by_hand(tmp_path: Path) -> None:
    # Two wanted faces, one that only "hard" counts. Best first: a hit, a miss, the small face, a hit.
    wanted = {"easy": [1, 2], "medium": [1, 2], "hard": [1, 2, 3]}
    photos: Photos = {"e": {"a": ([[0, 0, 40, 40], [100, 0, 40, 40], [200, 0, 9, 9]], wanted)}}
    found = [face((0, 0, 40, 40), 0.9), face((300, 0, 40, 40), 0.7), face((200, 0, 9, 9), 0.6)]
    found.append(face((100, 0, 40, 40), 0.5))
    figures = wider_average_precision([found], read_wider(write_mats(tmp_path, photos)))
    assert figures["easy"] == figures["medium"] == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)  # the small one is ignored
    assert figures["hard"] == pytest.approx(1 / 3 + 2 / 3 * 3 / 4)  # 1/2 and 2/3 are lifted to 3/4 beyond them


def test_a_second_detection_of_a_face_is_wrong() -> None:
    photo = WiderPhoto(
        "a", np.array([[0, 0, 40, 40], [100, 0, 40, 40.0]]), dict.fromkeys(DIFFICULTIES, np.ones(2, bool))
    )
    found = [face((0, 0, 40, 40), 0.9), face((1, 0, 40, 40), 0.8), face((100, 0, 40, 40), 0.7)]
    assert wider_average_precision([found], [photo])["easy"] == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)


def official(found: list[list[Face]], photos: list[WiderPhoto], difficulty: str) -> float:
    """The published procedure, threshold by threshold and detection by detection."""
    scores = [f.score for faces in found for f in faces]
    low, spread = min(scores), (max(scores) - min(scores)) or 1.0
    proposals, hits, wanted = np.zeros(1000), np.zeros(1000), 0
    for faces, photo in zip(found, photos, strict=True):
        wanted += photo.wanted[difficulty].sum()
        if not len(photo.boxes) or not faces:
            continue
        state, counts, recalled = [0] * len(photo.boxes), [], []
        for f in faces:
            overlap = []
            for x, y, w, h in photo.boxes:
                across = min(f.box[0] + f.box[2], x + w) - max(f.box[0], x) + 1
                down = min(f.box[1] + f.box[3], y + h) - max(f.box[1], y) + 1
                shared = across * down if across > 0 and down > 0 else 0
                overlap.append(shared / ((f.box[2] + 1) * (f.box[3] + 1) + (w + 1) * (h + 1) - shared))
            best = int(np.argmax(overlap))
            counts.append(1)
            if overlap[best] >= 0.5:
                if not photo.wanted[difficulty][best]:
                    state[best], counts[-1] = -1, 0
                elif state[best] == 0:
                    state[best] = 1
            recalled.append(state.count(1))
        for t in range(1000):
            taken = [i for i, f in enumerate(faces) if (f.score - low) / spread >= 1 - (t + 1) / 1000]
            if taken:
                proposals[t] += sum(counts[: taken[-1] + 1])
                hits[t] += recalled[taken[-1]]
    recall = [0.0, *(hits / wanted), 1.0]
    precision = [0.0, *(h / p if p else 0.0 for h, p in zip(hits, proposals, strict=True)), 0.0]
    for i in range(len(precision) - 1, 0, -1):
        precision[i - 1] = max(precision[i - 1], precision[i])
    return sum((recall[i + 1] - recall[i]) * precision[i + 1] for i in range(len(recall) - 1))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_average_precision_follows_the_published_procedure(seed: int) -> None:
    generator = np.random.default_rng(seed)
    photos, found = [], []
    for _ in range(4):
        boxes = np.c_[generator.uniform(0, 60, (5, 2)), generator.uniform(5, 40, (5, 2))][: generator.integers(0, 6)]
        wanted = {name: generator.random(len(boxes)) < 0.7 for name in DIFFICULTIES}
        photos.append(WiderPhoto("p", boxes, wanted))
        guesses = [np.abs(box + generator.normal(0, 2, 4)) for box in boxes for _ in range(2)]
        guesses += [np.r_[generator.uniform(0, 60, 2), 20, 20] for _ in range(2)]
        found.append(sorted((face(g, generator.uniform(0.02, 1)) for g in guesses), key=lambda f: -f.score))
    figures = wider_average_precision(found, photos)
    for name in DIFFICULTIES:
        if sum(photo.wanted[name].sum() for photo in photos):
            assert figures[name] == pytest.approx(official(found, photos, name))


def test_damaged_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"wider_face_val\.mat"):
        read_wider(tmp_path)
    write_mats(tmp_path, {"e": {"a": ([[0, 0, 9, 9]], everyone(1))}})
    whole = (tmp_path / "wider_hard_val.mat").read_bytes()
    (tmp_path / "wider_hard_val.mat").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EvaluationError, match=r"wider_hard_val\.mat"):
        read_wider(tmp_path)
    (tmp_path / "wider_hard_val.mat").write_bytes(b"no mat file" * 30)
    with pytest.raises(EvaluationError, match=r"wider_hard_val\.mat"):
        read_wider(tmp_path)
    savemat(tmp_path / "wider_hard_val.mat", {"other": 1})
    with pytest.raises(EvaluationError, match="gt_list"):
        read_wider(tmp_path)


def test_the_command_measures_a_peer_on_real_photos(
    shared: Path, unpacked: Callable[[str], Path], tmp_path: Path
) -> None:
    rows = json.loads((unpacked("photos") / "wider-dev.json").read_text())
    names = sorted({row["image"] for row in rows if min(row["box"][2:]) >= 32})[:4]
    photos: Photos = {"event": {}}
    (tmp_path / "event").mkdir()
    for name in names:
        boxes = [row["box"] for row in rows if row["image"] == name]
        large = [number for number, box in enumerate(boxes, 1) if min(box[2:]) >= 32]
        wanted = {"easy": large, "medium": large, "hard": list(range(1, len(boxes) + 1))}
        photos["event"][Path(name).stem] = (boxes, wanted)
        with Image.open(unpacked("photos") / name) as image:
            image.save(tmp_path / "event" / f"{Path(name).stem}.jpg", quality=95)
    command = ["evaluate", "detection", "--images", tmp_path, "--json", tmp_path / "out.json"]
    extra = ["--wider-mat", write_mats(tmp_path, photos), "--report", tmp_path / "out.html"]
    peer = ["--peer", shared / "peers" / "yunet_n_dynamic.onnx"]
    result = CliRunner().invoke(main, [str(part) for part in [*command, *extra, *peer]])
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "out.json").read_text())
    for figures in (document, document["peer"]["yunet_n_dynamic"]):
        assert figures["wider"]["easy"] > 0.7
        assert figures["wider"]["hard"] <= figures["wider"]["easy"]
        assert set(figures["segmentation"]) == {"pa", "mpa", "miou", "fwiou"}
        assert 0.5 < figures["segmentation"]["miou"] < figures["segmentation"]["pa"] <= 1
    refused = CliRunner().invoke(main, [str(part) for part in command])
    assert (refused.exit_code, "one of them" in refused.stderr) == (2, True)
