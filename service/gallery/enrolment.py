"""Which faces of a photo are enrolled, and why the others are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from service.gallery.records import Box, NewFace
from service.recognition.analyser import AnalysedFace, AnalysedPhoto

EncodeCrop = Callable[[NDArray[np.uint8]], bytes]
_BACKGROUND = frozenset({"small_face", "low_detection_score"})


class FacePolicy(StrEnum):
    """What to take of a photo.

    SINGLE: its only face; with several the photo is refused, because nobody said whose it is. Faces too
    small or too doubtful to be enrolled are background and do not count. LARGEST: the largest. ALL: each.
    """

    SINGLE = "single"
    LARGEST = "largest"
    ALL = "all"


@dataclass(frozen=True)
class Accepted:
    """A face to enrol, and the number of its photo."""

    image: int
    face: NewFace


@dataclass(frozen=True)
class Rejected:
    """A face that is not enrolled, or with `box` None a photo without one, and why."""

    image: int
    box: Box | None
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Selection:
    """What becomes of the faces of some photos."""

    accepted: list[Accepted]
    rejected: list[Rejected]

    @property
    def refusal(self) -> str:
        """Why nothing was accepted, as one code: no_face, multiple_faces or low_quality."""
        reasons = {reason for rejected in self.rejected for reason in rejected.reasons}
        if "multiple_faces" in reasons:
            return "multiple_faces"
        return "no_face" if reasons <= {"no_face"} else "low_quality"


def select_faces(
    photos: Sequence[AnalysedPhoto], policy: FacePolicy, encode_crop: EncodeCrop | None = None
) -> Selection:
    """Choose the faces to enrol. A face that the analyser has reasons against is never taken.

    encode_crop: how to write the crops that are to be kept; None keeps none.
    """
    selection = Selection([], [])
    for number, photo in enumerate(photos):
        if not photo.faces:
            selection.rejected.append(Rejected(number, None, ("no_face",)))
        surplus = _surplus(photo.faces, policy)
        for face in photo.faces:
            reasons = ("multiple_faces",) if any(face is other for other in surplus) else face.reasons
            if reasons or face.embedding is None:
                selection.rejected.append(Rejected(number, face.face.box, reasons or ("low_quality",)))
            else:
                crop = None if encode_crop is None or face.crop is None else encode_crop(face.crop)
                new = NewFace(face.embedding, face.quality, face.face.score, face.face.box, photo.digest, crop)
                selection.accepted.append(Accepted(number, new))
    return selection


def _surplus(faces: Sequence[AnalysedFace], policy: FacePolicy) -> Sequence[AnalysedFace]:
    """The faces that the policy refuses for being too many."""
    if policy is FacePolicy.ALL:
        return ()
    if policy is FacePolicy.LARGEST:
        return faces[1:]
    foreground = [face for face in faces if not _BACKGROUND & set(face.reasons)]
    return foreground if len(foreground) > 1 else ()
