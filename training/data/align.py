"""From a folder of whole photos to a folder of aligned crops, which is what a recogniser learns from."""

from __future__ import annotations

import enum
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from models.alignment import DegenerateLandmarks, align
from models.faces import Face
from training.data.samples import EXTENSIONS, UNLABELLED, DataError
from training.evaluation.embeddings import EvaluationError, FindFaces, central_face, read_photo

_QUALITY = 95  # WebP's; a crop is about 5 kB


class Faces(enum.Enum):
    """Which face of a photo is its person's."""

    SINGLE = "single"
    """The only one; photos with several are skipped."""
    CENTRAL = "central"
    """The one in the middle, as in LFW."""


@dataclass
class Aligned:
    """What became of a folder: crops written, and by reason the photos that were skipped."""

    written: int = 0
    identities: int = 0
    skipped: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def counts(self) -> dict[str, int]:
        """Photos by reason."""
        return {reason: len(photos) for reason, photos in sorted(self.skipped.items())}


def align_folder(photos: Path, output: Path, find: FindFaces, faces: Faces) -> Aligned:
    """Write `output`/IDENTITY/NAME.webp, 112x112, for every photo in `photos`/IDENTITY with its face found.

    Photos that lie in `photos` itself have no known identity and go to `_unlabelled`. A photo whose crop is there
    already is not read again. Reasons to skip: unreadable, no_face, several_faces, same_name (as another photo of
    that identity). Raises DataError for a folder without photos, or when `output` lies within `photos`.
    """
    if output.resolve().is_relative_to(photos.resolve()):
        raise DataError(f"{output}: lies within {photos}, so its crops would be taken for photos; choose another place")
    paths = sorted(path for path in photos.rglob("*") if path.suffix.lower() in EXTENSIONS)
    if not paths:
        raise DataError(f"{photos}: no photos found; expected IDENTITY/NAME{'|'.join(EXTENSIONS)}")
    result = Aligned()
    taken: set[Path] = set()
    for path in tqdm(paths, desc="aligning", unit="photo", disable=None):
        name = path.relative_to(photos)
        crop_path = output / (name if name.parent.name else UNLABELLED / name).with_suffix(".webp")
        if crop_path in taken:
            result.skipped["same_name"].append(str(name))
            continue
        taken.add(crop_path)
        if not crop_path.is_file():
            crop = _crop(path, find, faces)
            if isinstance(crop, str):
                result.skipped[crop].append(str(name))
                continue
            _write(crop, crop_path)
        result.written += 1
    result.identities = len({path.parent for path in output.rglob("*.webp")} - {output / UNLABELLED})
    return result


def _crop(path: Path, find: FindFaces, faces: Faces) -> NDArray[np.uint8] | str:
    """The aligned face of a photo, or the reason why there is none."""
    try:
        photo = read_photo(path)
    except EvaluationError:
        return "unreadable"
    found = find(photo)
    if len(found) > 1 and faces is Faces.SINGLE:
        return "several_faces"
    face: Face | None = central_face(found, width=photo.shape[1], height=photo.shape[0])
    if face is None:
        return "no_face"
    try:
        return align(photo, face.landmarks)
    except DegenerateLandmarks:
        return "no_face"  # five coinciding points are none


def _write(crop: NDArray[np.uint8], path: Path) -> None:
    """Whole or not at all, since a crop that is there is taken for done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    Image.fromarray(crop).save(temporary, "WEBP", quality=_QUALITY)
    temporary.replace(path)
