"""From image files to embeddings, either of aligned crops or through the whole pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from tqdm import tqdm

from models import checkpoint as checkpoints
from models.alignment import SIZE, DegenerateLandmarks, align
from models.detector.refine import detect
from models.embedding import embed, embed_raw
from models.faces import Face
from models.network import detector_forwards, instantiate, torch_forward
from training.evaluation.pairs import Pairs

Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""(N, 112, 112, 3) uint8 RGB crops -> (N, D) float32 embeddings of unit length."""
FindFaces = Callable[[NDArray[np.uint8]], list[Face]]
"""(H, W, 3) uint8 RGB photo -> its faces."""
Source = TypeVar("Source")
ReadCrop = Callable[[Path], NDArray[np.uint8] | None]
"""Image file -> aligned crop (112, 112, 3) uint8 RGB, or None where no face was found."""


class EvaluationError(ValueError):
    """An image or a checkpoint cannot be evaluated as asked; the message names it and the remedy."""


@dataclass(frozen=True)
class Embedded:
    """vectors: (N, D) float32 as `Embed` gave them, zeros where no face was found; found: (N,) bool."""

    vectors: NDArray[np.float32]
    found: NDArray[np.bool_]


def recogniser(path: Path) -> Embed:
    """A checkpoint's recogniser, run by torch. Raises CheckpointError, or EvaluationError for a detector."""
    loaded = _read_recogniser(path)
    forward = torch_forward(instantiate(loaded))
    return lambda crops: embed(crops, forward, loaded.metadata.flip_average)


def _read_recogniser(path: Path) -> checkpoints.Checkpoint:
    loaded = checkpoints.read(path)
    metadata = loaded.metadata
    if metadata.task != "recognition" or metadata.input != checkpoints.InputSpec():
        raise EvaluationError(f"{path}: not a recogniser of {SIZE}x{SIZE} aligned crops (task {metadata.task})")
    return loaded


def unscaled_recogniser(path: Path) -> Embed:
    """As `recogniser`, but embeddings keep their length, which tells of an image's quality."""
    loaded = _read_recogniser(path)
    forward = torch_forward(instantiate(loaded))
    return lambda crops: embed_raw(crops, forward, loaded.metadata.flip_average)


def detector(path: Path) -> FindFaces:
    """A checkpoint's face detector, run by torch. Raises CheckpointError, or EvaluationError."""
    loaded = checkpoints.read(path)
    if loaded.metadata.task != "detection":
        raise EvaluationError(f"{path}: not a detector (task {loaded.metadata.task})")
    forward, looks = detector_forwards(loaded)
    return lambda image: detect(image, forward, looks)


def read_photo(path: Path) -> NDArray[np.uint8]:
    """An image file as (H, W, 3) uint8 RGB, turned upright by its EXIF tag. Raises EvaluationError."""
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, Image.DecompressionBombError) as error:
        raise EvaluationError(f"{path}: not a readable image ({error})") from error


def read_aligned(path: Path) -> NDArray[np.uint8]:
    """An aligned crop as it is. Raises EvaluationError when it is not 112x112."""
    return aligned(read_photo(path), str(path))


def aligned(crop: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """The crop itself. Raises EvaluationError when it is not 112x112; `name` says which it is."""
    if crop.shape != (SIZE, SIZE, 3):
        height, width = crop.shape[:2]
        raise EvaluationError(
            f"{name}: an aligned crop is {SIZE}x{SIZE}, this is {width}x{height}; photos need --pipeline"
        )
    return crop


def read_subject(find: FindFaces) -> ReadCrop:
    """A reader that finds the subject of a photo and aligns it."""

    def read(path: Path) -> NDArray[np.uint8] | None:
        photo = read_photo(path)
        face = central_face(find(photo), width=photo.shape[1], height=photo.shape[0])
        if face is None:
            return None
        try:
            return align(photo, face.landmarks)
        except DegenerateLandmarks:
            return None  # five coinciding points are no face

    return read


def central_face(faces: Sequence[Face], *, width: int, height: int) -> Face | None:
    """The subject of a photo: LFW's is the face in the middle, however large its neighbours are.

    The face whose centre is nearest to the photo's, measured in the face's own size (the root of its
    area), so that a speck beside the middle does not win over the face around it.
    """

    def distance(face: Face) -> float:
        x, y, face_width, face_height = face.box
        offset = np.hypot(x + (face_width - width) / 2, y + (face_height - height) / 2)
        return float(offset / max(np.sqrt(face_width * face_height), 1.0))

    return min(faces, key=distance, default=None)


def embed_images(
    sources: Sequence[Source],
    read: Callable[[Source], NDArray[np.uint8] | None],
    embed_crops: Embed,
    *,
    batch_size: int = 64,
) -> Embedded:
    """Embed N images, which `read` turns into crops, in batches, with a progress bar on a terminal.

    Raises EvaluationError when no image has a face.
    """
    found = np.zeros(len(sources), dtype=bool)
    waiting: list[NDArray[np.uint8]] = []
    parts: list[NDArray[np.float32]] = []
    for position, source in enumerate(tqdm(sources, desc="embedding", unit="image", disable=None)):
        crop = read(source)
        if crop is not None:
            found[position] = True
            waiting.append(crop)
        if len(waiting) == batch_size:
            parts.append(embed_crops(np.stack(waiting)))
            waiting = []
    if waiting:
        parts.append(embed_crops(np.stack(waiting)))
    if not parts:
        raise EvaluationError(f"no face was found in any of {len(sources)} images")
    scored = np.concatenate(parts)
    vectors = np.zeros((len(sources), scored.shape[1]), dtype=np.float32)
    vectors[found] = scored
    return Embedded(vectors, found)


def similarities(embedded: Embedded, pairs: Pairs) -> NDArray[np.float64]:
    """Cosine of each listed pair; see `cosines`."""
    return cosines(embedded, pairs.first, pairs.second)


def cosines(embedded: Embedded, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cosine of images first[p] and second[p], (P,) float64; NaN where either face was not found."""
    scores: NDArray[np.float64] = np.einsum(
        "pd,pd->p", embedded.vectors[first], embedded.vectors[second], dtype=np.float64
    )
    scores[~(embedded.found[first] & embedded.found[second])] = np.nan
    return scores
