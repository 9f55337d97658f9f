"""The detector's loss: what each cell of the maps should say, and how far it is from saying it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, smooth_l1_loss

from models.detector.decode import MAX_LOG_SIZE, STRIDES, UNIT

# Square root of the box area, in pixels, that a level answers for. Ranges overlap: near a border both
# levels answer and decoding keeps the better.
RANGES = ((0.0, 48.0), (36.0, 144.0), (100.0, float("inf")))
SPREAD = 0.12  # standard deviation of the heat around a centre, as a share of the box
LEAST_SPREAD = 0.45  # in cells
SPEAKING = 0.1  # cells with at least this heat learn the box and the landmarks of their face
LANDMARK_BETA = 0.02  # below this error (share of the box) the landmark loss is quadratic
LANDMARK_LEAST = 16.0  # pixels; on smaller faces a label is as wrong as the guess it would teach


@dataclass(frozen=True)
class LevelTargets:
    """What one level should say. All maps are (B, H, W) but for the last axis named.

    heat in [0, 1], exactly 1 at a centre; heard: 0 in ignored regions; weight: of the regression;
    box (B, H, W, 4): centre x, y, width, height in pixels; landmarks (B, H, W, 5, 2) in pixels, NaN unknown.
    """

    heat: Tensor
    heard: Tensor
    weight: Tensor
    box: Tensor
    landmarks: Tensor


def level_targets(
    boxes: Tensor, landmarks: Tensor, ignored: Tensor, level: int, height: int, width: int
) -> LevelTargets:
    """Targets of the `level`-th map, `height` x `width` cells.

    boxes (B, N, 4) x, y, width, height in pixels, rows of no area are padding; landmarks (B, N, 5, 2),
    NaN unknown; ignored (B, M, 4). The heat of a face is a Gaussian around the cell of its centre
    (CenterNet), scaled down outside the level's range over half an octave: such a cell is no face
    here, and no plain background either.
    """
    stride, (low, high) = STRIDES[level], RANGES[level]
    size = boxes[..., 2:].clamp(min=1e-3)
    side = size.prod(dim=-1).sqrt()
    outside = torch.maximum(torch.log2(low / side), torch.log2(side / high)) if low else torch.log2(side / high)
    present = boxes[..., 2:].prod(dim=-1) > 0
    amplitude = (1 - 2 * outside.clamp(min=0)).clamp(0, 1) * present
    centre = boxes[..., :2] + boxes[..., 2:] / 2
    across = _bump(centre[..., 0], size[..., 0], stride, width)
    down = _bump(centre[..., 1], size[..., 1], stride, height)
    heats = amplitude[..., None, None] * down[..., :, None] * across[..., None, :]  # (B, N, H, W)
    heat, owner = heats.max(dim=1)
    assigned = (amplitude >= 1).gather(1, owner.flatten(1)).view_as(heat)
    weight = heat * (assigned & (heat >= SPEAKING))
    told = torch.cat([centre, size, landmarks.flatten(2)], dim=-1)
    told = told.gather(1, owner.flatten(1)[..., None].expand(-1, -1, told.shape[-1]))
    told = told.view(*heat.shape, -1)
    heard = 1 - _covered(ignored, stride, height, width) * (weight == 0)
    return LevelTargets(heat, heard, weight, told[..., :4], told[..., 4:].reshape(*heat.shape, 5, 2))


def _bump(centre: Tensor, size: Tensor, stride: int, cells: int) -> Tensor:
    """(B, N) -> (B, N, cells): Gaussian around the cell that holds the centre, exactly 1 there."""
    cell = (centre / stride).floor().clamp(0, cells - 1)
    spread = (SPREAD * size / stride).clamp(min=LEAST_SPREAD)
    place = torch.arange(cells, device=centre.device, dtype=centre.dtype)
    return torch.exp(-0.5 * ((place - cell[..., None]) / spread[..., None]) ** 2)


def _covered(regions: Tensor, stride: int, height: int, width: int) -> Tensor:
    """(B, M, 4) -> (B, H, W): 1 where a cell's middle lies in a region, widened by half a cell."""

    def inside(start: Tensor, extent: Tensor, cells: int) -> Tensor:
        middle = (torch.arange(cells, device=regions.device, dtype=regions.dtype) + 0.5) * stride
        near = (middle >= start[..., None] - stride / 2) & (middle <= (start + extent)[..., None] + stride / 2)
        return near & (extent > 0)[..., None]

    across = inside(regions[..., 0], regions[..., 2], width)
    down = inside(regions[..., 1], regions[..., 3], height)
    return (down[..., :, None] & across[..., None, :]).any(dim=1).to(regions.dtype)


def heat_loss(logits: Tensor, heat: Tensor, heard: Tensor) -> Tensor:
    """Penalty-reduced focal loss (CornerNet, Law & Deng 2018), summed.

    -(1 - p)^2 log p at centres (heat 1), -(1 - heat)^4 p^2 log(1 - p) elsewhere. All (B, H, W).
    """
    probability = logits.sigmoid()
    faces = (heat >= 1).to(logits.dtype)
    hit = faces * (1 - probability) ** 2 * logsigmoid(logits)
    miss = (1 - faces) * heard * (1 - heat) ** 4 * probability**2 * logsigmoid(-logits)
    return -(hit + miss).sum()


