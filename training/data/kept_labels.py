"""A peer's labels kept on disk: asking it about many thousand photos takes longer than some stages of training."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from training.data import pseudo_labels
from training.data.detection import DetectionDataError, Photo
from training.evaluation.peers import Yunet

Ask = Callable[[Photo, Yunet], Photo]
"""`pseudo_labels.complete` or `locate`: the photo with other boxes, landmarks or ignored regions."""


def asked(photos: Sequence[Photo], peer: Path, ask: Ask, folder: Path | None) -> list[Photo]:
    """The photos as the peer labels them; with a `folder`, as it did when it was asked the same before.

    Kept under a digest of the peer, of the photos' pixels and labels, and of how the peer is asked. Raises PeerError,
    DetectionDataError when what is kept is damaged.
    """
    yunet = Yunet(peer)
    if not photos:
        return []
    path = folder / f"{ask.__name__}-{_digest(photos, peer, ask)}.npz" if folder else None
    if path and path.is_file():
        return _labelled(photos, path)
    described = tqdm(photos, desc=f"asking {peer.stem}", unit="photo", disable=None)
    answers = [ask(photo, yunet) for photo in described]
    if path:
        _keep(answers, path)
    return answers


def _digest(photos: Sequence[Photo], peer: Path, ask: Ask) -> str:
    views = (pseudo_labels.PHOTO_VIEWS, pseudo_labels.CROP_VIEWS, pseudo_labels.MATCH, pseudo_labels.DOUBT)
    digest = hashlib.sha256(f"{ask.__name__} {views} {pseudo_labels.ENOUGH}".encode())
    digest.update(peer.read_bytes())
    for photo in photos:
        digest.update(f"{photo.name} {photo.image.size} {len(photo.boxes)}".encode())
        digest.update(photo.image.tobytes())
        for array in (photo.boxes, photo.landmarks, photo.ignored):
            digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def _keep(photos: Sequence[Photo], path: Path) -> None:
    """Write what is known of the photos under another name first: a run may be stopped, and several ranks write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{os.getpid()}-{path.name}")
    np.savez(
        unfinished,
        faces=[len(photo.boxes) for photo in photos],
        boxes=np.concatenate([photo.boxes for photo in photos]),
        landmarks=np.concatenate([photo.landmarks for photo in photos]),
        regions=[len(photo.ignored) for photo in photos],
        ignored=np.concatenate([photo.ignored for photo in photos]),
    )
    unfinished.replace(path)


def _labelled(photos: Sequence[Photo], path: Path) -> list[Photo]:
    try:
        with np.load(path) as kept:
            faces, regions = np.cumsum(kept["faces"])[:-1], np.cumsum(kept["regions"])[:-1]
            boxes, landmarks = np.split(kept["boxes"], faces), np.split(kept["landmarks"], faces)
            ignored = np.split(kept["ignored"], regions)
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DetectionDataError(f"{path}: damaged; delete it, and the peer will be asked again") from error
    return [
        replace(photo, boxes=its_boxes, landmarks=its_landmarks, ignored=its_ignored)
        for photo, its_boxes, its_landmarks, its_ignored in zip(photos, boxes, landmarks, ignored, strict=True)
    ]
