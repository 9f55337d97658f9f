"""Surer faces: each is looked at again, alone, at a size that suits the detector, as it is and mirrored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.detector.decode import decode, overlaps
from models.detector.find import MAX_SIDE, SCORE_THRESHOLD, find_faces
from models.faces import MIRRORED, Face, Forward

FACE = 112  # pixels, the root of the box area in a view
VIEW = 160  # pixels, the side of a view
LOOKS = (False, True)  # whether the view is mirrored
SHARE = 0.3  # of a face's score that the looks have together; the rest is the search's
_LEAST_SCORE = 0.2
_LEAST_OVERLAP = 0.4
_BATCH = 16 // len(LOOKS)  # faces at once


def detect(
    image: NDArray[np.uint8],
    search: Forward,
    looks: Forward,
    *,
    score_threshold: float = SCORE_THRESHOLD,
    max_side: int = MAX_SIDE,
) -> list[Face]:
    """The faces of a photo, best first: searched for as in `find_faces`, and confirmed by the network `looks`."""
    least = candidate_threshold(score_threshold)
    candidates = find_faces(image, search, score_threshold=least, max_side=max_side)
    found = confirm(image, candidates, looks, score_threshold=score_threshold)
    return sorted(found, key=lambda face: face.score, reverse=True)


def candidate_threshold(score_threshold: float) -> float:
    """What a search must say of a face to be worth a further look, if it is to score `score_threshold` then.

    Below, it could not reach that whatever the looks say; where that rules out little, half of the threshold does.
    """
    return max((score_threshold - SHARE) / (1 - SHARE), score_threshold / 2)


def confirm(
    image: NDArray[np.uint8],
    candidates: Sequence[Face],
    forward: Forward,
    *,
    score_threshold: float = SCORE_THRESHOLD,
    max_faces: int | None = None,
) -> list[Face]:
    """The first `max_faces` candidates that score `score_threshold` once `look_again` has looked; no more are looked at
    than that takes. Parameters as there."""
    found: list[Face] = []
    start = 0
    while start < len(candidates) and (max_faces is None or len(found) < max_faces):
        count = _BATCH if max_faces is None else min(_BATCH, max_faces - len(found))
        seen = look_again(image, candidates[start : start + count], forward)
        found += [face for face in seen if face.score >= score_threshold]
        start += count
    return found


def look_again(image: NDArray[np.uint8], faces: Sequence[Face], forward: Forward) -> list[Face]:
    """The faces after two further looks, each at the face alone: landmarks are the mean of what these say.

    image: (H, W, 3) uint8 RGB; faces in its pixels. The detector was trained for such views, and what it gets wrong in
    one, it does not get wrong in the same way in the mirror image. To a face's score the mean of the looks' is added
    with the weight `SHARE`, 0 for one that does not find it; where neither does, the landmarks stay as they are. Boxes
    and the order always do.
    """
    refined: list[Face] = []
    for start in range(0, len(faces), _BATCH):
        part = faces[start : start + _BATCH]
        views = [_View.of(face) for face in part]
        shown = [view.pixels(image) for view in views]
        outputs = forward(
            np.stack([planes[..., ::-1] if mirrored else planes for planes in shown for mirrored in LOOKS])
        )
        for number, (face, view) in enumerate(zip(part, views, strict=True)):
            rows = range(number * len(LOOKS), (number + 1) * len(LOOKS))
            told = [
                _told([level[row : row + 1] for level in outputs], face, view, mirrored)
                for row, mirrored in zip(rows, LOOKS, strict=True)
            ]
            refined.append(_with(face, [look for look in told if look is not None]))
    return refined


def _with(face: Face, looks: Sequence[_Look]) -> Face:
    """The face after the looks that found it."""
    score = (1 - SHARE) * face.score + SHARE * sum(look.score for look in looks) / len(LOOKS)
    if not looks:
        return replace(face, score=score)
    return replace(face, score=score, landmarks=np.mean([look.landmarks for look in looks], axis=0, dtype=np.float32))


@dataclass(frozen=True)
class _Look:
    """What a look that found the face says: landmarks (5, 2) in the photo, score."""

    landmarks: NDArray[np.float32]
    score: float


@dataclass(frozen=True)
class _View:
    """A square of a photo around a face. left, top in the photo; scale: pixels of the view in one of the photo."""

    left: float
    top: float
    scale: float

    @classmethod
    def of(cls, face: Face) -> _View:
        """The view amid which the face has the size `FACE`."""
        x, y, width, height = face.box
        scale = FACE / max(float(np.sqrt(width * height)), 1.0)
        half = VIEW / 2 / scale
        return cls(x + width / 2 - half, y + height / 2 - half, scale)

    def pixels(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(3, VIEW, VIEW) float32 network input; grey where the photo ends."""
        planes = np.zeros((3, VIEW, VIEW), np.float32)
        corner = np.array([self.left, self.top])
        start = np.maximum(corner, 0)
        end = np.minimum(corner + VIEW / self.scale, image.shape[1::-1])
        first, last = (np.round((edge - corner) * self.scale).astype(int) for edge in (start, end))
        if (last > first).all():
            # Pillow copies what it is given: the region that the filter reads, rather than the photo.
            margin = 2 + int(2 / self.scale)
            (left, top), (right, bottom) = np.maximum(start.astype(int) - margin, 0), end.astype(int) + margin
            region = Image.fromarray(image[top:bottom, left:right])
            size, box = (last - first).tolist(), (*(start - (left, top)), *(end - (left, top)))
            shown = region.resize(tuple(size), Image.Resampling.BILINEAR, box, reducing_gap=1.0)
            told = (np.asarray(shown, np.float32).transpose(2, 0, 1) - 127.5) / 127.5
            planes[:, first[1] : last[1], first[0] : last[0]] = told
        return planes

    def to_view(self, box: tuple[float, float, float, float], mirrored: bool) -> NDArray[np.float32]:
        """A box of the photo in the pixels of the view or of its mirror image: (4,)."""
        x, y, width, height = ((np.array(box) - [self.left, self.top, 0, 0]) * self.scale).tolist()
        return np.array([VIEW - x - width if mirrored else x, y, width, height], np.float32)

    def from_view(self, landmarks: NDArray[np.float32], mirrored: bool) -> NDArray[np.float32]:
        """Landmarks (5, 2) of the view or of its mirror image in the photo's pixels."""
        if mirrored:
            landmarks = np.stack([VIEW - landmarks[:, 0], landmarks[:, 1]], axis=1)[MIRRORED]
        return (landmarks / self.scale + [self.left, self.top]).astype(np.float32)


def _told(outputs: Sequence[NDArray[np.float32]], face: Face, view: _View, mirrored: bool) -> _Look | None:
    """What the network says of the face by its view; None if it is not there."""
    found = decode(outputs, _LEAST_SCORE)
    if not found:
        return None
    overlap = overlaps(view.to_view(face.box, mirrored), np.array([other.box for other in found], np.float32))
    best = int(overlap.argmax())
    if overlap[best] < _LEAST_OVERLAP:
        return None
    return _Look(view.from_view(found[best].landmarks, mirrored), found[best].score)
