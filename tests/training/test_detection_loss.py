"""The detector's loss, recomputed by independent formulas, and its targets, read back by the decoder."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from models.detector.decode import CHANNELS, STRIDES, UNIT, decode
from training.losses.detection import box_loss, detection_loss, heat_loss, landmark_loss, level_targets

SIDE = 320
NOTHING = torch.zeros(1, 1, 4)


def faces(*boxes: tuple[float, float, float, float]) -> tuple[Tensor, Tensor]:
    """Boxes (1, N, 4) and plausible landmarks (1, N, 5, 2) inside them."""
    box = torch.tensor([boxes])
    shares = torch.tensor([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])
    return box, box[:, :, None, :2] + box[:, :, None, 2:] * shares


def perfect_maps(boxes: Tensor, landmarks: Tensor) -> tuple[Tensor, ...]:
    """Maps that say exactly what the targets ask for in every cell that speaks."""
    maps = []
    for level, stride in enumerate(STRIDES):
        cells = SIDE // stride
        targets = level_targets(boxes, landmarks, NOTHING, level, cells, cells)
        told = torch.zeros(1, CHANNELS, cells, cells)
        told[:, 0] = torch.where(targets.heat >= 1, 12.0, -12.0)
        place = torch.arange(cells) + 0.5
        grid = torch.stack(torch.meshgrid(place, place, indexing="xy"), dim=-1)
        told[:, 1:3] = (targets.box[..., :2] / stride - grid).permute(0, 3, 1, 2)
        told[:, 3:5] = (targets.box[..., 2:] / (UNIT * stride)).log().permute(0, 3, 1, 2)
        points = (targets.landmarks - grid[..., None, :] * stride) / targets.box[..., None, 2:]
        told[:, 5:] = points.flatten(3).permute(0, 3, 1, 2)
        maps.append(told)
    return tuple(maps)


def test_what_the_targets_ask_for_decodes_to_the_labelled_faces() -> None:
    boxes, landmarks = faces((10, 20, 16, 20), (100, 40, 60, 80), (90, 130, 150, 180), (250, 8, 30, 40))
    found = decode([level.numpy() for level in perfect_maps(boxes, landmarks)], 0.5)
    assert len(found) == 4
    for box, points in zip(boxes[0].numpy(), landmarks[0].numpy(), strict=True):
        nearest = min(found, key=lambda face: np.abs(np.array(face.box) - box).sum())
        np.testing.assert_allclose(nearest.box, box, atol=0.05)
        np.testing.assert_allclose(nearest.landmarks, points, atol=0.05)


def test_maps_that_say_so_cost_nearly_nothing() -> None:
    boxes, landmarks = faces((10, 20, 16, 20), (100, 40, 60, 80))
    loss, parts = detection_loss(perfect_maps(boxes, landmarks), boxes, landmarks, NOTHING, 1.0, 1.0)
    assert float(loss) < 1e-2
    assert float(parts["box"]) < 1e-3
    assert float(parts["landmark"]) < 1e-3


@pytest.mark.parametrize("level", [0, 1, 2])
def test_each_face_is_some_levels_business(level: int) -> None:
    for side in np.geomspace(8, 300, 30):
        boxes, landmarks = faces((0.0, 0.0, float(side), float(side)))
        peaks = [float(level_targets(boxes, landmarks, NOTHING, each, 40, 40).heat.max()) for each in range(3)]
        assert max(peaks) == 1.0
    assert level_targets(*faces((0, 0, 20, 20)), NOTHING, level, 40, 40).heat.max() == (level == 0)


def test_padding_is_no_face() -> None:
    boxes, landmarks = torch.zeros(2, 3, 4), torch.zeros(2, 3, 5, 2)
    targets = level_targets(boxes, landmarks, NOTHING.expand(2, -1, -1), 0, 10, 10)
    assert targets.heat.max() == 0
    assert targets.weight.max() == 0


def test_heat_loss_is_the_penalty_reduced_focal_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 5, generator=generator, dtype=torch.float64)
    heat = torch.rand(2, 4, 5, generator=generator, dtype=torch.float64)
    heat[0, 1, 2] = heat[1, 3, 3] = 1.0
    heard = (torch.rand(2, 4, 5, generator=generator) > 0.3).double()
    expected = 0.0
    for p, y, h in zip(
        logits.sigmoid().flatten().tolist(), heat.flatten().tolist(), heard.flatten().tolist(), strict=True
    ):
        expected -= (1 - p) ** 2 * math.log(p) if y == 1 else h * (1 - y) ** 4 * p**2 * math.log(1 - p)
    assert float(heat_loss(logits, heat, heard)) == pytest.approx(expected, rel=1e-9)


def test_box_loss_of_known_boxes() -> None:
    target = torch.tensor([[5.0, 5.0, 10.0, 10.0]]).expand(3, 4)
    centre = torch.tensor([[5.0, 5.0], [10.0, 5.0], [25.0, 5.0]])
    size = torch.full((3, 2), 10.0)
    # IoU 1, 1/3, 0; squared centre distance over squared hull diagonal 0, 25/325, 400/1000.
    expected = torch.tensor([0.0, 1 - 1 / 3 + 25 / 325, 1 + 400 / 1000])
    torch.testing.assert_close(box_loss(centre, size, target), expected)


def test_unknown_landmarks_cost_nothing_and_give_no_gradient() -> None:
    points = torch.zeros(2, 5, 2, requires_grad=True)
    target = torch.full((2, 5, 2), 3.0)
    target[0] = float("nan")
    loss = landmark_loss(points, target, torch.full((2, 2), 10.0))
    loss.sum().backward()
    assert loss[0] == 0
    assert loss[1].item() == pytest.approx(0.3 - 0.01)  # smooth L1 beyond its knee: |e| - beta / 2
    assert points.grad is not None
    assert points.grad[0].abs().max() == 0
    assert points.grad.isfinite().all()


@pytest.mark.parametrize(("side", "told"), [(15.0, False), (17.0, True)])
def test_landmarks_of_very_small_faces_are_not_told(side: float, told: bool) -> None:
    boxes, landmarks = faces((100, 40, side, side))
    maps = perfect_maps(boxes, landmarks)
    _, parts = detection_loss(maps, boxes, landmarks + 3, NOTHING, 1.0, 1.0)
    assert (float(parts["landmark"]) > 0.05) == told


def test_ignored_regions_are_neither_face_nor_background() -> None:
    generator = torch.Generator().manual_seed(1)
    maps = tuple(torch.randn(1, CHANNELS, SIDE // s, SIDE // s, generator=generator) for s in STRIDES)
    everywhere = torch.tensor([[[0.0, 0.0, SIDE, SIDE]]])
    none = torch.zeros(1, 1, 4), torch.zeros(1, 1, 5, 2)
    assert float(detection_loss(maps, *none, everywhere, 1.0, 1.0)[0]) == 0
    assert float(detection_loss(maps, *none, NOTHING, 1.0, 1.0)[0]) > 1


def test_a_face_in_an_ignored_region_is_still_learnt() -> None:
    boxes, landmarks = faces((100, 40, 60, 80))
    targets = level_targets(boxes, landmarks, torch.tensor([[[0.0, 0.0, SIDE, SIDE]]]), 1, 20, 20)
    assert targets.heard[targets.heat >= 1].min() == 1


def test_gradients_are_finite_without_any_face() -> None:
    maps = tuple(torch.zeros(1, CHANNELS, SIDE // s, SIDE // s, requires_grad=True) for s in STRIDES)
    loss, _ = detection_loss(maps, torch.zeros(1, 1, 4), torch.zeros(1, 1, 5, 2), NOTHING, 1.0, 1.0)
    loss.backward()
    assert all(level.grad is not None and level.grad.isfinite().all() for level in maps)
