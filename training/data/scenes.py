"""Composes training scenes: crops at random scales, mosaics, and faces pasted into other photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from models.detector.find import fitted_size
from models.faces import MIRRORED
from training.data.detection import Photo

_TRIES = 8  # windows looked at before a photo is taken to be full of faces


@dataclass
class Scene:
    """A canvas being filled: image (H, W, 3) uint8 RGB; boxes, landmarks, ignored as in Photo."""

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    ignored: NDArray[np.float32]


def empty_scene(size: int, random: np.random.Generator) -> Scene:
    """A square canvas of one random colour, without a face."""
    colour = random.integers(0, 256, 3).astype(np.uint8)
    nothing = np.zeros((0, 4), np.float32)
    return Scene(np.broadcast_to(colour, (size, size, 3)).copy(), nothing, np.zeros((0, 5, 2), np.float32), nothing)


class SceneRecipe(BaseModel):
    """How scenes are drawn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    crowd_share: float = Field(0.4, ge=0, le=1, description="tiles that show a crowd photo rather than a portrait")
    grids: dict[int, float] = Field(
        {1: 0.45, 2: 0.3, 3: 0.15, 5: 0.1}, description="tiles a side and the share of scenes that have them"
    )
    smallest_face: float = Field(8.0, gt=0, description="pixels, the root of the box area; a smaller face is ignored")
    paste_share: float = Field(0.35, ge=0, le=1, description="scenes into which faces are pasted")
    most_pasted: int = Field(6, ge=1, description="faces pasted into one scene at most")
    rotate_share: float = Field(0.25, ge=0, le=1, description="portraits that are turned")
    max_rotation: float = Field(35.0, ge=0, le=180, description="degrees")
    cover_share: float = Field(0.85, ge=0, le=1, description="tiles whose photo is shifted to fill them if it can")
    aspect: float = Field(0.12, ge=0, description="standard deviation of the log aspect ratio")
    natural_share: float = Field(
        0.0, ge=0, le=1, description="crowd tiles at about the size at which faces are looked for in the whole photo"
    )
    widen: float = Field(1.7, ge=1, description="crowd photos are widened by a factor between 1 and this")
    squeeze: float = Field(
        1.0, ge=1, description="portraits and pasted faces are narrowed by a factor between 1 and this"
    )
    cover_face_share: float = Field(
        0.0, ge=0, le=1, description="faces that something hides in part, as masks, glasses and hands do"
    )
    background_share: float = Field(
        0.0, ge=0, le=1, description="tiles that show a part of a photo without a face, turned and recoloured"
    )


