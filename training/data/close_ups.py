"""Close-ups: one face alone, as the detector's further looks see it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.detector.refine import FACE, VIEW
from training.data.detection import Photo
from training.data.scenes import Scene, empty_scene, mirror_scene, place_photo, rotated

PORTRAIT_SHARE = 0.3  # of close-ups show a portrait: few, but with what surrounds a face
# Standard deviations of what a further look is off by: the size found (log), the place found (in shares of the side of
# the face), the aspect ratio (log), and of how heads are held, in degrees.
_SIZE, _PLACE, _ASPECT, _TILT = 0.12, 0.06, 0.04, 12.0


class CloseUps:
    """Draws views of single faces with known landmarks, from portraits and from crops."""

    def __init__(self, portraits: Sequence[Photo], crops: Sequence[Photo]) -> None:
        self._portraits, self._crops = ([photo for photo in kind if _usable(photo)] for kind in (portraits, crops))

    def __len__(self) -> int:
        return len(self._portraits) + len(self._crops)

    def close_up(self, random: np.random.Generator) -> Scene:
        """A square scene of `models.detector.refine.VIEW` pixels with a face of about `FACE` amid it."""
        portrait = not self._crops or (self._portraits and random.random() < PORTRAIT_SHARE)
        photos = self._portraits if portrait else self._crops
        photo = rotated(photos[int(random.integers(len(photos)))], random.normal(0, _TILT))
        x, y, width, height = photo.boxes[0]
        aspect = np.exp(random.normal(0, _ASPECT))
        scale = FACE / np.sqrt(width * height) * np.exp(random.normal(0, _SIZE))
        scales = scale * np.array([np.sqrt(aspect), 1 / np.sqrt(aspect)])
        middle = VIEW / 2 + FACE * random.normal(0, _PLACE, 2)
        scene = empty_scene(VIEW, random)
        shift = middle - np.array([x + width / 2, y + height / 2]) * scales
        place_photo(scene, photo, (0, 0, VIEW, VIEW), scales, shift, smallest=0)
        if random.random() < 0.5:
            mirror_scene(scene)
        return scene


def _usable(photo: Photo) -> bool:
    return len(photo.boxes) == 1 and bool(np.isfinite(photo.landmarks).all())
