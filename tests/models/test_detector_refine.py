"""Two further looks at each face make landmarks steadier and scores surer, and change nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from models import checkpoint, pretrained
from models.detector.decode import CHANNELS, STRIDES
from models.detector.find import find_faces
from models.detector.refine import FACE, LOOKS, SHARE, VIEW, candidate_threshold, confirm, detect, look_again
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
            (refined,) = look_again(image, [face], forward)
            found.append((face.landmarks / scale, refined.landmarks / scale))
        (one, one_refined), (other, other_refined) = found
        inter_ocular = np.linalg.norm(one[0] - one[1])
        before.append(np.linalg.norm(one - other, axis=1).mean() / inter_ocular)
        after.append(np.linalg.norm(one_refined - other_refined, axis=1).mean() / inter_ocular)
    assert np.mean(after) < 0.9 * np.mean(before)


def test_boxes_and_order_stay_and_batches_are_bounded(forward: Forward, demo: Path) -> None:
    image, _ = pixels(demo / "016_8.jpg")
    sizes = []

    def counting(planes: NDArray[np.float32]) -> object:
        sizes.append(planes.shape)
        return forward(planes)

    faces = find_faces(image, forward) * 3
    refined = look_again(image, faces, counting)
    assert [face.box for face in refined] == [face.box for face in faces]
    assert {size[1:] for size in sizes} == {(3, VIEW, VIEW)}
    assert max(size[0] for size in sizes) <= 16
    assert sum(size[0] for size in sizes) == len(faces) * len(LOOKS)
    assert look_again(image, [], counting) == []


def test_a_face_that_is_not_seen_again_keeps_its_landmarks_and_loses_in_score(demo: Path) -> None:
    face = Face((30.0, 40.0, 50.0, 60.0), np.arange(10, dtype=np.float32).reshape(5, 2), 0.7)
    (same,) = look_again(pixels(demo / "obama.jpg")[0], [face], blind)
    np.testing.assert_array_equal(same.landmarks, face.landmarks)
    assert same.score == pytest.approx(0.7 * (1 - SHARE))


@given(threshold=st.floats(0.01, 0.99), said=st.floats(0, 1), looks=st.floats(0, 1))
def test_no_candidate_is_turned_away_that_could_be_confirmed_by_what_a_look_may_say(
    threshold: float, said: float, looks: float
) -> None:
    least = candidate_threshold(threshold)
    assert threshold / 2 <= least <= threshold
    if threshold / 2 <= said < least:
        assert (1 - SHARE) * said + SHARE * looks < threshold


def test_only_as_many_candidates_are_looked_at_as_it_takes() -> None:
    """A network that sees what is bright; the first candidate is not, and the third need not be asked."""
    image = np.zeros((100, 300, 3), np.uint8)
    image[:, 100:] = 255
    candidates = [Face((x + 30.0, 30.0, 40.0, 40.0), np.zeros((5, 2), np.float32), 0.9) for x in (0, 100, 200)]
    looked_at = 0

    def seeing(planes: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        nonlocal looked_at
        looked_at += len(planes) // len(LOOKS)
        maps = blind(planes)
        cell = VIEW // 16 // 2
        bright = planes[:, 0, VIEW // 2, VIEW // 2] > 0
        maps[1][bright, 0, cell, cell] = 2.0
        maps[1][bright, 1:3, cell, cell] = -0.5
        maps[1][bright, 3:5, cell, cell] = np.log(FACE / 64)
        return maps

    (found,) = confirm(image, candidates, seeing, max_faces=1)
    assert (found.box, looked_at) == (candidates[1].box, 2)
    assert found.score == pytest.approx((1 - SHARE) * 0.9 + SHARE / (1 + np.exp(-2)), abs=1e-6)
    assert [face.box for face in confirm(image, candidates, seeing)] == [face.box for face in candidates[1:]]
    assert confirm(image, candidates, seeing, max_faces=0) == []
    assert confirm(image, candidates, seeing, score_threshold=0.91) == []


def test_a_photo_is_searched_and_its_candidates_confirmed(forward: Forward, demo: Path) -> None:
    image, _ = pixels(demo / "016_8.jpg")
    found = detect(image, forward, forward, score_threshold=0.5)
    scores = [face.score for face in found]
    assert len(found) >= 8
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] >= 0.5
    assert detect(image, forward, blind, score_threshold=0.71) == []


@pytest.mark.parametrize(
    "box", [(-30, -20, 60, 60), (90, 110, 80, 40), (500, 500, 20, 20), (0, 0, 0, 0), (5, 5, 1e5, 9)]
)
def test_faces_at_and_beyond_the_border_are_no_trouble(box: tuple[float, float, float, float]) -> None:
    image = np.zeros((120, 100, 3), np.uint8)
    (face,) = look_again(image, [Face(box, np.ones((5, 2), np.float32), 0.5)], blind)
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

    look_again(image, [Face((40.0, 60.0, 40.0, 40.0), np.ones((5, 2), np.float32), 0.9)], looking)
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

    look_again(image, [Face(box, np.ones((5, 2), np.float32), 0.9)], looking)
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
    (refined,) = look_again(image, [face], seeing)
    np.testing.assert_allclose(refined.landmarks, np.mean(expected, axis=0), atol=0.01)
    blinded = 1
    (refined,) = look_again(image, [face], seeing)
    np.testing.assert_allclose(refined.landmarks, expected[1], atol=0.01)
