"""Scenes: wherever pixels go, their labels go too."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data.detection import DetectionDataError, Photo, read_crops, read_photos
from training.data.scenes import Scene, SceneComposer, SceneRecipe, rotated

FACE = np.array([[60, 40, 40, 56]], np.float32)
POINTS = np.array([[[70, 60], [90, 60], [80, 70], [72, 85], [88, 85]]], np.float32)


def white_face() -> Photo:
    """A black photo whose one face is a white box."""
    pixels = np.zeros((200, 160, 3), np.uint8)
    pixels[40:96, 60:100] = 255
    return Photo("white", Image.fromarray(pixels), FACE, POINTS, np.zeros((0, 4), np.float32))


def recipe(**changes: object) -> SceneRecipe:
    plain = {"grids": {1: 1.0}, "paste_share": 0.0, "rotate_share": 0.0, "cover_share": 0.0}
    return SceneRecipe.model_validate(plain | changes)


def bright_share(scene: Scene, box: np.ndarray) -> float:
    x0, y0 = np.ceil(box[:2] + 1).astype(int)
    x1, y1 = np.floor(box[:2] + box[2:] - 1).astype(int)
    return float((scene.image[y0:y1, x0:x1] > 128).all(axis=-1).mean())


@pytest.mark.parametrize("grids", [{1: 1.0}, {2: 1.0}, {3: 0.5, 4: 0.5}])
def test_boxes_follow_the_pixels_through_crops_mosaics_and_mirrors(grids: dict[int, float]) -> None:
    composer = SceneComposer([white_face()], [], [], recipe(grids=grids, smallest_face=16.0))
    random = np.random.default_rng(0)
    seen = 0
    for _ in range(30):
        scene = composer.scene(160, random)
        assert scene.image.shape == (160, 160, 3)
        assert scene.image.dtype == np.uint8
        for box in scene.boxes:
            assert (box[:2] >= 0).all()
            assert (box[:2] + box[2:] <= 160.01).all()
            assert bright_share(scene, box) > 0.95
            seen += 1
    assert seen >= 25


def test_landmarks_keep_their_place_in_the_face_and_left_stays_left() -> None:
    composer = SceneComposer([white_face()], [], [], recipe(smallest_face=30.0, aspect=0.0))
    random = np.random.default_rng(1)
    for _ in range(30):
        scene = composer.scene(160, random)
        for points in scene.landmarks:
            assert points[0, 0] < points[1, 0]
            assert points[3, 0] < points[4, 0]
            eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
            across = np.linalg.norm(points[1] - points[0])
            assert np.linalg.norm(mouth - eyes) / across == pytest.approx(25 / 20, rel=0.02)


def test_pasted_faces_are_labelled_and_cover_no_other_face() -> None:
    empty = Photo(
        "empty",
        Image.new("RGB", (160, 160)),
        np.zeros((0, 4), np.float32),
        np.zeros((0, 5, 2), np.float32),
        np.zeros((0, 4), np.float32),
    )
    white = white_face()
    composer = SceneComposer([empty, white], [], [], recipe(paste_share=1.0, most_pasted=8))
    random = np.random.default_rng(2)
    counts = []
    for _ in range(20):
        boxes = composer.scene(160, random).boxes
        counts.append(len(boxes))
        for i, box in enumerate(boxes):
            others = np.delete(boxes, i, axis=0)
            shared = np.minimum(box[:2] + box[2:], others[:, :2] + others[:, 2:]) - np.maximum(box[:2], others[:, :2])
            assert not (shared > 0.5).all(axis=1).any()
    assert max(counts) > 2


def test_backgrounds_show_no_face() -> None:
    pixels = np.full((200, 160, 3), 90, np.uint8)
    pixels[:20, :16] = 30  # the face: what is around it is one colour
    corner = np.array([[0, 0, 16, 20]], np.float32)
    photo = Photo("corner", Image.fromarray(pixels), corner, POINTS, np.zeros((0, 4), np.float32))
    composer = SceneComposer([photo], [], [], recipe(grids={2: 1.0}, background_share=1.0))
    random = np.random.default_rng(5)
    scenes = [composer.scene(96, random) for _ in range(20)]
    assert not any(len(scene.boxes) or len(scene.ignored) for scene in scenes)
    assert {int(value) for scene in scenes for value in np.unique(scene.image)} == {90, 255 - 90}


def test_a_photo_full_of_faces_has_no_background() -> None:
    photo = replace(white_face(), boxes=np.array([[0, 0, 160, 200]], np.float32))
    composer = SceneComposer([photo], [], [], recipe(background_share=1.0, smallest_face=16.0))
    scenes = [composer.scene(160, np.random.default_rng(seed)) for seed in range(20)]
    assert sum(len(scene.boxes) for scene in scenes) >= 10


def test_natural_tiles_show_crowds_at_the_size_at_which_they_are_searched() -> None:
    """A photo of 200 pixels is enlarged twofold: its face of 40 x 56 has sides of about 95 pixels."""
    natural = recipe(crowd_share=1.0, natural_share=1.0, aspect=0.0, widen=1.0)
    composer = SceneComposer([], [white_face()], [], natural)
    random = np.random.default_rng(3)
    boxes = np.concatenate([composer.scene(640, random).boxes for _ in range(60)])
    whole = boxes[(boxes[:, :2] > 0).all(axis=1) & (boxes[:, :2] + boxes[:, 2:] < 640).all(axis=1)]
    sides = np.sqrt(whole[:, 2] * whole[:, 3])
    assert len(sides) >= 20
    assert np.median(sides) == pytest.approx(2 * np.sqrt(40 * 56), rel=0.15)
    assert np.log(sides).std() == pytest.approx(0.2, abs=0.08)


def test_small_faces_are_ignored_not_taught() -> None:
    white = white_face()
    speck = np.array([[110, 60, 10, 10]], np.float32)
    photo = replace(white, boxes=np.concatenate([FACE, speck]), landmarks=np.concatenate([POINTS, POINTS / 4]))
    composer = SceneComposer([photo], [], [], recipe(smallest_face=60.0, aspect=0.0))
    random = np.random.default_rng(3)
    scenes = [composer.scene(320, random) for _ in range(30)]
    taught = np.concatenate([scene.boxes for scene in scenes])
    assert len(taught) > 20
    assert (np.sqrt(taught[:, 2] * taught[:, 3]) >= 59).all()
    assert any(len(scene.ignored) for scene in scenes)


def test_squeezed_portraits_become_narrow() -> None:
    def aspects(squeeze: float) -> np.ndarray:
        composer = SceneComposer(
            [white_face()], [], [], recipe(smallest_face=20.0, aspect=0.0, cover_share=1.0, squeeze=squeeze)
        )
        random = np.random.default_rng(4)
        boxes = np.concatenate([composer.scene(160, random).boxes for _ in range(60)])
        whole = boxes[(boxes[:, :2] > 0).all(axis=1) & (boxes[:, :2] + boxes[:, 2:] < 160).all(axis=1)]
        return whole[:, 3] / whole[:, 2]

    np.testing.assert_allclose(aspects(1.0), 56 / 40, rtol=0.02)
    assert aspects(2.0).max() > 1.7 * 56 / 40
    assert aspects(2.0).min() >= 0.98 * 56 / 40


@pytest.mark.parametrize("degrees", [-30.0, 0.0, 20.0])
def test_turning_a_photo_turns_its_labels(degrees: float) -> None:
    pixels = np.zeros((200, 160, 3), np.uint8)
    pixels[58:63, 68:73] = 255  # a dot on the left eye
    photo = Photo("dot", Image.fromarray(pixels), FACE, POINTS, np.zeros((0, 4), np.float32))
    turned = rotated(photo, degrees)
    rows, columns = np.nonzero(np.asarray(turned.image)[..., 0] > 128)
    np.testing.assert_allclose(turned.landmarks[0, 0], [columns.mean(), rows.mean()], atol=1.0)
    box = turned.boxes[0]
    assert (turned.landmarks[0] > box[:2]).all()
    assert (turned.landmarks[0] < box[:2] + box[2:]).all()


def test_a_cover_hides_part_of_a_face_and_leaves_its_label() -> None:
    plain = SceneComposer([white_face()], [], [], recipe()).scene(320, np.random.default_rng(4))
    covering = SceneComposer([white_face()], [], [], recipe(cover_face_share=1.0))
    shares = []
    for seed in range(30):
        scene = covering.scene(320, np.random.default_rng(seed))
        shares += [bright_share(scene, box) for box in scene.boxes]
    assert bright_share(plain, plain.boxes[0]) > 0.99
    assert 0.4 < np.mean(shares) < 0.95
    assert min(shares) > 0.3


def write_photos(folder: Path) -> None:
    (folder / "crowd").mkdir(parents=True)
    for name in ("b", "a", "c"):
        Image.new("RGB", (40, 30), "grey").save(folder / "crowd" / f"{name}.jpg")
    rows = [
        {"image": "crowd/a.jpg", "box": [1, 2, 3, 4]},
        {"image": "crowd/b.jpg", "box": [5, 6, 7, 8], "landmarks": POINTS[0].tolist()},
        {"image": "crowd/a.jpg", "box": [9, 9, 9, 9]},
    ]
    (folder / "crowd.json").write_text(json.dumps(rows))


def test_a_folder_and_a_tar_of_it_read_alike(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos")
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        archive.add(tmp_path / "photos", arcname=".")
    folder, tar = (read_photos(tmp_path / name, "crowd") for name in ("photos", "photos.tar"))
    for photos in (folder, tar):
        assert [photo.name for photo in photos] == ["crowd/a.jpg", "crowd/b.jpg", "crowd/c.jpg"]
        assert [len(photo.boxes) for photo in photos] == [2, 1, 0]
        assert np.isnan(photos[0].landmarks).all()
        np.testing.assert_array_equal(photos[1].landmarks, POINTS)


def test_missing_photos_and_labels_are_named(tmp_path: Path) -> None:
    with pytest.raises(DetectionDataError, match="nowhere"):
        read_photos(tmp_path / "nowhere", "crowd")
    write_photos(tmp_path / "photos")
    with pytest.raises(DetectionDataError, match=r"street\.json"):
        read_photos(tmp_path / "photos", "street")
    (tmp_path / "photos/crowd/a.jpg").unlink()
    with pytest.raises(DetectionDataError, match=r"crowd/a\.jpg"):
        read_photos(tmp_path / "photos", "crowd")


def test_crops_are_spread_over_the_archive(shared: Path) -> None:
    crops = read_crops(shared / "data/faces-train-unlabelled.tar.gz", 50, FACE[0])
    assert 40 <= len(crops) <= 50
    assert len({Path(crop.name).name.split("_")[0] for crop in crops}) > 10  # ages, by name: not one end of the list
    assert all(crop.image.size == (112, 112) for crop in crops)