def box_loss(centre: Tensor, size: Tensor, target: Tensor) -> Tensor:
    """1 - DIoU (Zheng et al. 2020) of boxes: centre (N, 2), size (N, 2), target (N, 4) as both -> (N,).

    DIoU = IoU - d^2 / c^2, with the distance d of the centres and the diagonal c of the common hull.
    """
    start, end = centre - size / 2, centre + size / 2
    target_start, target_end = target[:, :2] - target[:, 2:] / 2, target[:, :2] + target[:, 2:] / 2
    shared = (torch.minimum(end, target_end) - torch.maximum(start, target_start)).clamp(min=0).prod(dim=1)
    union = size.prod(dim=1) + target[:, 2:].prod(dim=1) - shared
    hull = torch.maximum(end, target_end) - torch.minimum(start, target_start)
    distance = ((centre - target[:, :2]) ** 2).sum(dim=1) / (hull**2).sum(dim=1).clamp(min=1e-6)
    return 1 - shared / union.clamp(min=1e-6) + distance


def landmark_loss(points: Tensor, target: Tensor, size: Tensor) -> Tensor:
    """Smooth L1 of landmarks (N, 5, 2) in shares of the box side; unknown (NaN) ones cost nothing -> (N,)."""
    side = size.prod(dim=1).sqrt()[:, None, None]
    known = ~target.isnan()
    error = (points - torch.where(known, target, points.detach())) / side
    loss = smooth_l1_loss(error, torch.zeros_like(error), beta=LANDMARK_BETA, reduction="none")
    return (loss * known).sum(dim=(1, 2)) / 10


def told_at(maps: Tensor, where: tuple[Tensor, ...], stride: int) -> tuple[Tensor, Tensor, Tensor]:
    """What cells of one level (B, 15, H, W) say: centres (N, 2), sizes (N, 2), landmarks (N, 5, 2), all in pixels.

    where: batch, row and column of each cell, all (N,).
    """
    batch, row, column = where
    told = maps[batch, :, row, column]
    cell = torch.stack([column, row], dim=1) + 0.5
    size = UNIT * stride * told[:, 3:5].clamp(-MAX_LOG_SIZE, MAX_LOG_SIZE).exp()
    points = cell[:, None] * stride + told[:, 5:].reshape(-1, 5, 2) * size[:, None]
    return (cell + told[:, 1:3]) * stride, size, points


def worth_telling(landmarks: Tensor, boxes: Tensor) -> Tensor:
    """Landmarks (N, 5, 2), those of boxes (N, 4; centre and size) below `LANDMARK_LEAST` unknown."""
    small = boxes[:, 2:].prod(dim=1) < LANDMARK_LEAST**2
    return landmarks.masked_fill(small[:, None, None], torch.nan)


def detection_loss(
    outputs: tuple[Tensor, ...],
    boxes: Tensor,
    landmarks: Tensor,
    ignored: Tensor,
    box_weight: float,
    landmark_weight: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The whole loss of the maps (see CentreFace) against faces (see level_targets), and its parts.

    The heat is divided by the number of faces, boxes and landmarks by the weight of the cells that speak.
    """
    zero = boxes.new_zeros(())
    heat, box, landmark, faces, weights, known = zero, zero, zero, zero, zero, zero
    for level, output in enumerate(outputs):
        maps = output.float()
        targets = level_targets(boxes, landmarks, ignored, level, *maps.shape[2:])
        heat = heat + heat_loss(maps[:, 0], targets.heat, targets.heard)
        faces = faces + (targets.heat >= 1).sum()
        where = torch.nonzero(targets.weight, as_tuple=True)
        centre, size, points = told_at(maps, where, STRIDES[level])
        weight, target = targets.weight[where], targets.box[where]
        marks = worth_telling(targets.landmarks[where], target)
        box = box + (weight * box_loss(centre, size, target)).sum()
        landmark = landmark + (weight * landmark_loss(points, marks, target[:, 2:])).sum()
        weights = weights + weight.sum()
        known = known + (weight * ~marks[:, 0, 0].isnan()).sum()
    parts = {
        "heat": heat / faces.clamp(min=1),
        "box": box / weights.clamp(min=1),
        "landmark": landmark / known.clamp(min=1),
    }
    return weighed(parts, box_weight, landmark_weight)


def weighed(parts: dict[str, Tensor], box_weight: float, landmark_weight: float) -> tuple[Tensor, dict[str, Tensor]]:
    """The whole loss, and its parts (heat, box, landmark) for the log."""
    total = parts["heat"] + box_weight * parts["box"] + landmark_weight * parts["landmark"]
    return total, {name: part.detach() for name, part in parts.items()}
