"""Steadier landmarks: each face is looked at again, alone, mirrored, and at a size that suits the detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.detector.decode import decode, overlaps
from models.faces import MIRRORED, Face, Forward

FACE = 104  # pixels, the root of the box area in a view
VIEW = 160  # pixels, the side of a view
_LEAST_SCORE = 0.2
_LEAST_OVERLAP = 0.4
_BATCH = 16


def refine_landmarks(image: NDArray[np.uint8], faces: Sequence[Face], forward: Forward) -> list[Face]:
    """The faces, their landmarks the mean of two guesses: the one they have, and that of a second look.

    image: (H, W, 3) uint8 RGB; faces in its pixels. A second look is at the mirror image of the face alone, so what
    the detector gets wrong there it does not get wrong in the same way: the mean is some 10 % nearer to the truth, by
    `bench/detector.py`. A face that is not found again, and boxes and scores, stay as they are.
    """
    refined: list[Face] = []
    for start in range(0, len(faces), _BATCH):
        part = faces[start : start + _BATCH]
        windows = [_Window.around(face) for face in part]
        outputs = forward(np.stack([window.mirrored_view(image) for window in windows]))
        for row, (face, window) in enumerate(zip(part, windows, strict=True)):
            again = _landmarks([level[row : row + 1] for level in outputs], face, window)
            landmarks = face.landmarks if again is None else (face.landmarks + again) / 2
            refined.append(replace(face, landmarks=landmarks.astype(np.float32)))
    return refined


class _Window:
    """A square of a photo around a face. left, top in the photo; scale: pixels of the view in one of the photo."""

    def __init__(self, left: float, top: float, scale: float) -> None:
        self.left, self.top, self.scale = left, top, scale

    @classmethod
    def around(cls, face: Face) -> _Window:
        x, y, width, height = face.box
        scale = FACE / max(float(np.sqrt(width * height)), 1.0)
        half = VIEW / 2 / scale
        return cls(x + width / 2 - half, y + height / 2 - half, scale)

    def mirrored_view(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(3, VIEW, VIEW) float32 network input, mirrored; grey where the photo ends."""
        planes = np.zeros((3, VIEW, VIEW), np.float32)
        corner = np.array([self.left, self.top])
        start = np.maximum(corner, 0)
        end = np.minimum(corner + VIEW / self.scale, image.shape[1::-1])
        first, last = (np.round((edge - corner) * self.scale).astype(int) for edge in (start, end))
        if (last > first).all():
            shown = Image.fromarray(image).resize(
                tuple((last - first).tolist()), Image.Resampling.BILINEAR, (*start, *end), reducing_gap=2.0
            )
            pixels = (np.asarray(shown, np.float32).transpose(2, 0, 1) - 127.5) / 127.5
            planes[:, first[1] : last[1], first[0] : last[0]] = pixels
        return planes[..., ::-1]

    def to_mirrored_view(self, box: tuple[float, float, float, float]) -> NDArray[np.float32]:
        """A box of the photo in the mirrored view's pixels: (4,)."""
        x, y, width, height = ((np.array(box) - [self.left, self.top, 0, 0]) * self.scale).tolist()
        return np.array([VIEW - x - width, y, width, height], np.float32)

    def from_mirrored_view(self, landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
        """Landmarks (5, 2) of the mirrored view in the photo's pixels."""
        turned = np.stack([VIEW - landmarks[:, 0], landmarks[:, 1]], axis=1)[MIRRORED]
        return (turned / self.scale + [self.left, self.top]).astype(np.float32)


def _landmarks(outputs: Sequence[NDArray[np.float32]], face: Face, window: _Window) -> NDArray[np.float32] | None:
    """The face's landmarks (5, 2) in the photo by what the network says of its view; None if it is not there."""
    found = decode(outputs, _LEAST_SCORE)
    if not found:
        return None
    overlap = overlaps(window.to_mirrored_view(face.box), np.array([other.box for other in found], np.float32))
    best = int(overlap.argmax())
    return window.from_mirrored_view(found[best].landmarks) if overlap[best] >= _LEAST_OVERLAP else None
