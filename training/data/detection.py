"""Labelled photos for the detector, read once into memory from a folder or a tar."""

from __future__ import annotations

import io
import json
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class DetectionDataError(ValueError):
    """Photos or their labels are missing or malformed."""


@dataclass(frozen=True)
class Photo:
    """One photo and what is known about it, all in its pixels.

    image: RGB. boxes: (N, 4) float32 x, y, width, height. landmarks: (N, 5, 2) float32, NaN where
    unknown. ignored: (M, 4) float32 regions that may hold unlabelled faces: neither face nor background.
    """

    name: str
    image: Image.Image
    boxes: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    ignored: NDArray[np.float32]


def read_photos(root: Path, source: str) -> list[Photo]:
    """Photos of `source` sorted by name: `source.json` (one row a face) and the images beside it.

    root: a folder, or a tar of one. A row holds "image" (a path below root), "box", and "landmarks"
    where known. Images without a row are photos without a face. Raises DetectionDataError.
    """
    files = dict(_members(root, source))
    if f"{source}.json" not in files:
        raise DetectionDataError(f"{root}: no {source}.json in it")
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in json.loads(files.pop(f"{source}.json")):
        if not {"image", "box"} <= row.keys():
            raise DetectionDataError(f"{root}: a row of {source}.json lacks 'image' or 'box': {row}")
        rows[row["image"]].append(row)
    if missing := rows.keys() - files.keys():
        raise DetectionDataError(f"{root}: {source}.json names {sorted(missing)[0]}, which is not there")
    return [_photo(name, files[name], rows[name]) for name in sorted(files)]


def _members(root: Path, source: str) -> Iterator[tuple[str, bytes]]:
    """Name (relative to root) and bytes of the source's label file and images."""
    if root.is_dir():
        for path in (root / f"{source}.json", *(root / source).glob("*")):
            if path.is_file():
                yield path.relative_to(root).as_posix(), path.read_bytes()
    elif root.is_file():
        with tarfile.open(root) as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                content = archive.extractfile(member)
                if content and (name == f"{source}.json" or name.startswith(f"{source}/")):
                    yield name, content.read()
    else:
        raise DetectionDataError(f"{root}: no such folder or tar of photos")


def _photo(name: str, encoded: bytes, rows: list[dict[str, Any]]) -> Photo:
    unknown = [[float("nan")] * 2] * 5
    return Photo(
        name=name,
        image=Image.open(io.BytesIO(encoded)).convert("RGB"),
        boxes=np.array([row["box"] for row in rows], np.float32).reshape(-1, 4),
        landmarks=np.array([row.get("landmarks", unknown) for row in rows], np.float32).reshape(-1, 5, 2),
        ignored=np.zeros((0, 4), np.float32),
    )


def read_crops(archive: Path, limit: int, box: NDArray[np.float32]) -> list[Photo]:
    """Every k-th aligned face crop of a tar as a photo of one face, at most `limit` of them.

    All crops were aligned to one template, so one `box` (4,) serves; their landmarks stay unknown,
    since alignment only puts them near the template's. Raises DetectionDataError.
    """
    if not archive.is_file():
        raise DetectionDataError(f"{archive}: no such tar of face crops")
    nothing = np.zeros((0, 4), np.float32)
    unknown = np.full((1, 5, 2), np.nan, np.float32)
    with tarfile.open(archive) as members:
        names = sorted(member.name for member in members if member.isfile())
        chosen = set(names[:: max(1, -(-len(names) // limit))])
    crops = []
    with tarfile.open(archive) as members:
        for member in members:
            content = members.extractfile(member) if member.name in chosen else None
            if content:
                image = Image.open(io.BytesIO(content.read())).convert("RGB")
                crops.append(Photo(member.name, image, box[None], unknown, nothing))
    return crops
