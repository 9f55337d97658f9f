"""The detection task: it learns, and a resumed run sees what an uninterrupted one would."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models import checkpoint
from models.checkpoint import Metadata
from models.detector.decode import STRIDES
from models.detector.refine import VIEW
from models.network import weights_of
from models.registry import build
from training.data.detection import DetectionDataError, Photo, read_crops, read_photos
from training.data.kept_labels import Ask, asked
from training.data.pseudo_labels import complete, locate, template_box
from training.evaluation.peers import Yunet
from training.tasks.detection import DetectionTask, initial_network, read_training_photos
from training.tasks.detection_config import DetectionConfig


@pytest.fixture(scope="module")
def config(shared: Path) -> DetectionConfig:
    """A small task: the portraits but for the last 20 are held out, scenes are 96 pixels."""
    return DetectionConfig(
        photos=shared / "data/photos.tar",
        held_out=880,
        size=96,
        images_per_epoch=32,
        arguments={"stem": 8, "widths": [16, 32, 32], "blocks": [1, 1, 1], "pyramid": 16},
    )


@pytest.fixture(scope="module")
def task(config: DetectionConfig) -> DetectionTask:
    torch.manual_seed(0)
    return DetectionTask(config, "small", batch_size=8, seed=3)


def test_an_epoch_is_drawn_from_seed_epoch_rank_and_batch_alone(task: DetectionTask) -> None:
    whole = list(task.batches(2, 0, 1))
    resumed = list(task.batches(2, 0, 1, first=3))
    assert len(whole) == task.steps_per_epoch(1) == 4
    for name, tensor in resumed[0].items():
        torch.testing.assert_close(tensor, whole[3][name], equal_nan=True)
    other = next(iter(task.batches(2, 1, 2)))
    assert other["image"].shape != whole[0]["image"].shape or (other["image"] != whole[0]["image"]).any()


def test_large_scenes_cost_as_much_as_usual_ones(task: DetectionTask) -> None:
    shapes = {tuple(b["image"].shape) for epoch in range(6) for b in task.batches(epoch, 0, 1)}
    assert shapes == {(8, 96, 96, 3), (2, 192, 192, 3)}


def test_batches_of_close_ups_have_as_many_pixels_as_others(config: DetectionConfig) -> None:
    everything = config.model_copy(update={"size": 320, "close_up_share": 1.0, "peer": None})
    (batch, *_) = DetectionTask(everything, "small", batch_size=8, seed=3).batches(0, 0, 1)
    assert tuple(batch["image"].shape) == (32, VIEW, VIEW, 3)
    assert tuple(batch["boxes"].shape) == (32, 1, 4)
    assert batch["landmarks"].isfinite().all()


def test_every_part_of_the_loss_is_learnt(task: DetectionTask) -> None:
    """Sixty steps on one batch: each part falls well below where it began."""
    torch.manual_seed(0)
    optimiser = torch.optim.AdamW(task.learner.parameters(), lr=1e-2)
    batch = next(task.batches(0, 0, 1))
    history = []
    for _ in range(60):
        loss, parts = task.learner(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        history.append({name: float(part) for name, part in parts.items()})
    for name in ("heat", "box", "landmark"):
        late = np.mean([parts[name] for parts in history[-5:]])
        assert late < 0.7 * history[0][name], name


def test_a_teacher_gives_a_lesson_for_every_level_and_it_is_learnt(config: DetectionConfig, shared: Path) -> None:
    torch.manual_seed(0)
    taught = config.model_copy(update={"teacher": shared / "peers/yunet_n_dynamic.onnx"})
    task = DetectionTask(taught, "small", batch_size=8, seed=3)
    batch = next(task.batches(0, 0, 1))
    side = batch["image"].shape[1]
    for stride in STRIDES:
        assert batch[f"lesson_{stride}"].shape == (len(batch["image"]), 15, side // stride, side // stride)
    optimiser = torch.optim.AdamW(task.learner.parameters(), lr=1e-2)
    history = []
    for _ in range(40):
        loss, _ = task.learner(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        history.append(loss.item())
    assert np.mean(history[-5:]) < 0.7 * history[0]


def test_held_out_portraits_are_never_seen(config: DetectionConfig, shared: Path) -> None:
    everyone = [photo.name for photo in read_photos(shared / "data/photos.tar", "celeba")]
    portraits, crowds, crops = read_training_photos(config)
    assert [photo.name for photo in portraits] == everyone[:20]
    assert len(crowds) == 80
    assert crops == []


@pytest.mark.parametrize("ask", [complete, locate])
def test_the_peer_is_asked_once_about_the_same_photos(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    peer = shared / "peers/yunet_n_dynamic.onnx"
    photos = [photo for photo in read_photos(shared / "data/photos.tar", "celeba")[:12] if len(photo.boxes) == 1][:4]
    told = asked(photos, peer, ask, tmp_path / "labels")
    (kept,) = (tmp_path / "labels").iterdir()  # and nothing unfinished beside it
    with monkeypatch.context() as patched:
        patched.setattr(Yunet, "find", None)
        again = asked(photos, peer, ask, tmp_path / "labels")
    for answer, same, fresh in zip(told, again, asked(photos, peer, ask, None), strict=True):
        for field in ("boxes", "landmarks", "ignored"):
            np.testing.assert_array_equal(getattr(same, field), getattr(answer, field))
            np.testing.assert_array_equal(getattr(fresh, field), getattr(answer, field))

    moved = replace(photos[0], boxes=photos[0].boxes + 1)
    asked([moved, *photos[1:]], peer, ask, tmp_path / "labels")
    assert len(list((tmp_path / "labels").iterdir())) == 2

    kept.write_bytes(kept.read_bytes()[:-40])
    with pytest.raises(DetectionDataError, match=rf"{kept.name}: damaged; delete it"):
        asked(photos, peer, ask, tmp_path / "labels")
    assert asked([], peer, ask, tmp_path / "labels") == []


def test_the_peer_adds_landmarks_and_doubts(shared: Path) -> None:
    peer = Yunet(shared / "peers/yunet_n_dynamic.onnx")
    crowds = read_photos(shared / "data/photos.tar", "wider-train")[:8]
    completed = [complete(photo, peer) for photo in crowds]
    known = sum(int(np.isfinite(photo.landmarks[:, 0, 0]).sum()) for photo in completed)
    assert known > 0
    for before, after in zip(crowds, completed, strict=True):
        np.testing.assert_array_equal(before.boxes, after.boxes)


def test_the_peers_average_is_steadier_than_one_of_its_views(shared: Path) -> None:
    """A photo and a smaller copy: averaged landmarks agree better than single ones."""
    peer = Yunet(shared / "peers/yunet_n_dynamic.onnx")
    single, averaged = [], []
    for photo in read_photos(shared / "data/photos.tar", "celeba")[:12]:
        if len(photo.boxes) != 1:
            continue
        other = replace(photo, image=photo.image.resize((photo.image.width * 3 // 4, photo.image.height * 3 // 4)))
        other = replace(other, boxes=photo.boxes * 0.75)
        inter_ocular = np.linalg.norm(photo.landmarks[0, 0] - photo.landmarks[0, 1])
        one, two = (max(peer.find(np.asarray(p.image)), key=lambda f: f.score).landmarks for p in (photo, other))
        single.append(np.abs(one - two / 0.75).mean() / inter_ocular)
        one, two = (complete(p, peer).landmarks[0] for p in (photo, other))
        averaged.append(np.abs(one - two / 0.75).mean() / inter_ocular)
    assert len(single) > 5
    assert np.median(averaged) < 0.8 * np.median(single)


def test_the_peer_finds_the_landmarks_of_crops(shared: Path) -> None:
    peer = Yunet(shared / "peers/yunet_n_dynamic.onnx")
    box = template_box(read_photos(shared / "data/photos.tar", "celeba")[:20])
    crops = read_crops(shared / "data/faces-train-unlabelled.tar.gz", 12, box)
    located = [locate(crop, peer) for crop in crops]
    known = np.concatenate([crop.landmarks for crop in located if np.isfinite(crop.landmarks).all()])
    assert len(known) > len(crops) // 2
    template = np.array([[38.3, 51.7], [73.5, 51.5], [56.0, 71.7], [41.5, 92.4], [70.7, 92.2]])
    assert np.abs(np.median(known, axis=0) - template).max() < 6  # crops are aligned by the same peer
    blank = Photo("blank", Image.new("RGB", (112, 112)), box[None], crops[0].landmarks, crops[0].ignored)
    assert locate(blank, peer) is blank


def test_the_template_box_surrounds_the_template(shared: Path) -> None:
    x, y, width, height = template_box(read_photos(shared / "data/photos.tar", "celeba")[:100])
    assert 0 < x < 38
    assert 0 < y < 52
    assert 73 < x + width < 112
    assert y + height > 92


def test_another_architecture_is_no_start(config: DetectionConfig, tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    network = build("centreface-fpn", **config.arguments)
    metadata = Metadata(task="detection", name="start", architecture="centreface-fpn", arguments=config.arguments)
    checkpoint.write(start, weights_of(network), metadata)
    again = initial_network(config.model_copy(update={"initial": start}))
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, atol=1e-3, rtol=1e-3)
    with pytest.raises(DetectionDataError, match="start"):
        initial_network(config.model_copy(update={"initial": start, "arguments": {}}))


def test_the_inside_of_the_teacher_is_learned_besides(config: DetectionConfig, shared: Path) -> None:
    torch.manual_seed(0)
    hints = {"smooth.0": "283", "heads.2.tower": "295"}
    taught = {"teacher": shared / "peers/yunet_n_dynamic.onnx", "hints": hints, "hint_weight": 3.0}
    task = DetectionTask(config.model_copy(update=taught), "small", batch_size=4, seed=3)
    batch = next(task.batches(0, 0, 1))
    optimiser = torch.optim.AdamW(task.learner.parameters(), lr=1e-2)
    left = []
    for _ in range(40):
        total, parts = task.learner(batch)
        rest = parts["heat"] + config.box_weight * parts["box"] + config.landmark_weight * parts["landmark"]
        assert total.item() == pytest.approx((rest + 3.0 * parts["hint"]).item(), rel=1e-4)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        left.append(parts["hint"].item())
    assert left[-1] < 0.7 * left[0]


def test_hints_without_a_teacher_are_refused(config: DetectionConfig) -> None:
    with pytest.raises(ValueError, match="give a teacher"):
        DetectionConfig(photos=config.photos, hints={"smooth.0": "283"})