class SceneComposer:
    """Draws scenes from portraits (few large faces), crowds (many small ones) and faces to paste."""

    def __init__(
        self, portraits: Sequence[Photo], crowds: Sequence[Photo], crops: Sequence[Photo], recipe: SceneRecipe
    ) -> None:
        self._portraits, self._crowds, self._recipe = portraits, crowds, recipe
        # Turning a photo costs more than the rest of a tile, so one turned copy of each serves the whole run.
        angles = np.random.default_rng(0).uniform(-recipe.max_rotation, recipe.max_rotation, len(portraits))
        self._turned = [rotated(photo, angle) for photo, angle in zip(portraits, angles, strict=True)]
        self._donors = [photo for photo in (*portraits, *self._turned, *crops) if len(photo.boxes) == 1]

    def scene(self, size: int, random: np.random.Generator) -> Scene:
        """A square scene of `size` pixels: a grid of tiles, sometimes with further faces pasted in."""
        grids = list(self._recipe.grids.items())
        grid = int(random.choice([g for g, _ in grids], p=[share for _, share in grids]))
        scene = empty_scene(size, random)
        edges = _edges(size, grid, random), _edges(size, grid, random)
        for top, bottom in zip(edges[0], edges[0][1:], strict=False):
            for left, right in zip(edges[1], edges[1][1:], strict=False):
                self._tile(scene, (left, top, right, bottom), random)
        if random.random() < self._recipe.paste_share:
            for _ in range(random.integers(1, self._recipe.most_pasted + 1)):
                self._paste(scene, random)
        for box in scene.boxes:
            if random.random() < self._recipe.cover_face_share:
                _cover(scene, box, random)
        if random.random() < 0.5:
            mirror_scene(scene)
        return scene

    def _tile(self, scene: Scene, place: tuple[int, int, int, int], random: np.random.Generator) -> None:
        """Fill one tile: with what lies between faces, or with a crop that shows a random face at a random size."""
        if random.random() < self._recipe.background_share and self._background(scene, place, random):
            return
        crowd = bool(self._crowds) and random.random() < self._recipe.crowd_share
        portraits = self._turned if random.random() < self._recipe.rotate_share else self._portraits
        photos = self._crowds if crowd else portraits
        photo = photos[int(random.integers(len(photos)))]
        width, height = place[2] - place[0], place[3] - place[1]
        sides = np.sqrt(photo.boxes[:, 2] * photo.boxes[:, 3])
        # Enlarging a face of a few pixels shows only blur: in a crowd aim at the others.
        aims = np.flatnonzero(sides >= (5 if crowd else 0))
        aspect = np.exp(random.normal(0, self._recipe.aspect))
        aspect *= random.uniform(1, self._recipe.widen) if crowd else 1 / random.uniform(1, self._recipe.squeeze)
        if crowd and random.random() < self._recipe.natural_share:
            scale = fitted_size(*photo.image.size)[0] / photo.image.width * np.exp(random.normal(0, 0.2))
            centre = random.uniform(0, 1, 2) * photo.image.size
        elif len(aims) and random.random() < 0.95:
            face = photo.boxes[aims[random.integers(len(aims))]]
            smallest = max(self._recipe.smallest_face, 0.1 * min(width, height))
            wanted = np.exp(random.uniform(np.log(smallest), np.log(max(1.05 * min(width, height), smallest))))
            scale = np.clip(wanted / np.sqrt(face[2] * face[3]), 0.05, 3.0 if crowd else 8.0)
            centre = face[:2] + face[2:] / 2
        else:
            scale = np.exp(random.uniform(np.log(0.5), np.log(2.0)))
            centre = random.uniform(0, 1, 2) * photo.image.size
        scales = scale * np.array([np.sqrt(aspect), 1 / np.sqrt(aspect)])
        shift = random.uniform(0.1, 0.9, 2) * (width, height) - centre * scales
        if random.random() < self._recipe.cover_share:
            slack = (width, height) - scales * photo.image.size
            shift = np.clip(shift, np.minimum(slack, 0), np.maximum(slack, 0))
        place_photo(scene, photo, place, scales, shift, self._recipe.smallest_face)

    def _background(self, scene: Scene, place: tuple[int, int, int, int], random: np.random.Generator) -> bool:
        """Fill one tile with a part of a photo that touches no face; False where none was found.

        Photos are few, so what is no face is shown in more ways than a camera would: turned by quarters and
        recoloured. Faces are not, since those would be no faces of this world.
        """
        photos = self._crowds if self._crowds and random.random() < 0.7 else self._portraits
        photo = photos[int(random.integers(len(photos)))]
        size = np.array(photo.image.size)
        faces = np.concatenate([photo.boxes, photo.ignored])
        for _ in range(_TRIES):
            side = np.exp(random.uniform(np.log(24), np.log(min(size) * 0.8)))
            extent = side * np.exp(random.normal(0, self._recipe.aspect, 2))
            if (extent >= size).any():
                continue
            start = random.uniform(0, size - extent)
            if not len(_touching(np.concatenate([start, extent]).astype(np.float32), faces)):
                left, top, right, bottom = place
                shape = (right - left, bottom - top)
                turns = int(random.integers(4))
                shown = photo.image.resize(
                    shape[::-1] if turns % 2 else shape, Image.Resampling.BILINEAR, (*start, *(start + extent))
                )
                pixels = np.rot90(np.asarray(shown), turns)[..., random.permutation(3)]
                scene.image[top:bottom, left:right] = 255 - pixels if random.random() < 0.2 else pixels
                return True
        return False

    def _paste(self, scene: Scene, random: np.random.Generator) -> None:
        """Blend one face into the scene where it covers no other face."""
        donor = self._donors[random.integers(len(self._donors))]
        size = len(scene.image)
        box = donor.boxes[0]
        wanted = np.exp(random.uniform(np.log(self._recipe.smallest_face), np.log(0.5 * size)))
        narrow = np.sqrt(random.uniform(1, self._recipe.squeeze))
        scale = wanted / np.sqrt(box[2] * box[3]) * np.array([1 / narrow, narrow])
        grown = box[2:] * random.uniform(1.15, 1.8, 2)
        start = np.maximum(box[:2] + box[2:] / 2 - grown / 2, 0)
        end = np.minimum(box[:2] + box[2:] / 2 + grown / 2, donor.image.size)
        width, height = np.maximum(np.round((end - start) * scale).astype(int), 2)
        if width >= size or height >= size:
            return
        left, top = random.integers(0, size - width), random.integers(0, size - height)
        patch = np.array([left, top, width, height], np.float32)
        if len(_touching(patch, np.concatenate([scene.boxes, scene.ignored]))):
            return
        pixels = np.asarray(
            donor.image.resize((int(width), int(height)), Image.Resampling.BILINEAR, (*start, *end)), np.float32
        )
        mask = _soft_mask(int(width), int(height), random)
        view = scene.image[top : top + height, left : left + width]
        view[:] = np.round(mask * pixels + (1 - mask) * view).astype(np.uint8)
        shift = np.array([left, top]) - start * scale
        scene.boxes = np.concatenate([scene.boxes, _moved_boxes(donor.boxes, scale, shift)])
        scene.landmarks = np.concatenate([scene.landmarks, (donor.landmarks * scale + shift).astype(np.float32)])


