"""Galleries and probes: CSV lists, folders of distractors, TinyFace's testing set."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.evaluation.embeddings import EvaluationError
from training.evaluation.mat_files import read_mat
from training.evaluation.pairs import SUFFIXES

COLUMNS = ["image", "subject"]


@dataclass(frozen=True)
class Listed:
    """Images and whose they are, both of length N."""

    files: list[Path]
    subjects: list[str]


@dataclass(frozen=True)
class IdentificationLists:
    """Who is enrolled, who is searched, and images of strangers that are enrolled besides."""

    gallery: Listed
    probes: Listed
    distractors: list[Path]

    def numbered(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Subject numbers of gallery, probes and distractors; each distractor is somebody of its own."""
        names = sorted({*self.gallery.subjects, *self.probes.subjects})
        number = {name: position for position, name in enumerate(names)}
        gallery, probes = (
            np.array([number[name] for name in listed.subjects], dtype=np.int64)
            for listed in (self.gallery, self.probes)
        )
        return gallery, probes, len(names) + np.arange(len(self.distractors), dtype=np.int64)


def read_lists(images: Path, gallery: Path, probes: Path, distractors: Path | None = None) -> IdentificationLists:
    """Two CSV files with the header image,subject, their images below `images`, and a folder of strangers.

    Raises EvaluationError for a malformed list, missing images, or an image that is enrolled and searched.
    """
    enrolled, searched = read_list(images, gallery), read_list(images, probes)
    both = sorted(set(enrolled.files) & set(searched.files))
    if both:
        raise EvaluationError(f"{probes}: {len(both)} images are enrolled too, such as {both[0].relative_to(images)}")
    return IdentificationLists(enrolled, searched, image_files(distractors) if distractors is not None else [])


def read_list(images: Path, file: Path) -> Listed:
    """A CSV with the header image,subject; images are paths below `images`. Raises EvaluationError."""
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.reader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EvaluationError(f"{file}: not a readable CSV ({error})") from error
    if not rows or [cell.strip() for cell in rows[0]] != COLUMNS:
        raise EvaluationError(f"{file}:1: the header must be {','.join(COLUMNS)}")
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != 2 or not row[0].strip() or not row[1].strip():
            raise EvaluationError(f"{file}:{line}: expected an image and its subject, found {','.join(row)!r}")
    if len(rows) < 2:
        raise EvaluationError(f"{file}: lists no image")
    listed = Listed([images / row[0].strip() for row in rows[1:]], [row[1].strip() for row in rows[1:]])
    _require(file, listed.files)
    return listed


def image_files(folder: Path) -> list[Path]:
    """All images below a folder, by path. Raises EvaluationError when there is none."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise EvaluationError(f"{folder}: holds no image ({', '.join(SUFFIXES)})")
    return files


def read_tinyface(folder: Path) -> IdentificationLists:
    """TinyFace's Testing_Set (Cheng, Zhu, Gong, ACCV 2018).

    Folders Gallery_Match, Gallery_Distractor and Probe, with the .mat files that name the images' owners.
    Raises EvaluationError.
    """
    gallery = _read_mat(folder, "gallery_match_img_ID_pairs.mat", "gallery", folder / "Gallery_Match")
    probes = _read_mat(folder, "probe_img_ID_pairs.mat", "probe", folder / "Probe")
    return IdentificationLists(gallery, probes, image_files(folder / "Gallery_Distractor"))


def _read_mat(folder: Path, name: str, kind: str, images: Path) -> Listed:
    file = folder / name
    contents = read_mat(file)
    try:
        names = [str(np.asarray(cell).item()) for cell in np.asarray(contents[f"{kind}_set"]).ravel()]
        owners = [str(int(owner)) for owner in np.asarray(contents[f"{kind}_ids"]).ravel()]
        listed = Listed([images / image for image in names], owners)
    except (KeyError, ValueError, TypeError) as error:
        raise EvaluationError(f"{file}: not a list of TinyFace's images and their owners ({error!r})") from error
    if not names or len(names) != len(owners):
        raise EvaluationError(f"{file}: names {len(names)} images and {len(owners)} owners")
    _require(file, listed.files)
    return listed


def _require(file: Path, images: Sequence[Path]) -> None:
    missing = [image for image in images if not image.is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise EvaluationError(f"{file}: no such image: {missing[0]}{more}")
