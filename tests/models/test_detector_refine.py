"""Two further looks at each face make landmarks steadier, and change nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models import checkpoint, pretrained
from models.detector.decode import CHANNELS, STRIDES
from models.detector.find import find_faces
from models.detector.refine import FACE, LOOKS, VIEW, refine_landmarks
from models.faces import MIRRORED, Face, Forward
from models.network import instantiate, torch_forward


@pytest.fixture(scope="module")
def forward() -> Forward:
    return torch_forward(instantiate(checkpoint.read(pretrained.DETECTOR)))


def pixels(path: Path, side: int | None = None) -> tuple[NDArray[np.uint8], float]:
    """A photo as it is, or with `side` pixels on its longer side in the corner of a canvas of 640; and its scale."""
    image = Image.open(path).convert("RGB")
    if side is None:
        return np.asarray(image), 1.0
    canvas = Image.new("RGB", (640, 640), (127, 127, 127))
    scale = side / max(image.size)
    canvas.paste(image.resize((round(image.width * scale), round(image.height * scale))))
    return np.asarray(canvas), scale


def blind(planes: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """A network that sees no face in (N, 3, H, W)."""
    count, _, height, width = planes.shape
    return [np.full((count, CHANNELS, height // s, width // s), -20, np.float32) for s in STRIDES]


def test_landmarks_agree_better_between_copies_of_a_photo_in_two_sizes(forward: Forward, demo: Path) -> None:
    before, after = [], []
    for name in ("002_A", "004_A", "005_A", "006_A", "007_B", "008_B", "009_C", "obama", "obama2", "obama3", "biden"):
        found = []
        for side in (600, 410):
            image, scale = pixels(demo / f"{name}.jpg", side)
            face = find_faces(image, forward)[0]
            (refined,) = refine_landmarks(image, [face], forward)
            found.append((face.landmarks / scale, refined.landmarks / scale))
        (one, one_refined), (other, other_refined) = found
        inter_ocular = np.linalg.norm(one[0] - one[1])
        before.append(np.linalg.norm(one - other, axis=1).mean() / inter_ocular)
        after.append(np.linalg.norm(one_refined - other_refined, axis=1).mean() / inter_ocular)
    assert np.mean(after) < 0.9 * np.mean(before)


def test_boxes_scores_and_order_stay_and_batches_are_bounded(forward: Forward, demo: Path) -> None:
    image, _ = pixels(demo / "016_8.jpg")
    sizes = []

    def counting(planes: NDArray[np.float32]) -> object:
        sizes.append(planes.shape)
        return forward(planes)

    faces = find_faces(image, forward) * 3
    refined = refine_landmarks(image, faces, counting)
    assert [(face.box, face.score) for face in refined] == [(face.box, face.score) for face in faces]
    assert {size[1:] for size in sizes} == {(3, VIEW, VIEW)}
    assert max(size[0] for size in sizes) <= 16
    assert sum(size[0] for size in sizes) == len(faces) * len(LOOKS)
    assert refine_landmarks(image, [], counting) == []


def test_a_face_that_is_not_seen_again_keeps_its_landmarks(demo: Path) -> None:
    face = Face((30.0, 40.0, 50.0, 60.0), np.arange(10, dtype=np.float32).reshape(5, 2), 0.7)
    (same,) = refine_landmarks(pixels(demo / "obama.jpg")[0], [face], blind)
    np.testing.assert_array_equal(same.landmarks, face.landmarks)


@pytest.mark.parametrize(
    "box", [(-30, -20, 60, 60), (90, 110, 80, 40), (500, 500, 20, 20), (0, 0, 0, 0), (5, 5, 1e5, 9)]
)
def test_faces_at_and_beyond_the_border_are_no_trouble(box: tuple[float, float, float, float]) -> None:
    image = np.zeros((120, 100, 3), np.uint8)
    (face,) = refine_landmarks(image, [Face(box, np.ones((5, 2), np.float32), 0.5)], blind)
    np.testing.assert_array_equal(face.landmarks, 1)


def test_the_views_are_the_face_at_the_promised_size_as_it_is_and_mirrored() -> None:
    """A photo that is black but for a face in its left half, whose own left half is magenta, the rest white."""
    image = np.zeros((200, 300, 3), np.uint8)
    image[60:100, 40:80] = 255
    image[60:100, 40:60, 1] = 0
    seen = []

    def looking(planes: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        seen.extend(planes)
        return blind(planes)

    refine_landmarks(image, [Face((40.0, 60.0, 40.0, 40.0), np.ones((5, 2), np.float32), 0.9)], looking)
    assert len(seen) == len(LOOKS)
    start, end, middle = (VIEW - FACE) / 2, (VIEW + FACE) / 2 - 1, VIEW / 2
    for view, mirrored in zip(seen, LOOKS, strict=True):
        rows, columns = np.nonzero(view[0] > 0)
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == pytest.approx((start, end) * 2, abs=1)
        white = np.nonzero(view[1] > 0)[1]
        expected = (start, middle - 1) if mirrored else (middle, end)
        assert (white.min(), white.max()) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(
    "box", [(150.0, 90.0, 45.0, 60.0), (31.5, 20.25, 500.0, 420.0), (-40.0, 300.0, 130.0, 170.0), (5.0, 7.0, 9.0, 8.0)]
)
def test_a_view_is_what_pillow_makes_of_the_whole_photo(demo: Path, box: tuple[float, float, float, float]) -> None:
    """No pixel that its filter would read is left out, whether the face is shrunk or enlarged."""
    image, _ = pixels(demo / "obama.jpg", 640)
    seen = []

    def looking(planes: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        seen.extend(planes)
        return blind(planes)

    refine_landmarks(image, [Face(box, np.ones((5, 2), np.float32), 0.9)], looking)
    side = VIEW / FACE * np.sqrt(box[2] * box[3])
    corner = np.array(box[:2]) + np.array(box[2:]) / 2 - side / 2
    start, end = np.maximum(corner, 0), np.minimum(corner + side, 640)
    first, last = (np.round((edge - corner) * VIEW / side).astype(int) for edge in (start, end))
    shown = Image.fromarray(image).resize(
        tuple((last - first).tolist()), Image.Resampling.BILINEAR, (*start, *end), reducing_gap=1.0
    )
    expected = np.zeros((3, VIEW, VIEW), np.float32)
    expected[:, first[1] : last[1], first[0] : last[0]] = np.asarray(shown, np.float32).transpose(2, 0, 1) / 127.5 - 1
    np.testing.assert_allclose(seen[0], expected, atol=1.1 / 127.5)
    np.testing.assert_array_equal(seen[1], seen[0][..., ::-1])


def test_what_each_look_says_counts_alike_in_the_photos_pixels() -> None:
    """A network that sees every face where it is, and its landmarks where the look's own number says."""
    image = np.zeros((200, 300, 3), np.uint8)
    face = Face((40.0, 60.0, 40.0, 40.0), np.zeros((5, 2), np.float32), 0.9)
    blinded = 0

    def seeing(planes: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        maps = blind(planes)
        for row, mirrored in enumerate(LOOKS[blinded:], blinded):
            cell = VIEW // 16 // 2
            level = maps[1][row, :, cell, cell]
            level[0] = 5.0
            level[1:3] = -0.5  # the cell's corner is the middle of the view
            level[3:5] = np.log(FACE / 64)
            told = np.linspace(0.1, 0.4, 10).reshape(5, 2) + row * 0.1  # in shares of the side, from the middle
            if mirrored:
                told = (told * [-1, 1])[MIRRORED]
            level[5:] = (told - 8 / FACE).ravel()
        return maps

    middle = np.array([60.0, 80.0])
    expected = [middle + 40 * (np.linspace(0.1, 0.4, 10).reshape(5, 2) + row * 0.1) for row in range(len(LOOKS))]
    (refined,) = refine_landmarks(image, [face], seeing)
    np.testing.assert_allclose(refined.landmarks, np.mean(expected, axis=0), atol=0.01)
    blinded = 1
    (refined,) = refine_landmarks(image, [face], seeing)
    np.testing.assert_allclose(refined.landmarks, expected[1], atol=0.01)