def _cover(scene: Scene, box: NDArray[np.float32], random: np.random.Generator) -> None:
    """Hide up to two fifths of a face behind a bar of one colour, or of other pixels of the scene."""
    share = random.uniform(0.15, 0.4)
    lying = random.random() < 0.7  # as glasses or a mask; otherwise from the side
    extent = box[2:] * ((1.2, share) if lying else (share, 1.2))
    middle = box[:2] + box[2:] * ((0.5, random.uniform(0.3, 0.9)) if lying else (random.choice([0.1, 0.9]), 0.5))
    height, width = scene.image.shape[:2]
    left, top = np.clip(np.round(middle - extent / 2).astype(int), 0, (width, height))
    right, bottom = np.clip(np.round(middle + extent / 2).astype(int), 0, (width, height))
    if right <= left or bottom <= top:
        return
    if random.random() < 0.5:
        scene.image[top:bottom, left:right] = random.integers(0, 256, 3)
    else:
        x, y = random.integers(0, width - (right - left) + 1), random.integers(0, height - (bottom - top) + 1)
        scene.image[top:bottom, left:right] = scene.image[y : y + bottom - top, x : x + right - left].copy()


def _edges(size: int, grid: int, random: np.random.Generator) -> list[int]:
    """Borders of a grid's columns, jittered by up to a fifth of a tile."""
    inner = (np.arange(1, grid) + random.uniform(-0.2, 0.2, grid - 1)) * size / grid
    return [0, *np.round(inner).astype(int).tolist(), size]


def _soft_mask(width: int, height: int, random: np.random.Generator) -> NDArray[np.float32]:
    """(H, W, 1) in [0, 1]: a super-ellipse with a soft border, so that the seam is no cue."""
    power = random.uniform(2, 6)
    x, y = (np.abs(np.linspace(-1, 1, side, dtype=np.float32)) ** power for side in (width, height))
    radius = (x[None] + y[:, None]) ** (1 / power)
    mask: NDArray[np.float32] = np.clip((1 - radius) / random.uniform(0.05, 0.3), 0, 1)[..., None].astype(np.float32)
    return mask


def _moved_boxes(
    boxes: NDArray[np.float32], scale: NDArray[np.float64], shift: NDArray[np.float64]
) -> NDArray[np.float32]:
    return np.concatenate([boxes[:, :2] * scale + shift, boxes[:, 2:] * scale], axis=1).astype(np.float32)


def _touching(patch: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.intp]:
    """Indices of the boxes that share area with the patch."""
    start = np.maximum(patch[:2], boxes[:, :2])
    end = np.minimum(patch[:2] + patch[2:], boxes[:, :2] + boxes[:, 2:])
    return np.flatnonzero(((end - start) > 0).all(axis=1))


