"""What a peer detector adds to the photos' labels: landmarks of boxes, and faces nobody labelled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.alignment import similarity
from models.detector.decode import overlaps
from models.faces import Face
from training.data.detection import Photo
from training.evaluation.peers import Yunet

SCALES = (1.0, 2.0)  # the photos are small: enlarged once, faces below the peer's 10 px are found too
MATCH = 0.4
DOUBT = 0.3  # a face seen with this score and not labelled makes its region ignored


def complete(photo: Photo, peer: Yunet) -> Photo:
    """The photo with landmarks from the peer where a box has none, and unlabelled faces ignored.

    A box takes the landmarks of the best detection with IoU >= 0.4. A detection that no box matches is
    not trusted as a face, but neither is its place taken for background.
    """
    landmarks, ignored = photo.landmarks.copy(), []
    for face in _seen(photo.image, peer):
        box = np.asarray(face.box, np.float32)
        overlap = overlaps(box, photo.boxes)
        if not len(overlap) or overlap.max() < MATCH:
            ignored.append(box)
        elif np.isnan(landmarks[overlap.argmax()]).any():
            landmarks[overlap.argmax()] = face.landmarks
    return replace(photo, landmarks=landmarks, ignored=np.array(ignored, np.float32).reshape(-1, 4))


def _seen(image: Image.Image, peer: Yunet) -> list[Face]:
    """The peer's detections over all scales, best first, in the photo's pixels."""
    faces = []
    for scale in SCALES:
        size = (round(image.width * scale), round(image.height * scale))
        pixels = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
        for face in peer.find(pixels, score_threshold=DOUBT, max_side=max(size)):
            x, y, width, height = (side / scale for side in face.box)
            faces.append(Face((x, y, width, height), face.landmarks / scale, face.score))
    return sorted(faces, key=lambda face: -face.score)


def template_box(photos: list[Photo]) -> NDArray[np.float32]:
    """The median face box, (4,) x, y, width, height, after aligning faces with known landmarks."""
    corners = []
    for photo in photos:
        for box, landmarks in zip(photo.boxes, photo.landmarks, strict=True):
            if np.isfinite(landmarks).all():
                matrix = similarity(landmarks)
                # Scale and shift only: a box has no rotation.
                scale = np.hypot(matrix[0, 0], matrix[1, 0])
                centre = matrix[:, :2] @ (box[:2] + box[2:] / 2) + matrix[:, 2]
                corners.append(np.concatenate([centre - box[2:] * scale / 2, box[2:] * scale]))
    typical: NDArray[np.float32] = np.median(corners, axis=0).astype(np.float32)
    return typical
