"""The detector's loss towards a teacher that says at every cell what it sees there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from models.detector.decode import STRIDES
from training.losses.detection import (
    SPEAKING,
    box_loss,
    landmark_loss,
    level_targets,
    told_at,
    weighed,
    worth_telling,
)

CERTAIN = 0.8  # the least score at the centre of a labelled face, whatever the teacher thinks of it
CERTAIN_LEAST = 14.0  # pixels, the root of the box area; of a smaller face the teacher alone decides
SAME = 0.5  # IoU from which the teacher's box and a label are of one face


def imitation_loss(
    outputs: Sequence[Tensor],
    lessons: Sequence[Tensor],
    boxes: Tensor,
    landmarks: Tensor,
    box_weight: float,
    landmark_weight: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The whole loss of the maps (see CentreFace) against a teacher's, and its parts.

    lessons: a (B, 15, H/s, W/s) map for each output: score in [0, 1], then in pixels the box's centre x, y, width,
    height and five landmarks x, y. boxes and landmarks as in `level_targets`. A labelled face has a score of at least
    `CERTAIN` at its centre, and tells its box and known landmarks wherever the teacher sees the same face. The heat
    is divided by the sum of the scores to be learned, boxes and landmarks by the weight of the cells that speak.
    """
    zero = boxes.new_zeros(())
    heat, box, landmark, seen, known = zero, zero, zero, zero, zero
    for level, (output, lesson) in enumerate(zip(outputs, lessons, strict=True)):
        maps = output.float()
        score, box_told, marks_told = corrected(lesson, boxes, landmarks, level)
        heat = heat + quality_focal(maps[:, 0], score)
        seen = seen + score.sum()
        where = torch.nonzero(score >= SPEAKING, as_tuple=True)
        centre, size, points = told_at(maps, where, STRIDES[level])
        weight, target = score[where], box_told[where]
        marks = worth_telling(marks_told[where], target)
        box = box + (weight * box_loss(centre, size, target)).sum()
        landmark = landmark + (weight * landmark_loss(points, marks, target[:, 2:])).sum()
        known = known + (weight * ~marks[:, 0, 0].isnan()).sum()
    parts = {
        "heat": heat / seen.clamp(min=1),
        "box": box / seen.clamp(min=1),
        "landmark": landmark / known.clamp(min=1),
    }
    return weighed(parts, box_weight, landmark_weight)


def quality_focal(logits: Tensor, score: Tensor) -> Tensor:
    """|score - p|^2 times the cross entropy (quality focal loss, Li et al. 2020, arXiv:2006.04388), summed."""
    cross_entropy = binary_cross_entropy_with_logits(logits, score, reduction="none")
    return ((score - logits.sigmoid()) ** 2 * cross_entropy).sum()


def corrected(lesson: Tensor, boxes: Tensor, landmarks: Tensor, level: int) -> tuple[Tensor, Tensor, Tensor]:
    """What one level should say: score (B, H, W), box (B, H, W, 4) as centre and size, landmarks (B, H, W, 5, 2)."""
    score, box = lesson[:, 0], lesson[:, 1:5].permute(0, 2, 3, 1)
    marks = lesson[:, 5:].permute(0, 2, 3, 1).reshape(*score.shape, 5, 2)
    labelled = torch.cat([boxes[..., :2] + boxes[..., 2:] / 2, boxes[..., 2:]], dim=-1)
    overlap, owner = _intersection_over_union(box, labelled[:, None, None]).max(dim=-1)  # over the labels

    # At the very centre of a labelled face the label speaks, whatever the teacher sees there.
    nothing = boxes.new_zeros(len(boxes), 1, 4)
    targets = level_targets(boxes, landmarks, nothing, level, *score.shape[1:])
    large = targets.box[..., 2:].prod(dim=-1) >= CERTAIN_LEAST**2
    centre = (targets.heat >= 1) & (targets.weight > 0) & large
    same = overlap >= SAME
    mine = torch.take_along_dim(landmarks.flatten(2), owner.flatten(1)[..., None], dim=1).view(*score.shape, 5, 2)
    label = torch.take_along_dim(labelled, owner.flatten(1)[..., None], dim=1).view(*score.shape, 4)
    marks = torch.where((same[..., None, None] & ~mine.isnan()), mine, marks)
    marks = torch.where((centre & ~same)[..., None, None], targets.landmarks, marks)
    box = torch.where(same[..., None], label, box)
    box = torch.where((centre & ~same)[..., None], targets.box, box)
    return torch.where(centre, score.clamp(min=CERTAIN), score), box, marks


def _intersection_over_union(box: Tensor, others: Tensor) -> Tensor:
    """(B, H, W, 4) and (B, 1, 1, N, 4), both centre and size -> (B, H, W, N); 0 with a box of no area."""
    box = box.unsqueeze(-2)
    start = torch.maximum(box[..., :2] - box[..., 2:] / 2, others[..., :2] - others[..., 2:] / 2)
    end = torch.minimum(box[..., :2] + box[..., 2:] / 2, others[..., :2] + others[..., 2:] / 2)
    shared = (end - start).clamp(min=0).prod(dim=-1)
    union = box[..., 2:].prod(dim=-1) + others[..., 2:].prod(dim=-1) - shared
    return shared / union.clamp(min=1e-6)