def place_photo(
    scene: Scene,
    photo: Photo,
    place: tuple[int, int, int, int],
    scales: NDArray[np.float64],
    shift: NDArray[np.float64],
    smallest: float,
) -> None:
    """Show the photo, scaled and shifted, through the tile `place`; keep the faces that remain visible.

    A face stays a face while its centre and half of its area are visible; otherwise what is left of it
    is ignored, as is a face smaller than `smallest`.
    """
    left, top, right, bottom = place
    corner = np.array([left, top])
    extent = np.array([right - left, bottom - top])
    start = np.clip(np.round(shift), 0, extent).astype(int)
    end = np.clip(np.round(shift + scales * photo.image.size), 0, extent).astype(int)
    if (end - start < 2).any():
        return
    source = (*np.maximum((start - shift) / scales, 0), *np.minimum((end - shift) / scales, photo.image.size))
    pixels = photo.image.resize(tuple((end - start).tolist()), Image.Resampling.BILINEAR, source)
    (x0, y0), (x1, y1) = start + corner, end + corner
    scene.image[y0:y1, x0:x1] = np.asarray(pixels)
    shift = shift + corner
    boxes, ignored = (_moved_boxes(b, scales, shift) for b in (photo.boxes, photo.ignored))
    window = np.array([x0, y0, x1, y1], np.float32)
    clipped = _clipped(boxes, window)
    visible = np.prod(clipped[:, 2:], axis=1) / np.maximum(np.prod(boxes[:, 2:], axis=1), 1e-6)
    large = np.sqrt(np.prod(boxes[:, 2:], axis=1)) >= smallest
    centre = boxes[:, :2] + boxes[:, 2:] / 2
    kept = (visible >= 0.5) & large & ((centre >= window[:2]) & (centre <= window[2:])).all(axis=1)
    doubtful = np.concatenate([clipped[~kept & (visible > 0.1)], _clipped(ignored, window)])
    landmarks = (photo.landmarks[kept] * scales + shift).astype(np.float32)
    scene.boxes = np.concatenate([scene.boxes, clipped[kept]])
    scene.landmarks = np.concatenate([scene.landmarks, landmarks])
    scene.ignored = np.concatenate([scene.ignored, doubtful[np.prod(doubtful[:, 2:], axis=1) > 0]])


def _clipped(boxes: NDArray[np.float32], window: NDArray[np.float32]) -> NDArray[np.float32]:
    """What of the boxes lies in the window (left, top, right, bottom); empty ones get no extent."""
    start = np.clip(boxes[:, :2], window[:2], window[2:])
    end = np.clip(boxes[:, :2] + boxes[:, 2:], window[:2], window[2:])
    return np.concatenate([start, end - start], axis=1)


def mirror_scene(scene: Scene) -> None:
    """Turn the scene into its mirror image; left landmarks become right ones."""
    width = scene.image.shape[1]
    scene.image = scene.image[:, ::-1]
    for boxes in (scene.boxes, scene.ignored):
        boxes[:, 0] = width - boxes[:, 0] - boxes[:, 2]
    scene.landmarks = scene.landmarks[:, MIRRORED].copy()
    scene.landmarks[..., 0] = width - scene.landmarks[..., 0]


def rotated(photo: Photo, degrees: float) -> Photo:
    """The photo turned about its centre; a box becomes the box around its turned inner ellipse."""
    angle = np.deg2rad(degrees)
    cosine, sine = np.cos(angle), np.sin(angle)
    matrix = np.array([[cosine, sine], [-sine, cosine]])  # counter-clockwise, with y downwards
    middle = np.array(photo.image.size) / 2

    def turn(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        centre = (boxes[:, :2] + boxes[:, 2:] / 2 - middle) @ matrix.T + middle
        size = np.hypot(boxes[:, 2:] * abs(cosine), boxes[:, :1:-1] * abs(sine))
        return np.concatenate([centre - size / 2, size], axis=1).astype(np.float32)

    landmarks = ((photo.landmarks - middle) @ matrix.T + middle).astype(np.float32)
    image = photo.image.rotate(degrees, Image.Resampling.BILINEAR)
    return Photo(photo.name, image, turn(photo.boxes), landmarks, turn(photo.ignored))
