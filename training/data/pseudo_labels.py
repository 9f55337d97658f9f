"""What a peer detector adds to the photos' labels: landmarks of boxes, and faces nobody labelled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from models.alignment import similarity
from models.detector.decode import distinct, overlaps
from models.faces import MIRRORED, Face
from training.data.detection import Photo
from training.evaluation.peers import Yunet

Votes = list[list[Face]]
"""For each labelled box the peer's detections of it, at most one a view."""

# One view of the peer is off by about 6 % of the inter-ocular distance, in another direction each time. The photos
# are small: enlarged, faces below the peer's 10 pixels are found too.
PHOTO_VIEWS = tuple((scale, mirrored) for scale in (0.8, 1.0, 1.25, 1.6, 2.0) for mirrored in (False, True))
CROP_VIEWS = tuple((scale, mirrored) for scale in (1.5, 2.0) for mirrored in (False, True))
MATCH = 0.4
DOUBT = 0.3  # the least score of a detection that counts
ENOUGH = len(PHOTO_VIEWS) // 2


def complete(photo: Photo, peer: Yunet) -> Photo:
    """The photo with landmarks as the peer sees them on the average of its views, and unlabelled faces ignored.

    A box's landmarks are the mean over the detections with IoU >= 0.4; a box that the peer never sees keeps
    its own. What half of the views show and no box matches is not trusted as a face, but neither is its place
    taken for background; what fewer show is background, and the hardest there is.
    """
    votes, doubtful = _ask(photo.image, photo.boxes, peer, PHOTO_VIEWS)
    landmarks = photo.landmarks.copy()
    for number, faces in enumerate(votes):
        if faces:
            landmarks[number] = np.mean([face.landmarks for face in faces], axis=0)
    boxes = np.array([face.box for face in doubtful], np.float32).reshape(-1, 4)
    kept = distinct(boxes, np.array([face.score for face in doubtful], np.float32), MATCH)
    seen = [number for number in kept if (overlaps(boxes[number], boxes) >= MATCH).sum() >= ENOUGH]
    return replace(photo, landmarks=landmarks, ignored=boxes[seen])


def locate(crop: Photo, peer: Yunet) -> Photo:
    """A crop of one face with the peer's box and landmarks, or as it is where not every view shows that face.

    The peer sees the crop amid grey: it was not made for faces that fill the photo.
    """
    width, height = crop.image.size
    canvas = Image.new("RGB", (2 * width, 2 * height), (127, 127, 127))
    canvas.paste(crop.image, (width // 2, height // 2))
    corner = np.array([width // 2, height // 2], np.float32)
    (faces,), _ = _ask(canvas, crop.boxes + np.array([*corner, 0, 0], np.float32), peer, CROP_VIEWS)
    if len(faces) < len(CROP_VIEWS):
        return crop
    box = np.mean([face.box for face in faces], axis=0) - np.array([*corner, 0, 0])
    landmarks = np.mean([face.landmarks for face in faces], axis=0) - corner
    return replace(crop, boxes=box[None].astype(np.float32), landmarks=landmarks[None].astype(np.float32))


def _ask(
    image: Image.Image, boxes: NDArray[np.float32], peer: Yunet, views: tuple[tuple[float, bool], ...]
) -> tuple[Votes, list[Face]]:
    """The peer's detections by the box they match, and those that match none, in the image's pixels."""
    votes: Votes = [[] for _ in boxes]
    doubtful = []
    for scale, mirrored in views:
        answered = set()
        for face in _seen(image, peer, scale, mirrored):
            overlap = overlaps(np.asarray(face.box, np.float32), boxes)
            best = int(overlap.argmax()) if len(overlap) else -1
            if best < 0 or overlap[best] < MATCH:
                doubtful.append(face)
            elif best not in answered:
                answered.add(best)
                votes[best].append(face)
    return votes, doubtful


def _seen(image: Image.Image, peer: Yunet, scale: float, mirrored: bool) -> list[Face]:
    """The peer's detections in one view, best first, in the image's pixels."""
    view = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    pixels = np.asarray(ImageOps.mirror(view) if mirrored else view)
    faces = []
    for face in peer.find(pixels, score_threshold=DOUBT, max_side=max(view.size)):
        x, y, width, height = (side / scale for side in face.box)
        landmarks = face.landmarks / scale
        if mirrored:
            x = image.width - x - width
            landmarks = np.stack([image.width - landmarks[:, 0], landmarks[:, 1]], axis=1)[MIRRORED]
        faces.append(Face((x, y, width, height), landmarks, face.score))
    return faces


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
