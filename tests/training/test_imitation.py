"""The detector's loss towards a teacher, and the teacher's maps, on real photos and by independent formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from models.detector.decode import STRIDES, UNIT, decode
from models.faces import MIRRORED
from training.detection_teacher import DenseTeacher
from training.evaluation.peers import Yunet
from training.losses.imitation import CERTAIN, corrected, imitation_loss, quality_focal

SIDE = 320
NO_FACE = torch.zeros(1, 1, 4), torch.zeros(1, 1, 5, 2)


@pytest.fixture(scope="module")
def photo(shared: Path) -> Tensor:
    """(1, 320, 320, 3) uint8: a real photo of one person."""
    image = Image.open(shared / "data/demo/004_A.jpg").convert("RGB").resize((SIDE, SIDE))
    return torch.from_numpy(np.asarray(image).copy())[None]


@pytest.fixture(scope="module")
def teacher(shared: Path) -> DenseTeacher:
    return DenseTeacher(shared / "peers/yunet_n_dynamic.onnx")


def as_student(lessons: list[Tensor]) -> list[Tensor]:
    """The maps of a network that says what the lessons say."""
    said = []
    for lesson, stride in zip(lessons, STRIDES, strict=True):
        place = torch.arange(SIDE // stride) + 0.5
        grid = torch.stack(torch.meshgrid(place, place, indexing="xy"))
        heat = torch.logit(lesson[:, :1].clamp(1e-6, 1 - 1e-6))
        size = lesson[:, 3:5]
        points = (lesson[:, 5:].unflatten(1, (5, 2)) - grid * stride) / size[:, None]
        offset = lesson[:, 1:3] / stride - grid
        said.append(torch.cat([heat, offset, (size / (UNIT * stride)).log(), points.flatten(1, 2)], dim=1))
    return said


def empty_lessons() -> list[Tensor]:
    """A teacher that sees nothing, and says boxes of one pixel."""
    lessons = [torch.zeros(1, 15, SIDE // stride, SIDE // stride) for stride in STRIDES]
    for lesson in lessons:
        lesson[:, 3:5] = 1.0
    return lessons


def test_a_student_that_says_what_the_teacher_does_finds_the_teachers_faces(
    photo: Tensor, teacher: DenseTeacher, shared: Path
) -> None:
    said = as_student(teacher(photo)[0])
    (ours,) = decode([level.numpy() for level in said], 0.6)
    (theirs,) = Yunet(shared / "peers/yunet_n_dynamic.onnx").find(photo[0].numpy(), score_threshold=0.6)
    side = np.sqrt(theirs.box[2] * theirs.box[3])
    np.testing.assert_allclose(ours.box, theirs.box, atol=0.1 * side)
    np.testing.assert_allclose(ours.landmarks, theirs.landmarks, atol=0.1 * side)


def test_a_student_that_says_what_the_teacher_does_has_nothing_to_learn(photo: Tensor, teacher: DenseTeacher) -> None:
    lessons, _ = teacher(photo)
    _, parts = imitation_loss(as_student(lessons), lessons, *NO_FACE, 1.0, 1.0)
    assert max(float(part) for part in parts.values()) < 1e-4


def test_the_mirror_image_is_taught_as_the_mirrored_lesson(photo: Tensor, teacher: DenseTeacher) -> None:
    for plain, turned in zip(teacher(photo)[0], teacher(photo.flip(2))[0], strict=True):
        turned = turned.flip(3)
        torch.testing.assert_close(turned[:, 0], plain[:, 0], atol=1e-4, rtol=0)
        seen = plain[:, 0] > 0.3
        assert not seen.any() or (SIDE - turned[:, 1] - plain[:, 1])[seen].abs().max() < 0.01
        points, mirrored = (level[:, 5:].unflatten(1, (5, 2)).movedim((1, 2), (-2, -1)) for level in (plain, turned))
        difference = (SIDE - mirrored[..., MIRRORED, 0] - points[..., 0])[seen]
        assert not seen.any() or difference.abs().max() < 0.01


def test_quality_focal_against_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    score = torch.rand(4, 5, generator=generator, dtype=torch.float64)
    p, y = 1 / (1 + np.exp(-logits.numpy())), score.numpy()
    expected = -((y - p) ** 2 * (y * np.log(p) + (1 - y) * np.log(1 - p))).sum()
    assert float(quality_focal(logits, score)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("side", "certain"), [(60.0, True), (10.0, False)])
def test_a_labelled_face_is_a_face_though_the_teacher_sees_none(side: float, certain: bool) -> None:
    boxes = torch.tensor([[[100.0, 40.0, side, side]]])
    landmarks = torch.full((1, 1, 5, 2), 110.0)
    scores = []
    for level, lesson in enumerate(empty_lessons()):
        score, box, marks = corrected(lesson, boxes, landmarks, level)
        scores.append(float(score.max()))
        if certain and scores[-1]:
            place = score[0] == score.max()
            torch.testing.assert_close(box[0][place][0], torch.tensor([130.0, 70.0, side, side]))
            assert (marks[0][place] == 110).all()
    assert max(scores) == pytest.approx(CERTAIN if certain else 0.0)


def test_where_both_see_a_face_the_label_tells_its_box_and_its_known_landmarks() -> None:
    lessons = empty_lessons()
    lessons[0][0, :, 8, 14] = torch.tensor([0.6, 116.0, 68.0, 30.0, 30.0, *[7.0] * 10])
    boxes = torch.tensor([[[100.0, 50.0, 34.0, 34.0], [0.0, 0.0, 9.0, 9.0]]])
    landmarks = torch.full((1, 2, 5, 2), 110.0)
    landmarks[0, 0, 4] = torch.nan
    score, box, marks = corrected(lessons[0], boxes, landmarks, 0)
    assert float(score[0, 8, 14]) == pytest.approx(CERTAIN)  # the cell of the label's centre
    assert box[0, 8, 14].tolist() == [117.0, 67.0, 34.0, 34.0]
    assert marks[0, 8, 14].tolist() == [[110.0, 110.0]] * 4 + [[7.0, 7.0]]


def test_gradients_are_finite_where_nobody_sees_a_face() -> None:
    maps = [torch.zeros(1, 15, SIDE // stride, SIDE // stride, requires_grad=True) for stride in STRIDES]
    loss, _ = imitation_loss(maps, empty_lessons(), *NO_FACE, 1.0, 1.0)
    loss.backward()
    assert all(level.grad is not None and level.grad.isfinite().all() for level in maps)


def test_the_inside_is_that_of_the_scene_as_it_is(photo: Tensor, shared: Path) -> None:
    path = shared / "peers/yunet_n_dynamic.onnx"
    scenes = torch.cat([photo, photo.flip(2)])
    lessons, (fine, coarse) = DenseTeacher(path, inner=["283", "263"])(scenes)
    assert fine.shape == (2, 64, SIDE // 8, SIDE // 8)
    assert coarse.shape == (2, 64, SIDE // 32, SIDE // 32)
    _, (alone, _) = DenseTeacher(path, inner=["283", "263"])(photo)
    torch.testing.assert_close(fine[:1], alone)
    assert (fine[0] - fine[1]).abs().max() > 0.1
    for with_hints, without in zip(lessons, DenseTeacher(path)(scenes)[0], strict=True):
        torch.testing.assert_close(with_hints, without)
