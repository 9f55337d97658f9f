"""The text files that IJB-B and IJB-C are published with (as InsightFace packs them)."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.evaluation.embeddings import EvaluationError


@dataclass(frozen=True)
class MediaList:
    """The image files of a set, with the template and the medium of each: all of length N."""

    names: list[str]
    templates: NDArray[np.int64]
    media: NDArray[np.int64]


@dataclass(frozen=True)
class TemplatePairs:
    """Template ids on either side and whether they are of one person: (P,) each."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    same: NDArray[np.bool_]


@dataclass(frozen=True)
class TemplateSubjects:
    """Template ids and their subjects: (T,) int64 each."""

    templates: NDArray[np.int64]
    subjects: NDArray[np.int64]


def read_media(file: Path) -> MediaList:
    """`ijbc_face_tid_mid.txt`: on each line image, template id, media id. Raises EvaluationError."""
    rows = [line.split() for line in _text(file).splitlines()]
    for line, row in enumerate(rows, start=1):
        if len(row) != 3 or not _whole(row[1]) or not _whole(row[2]):
            raise EvaluationError(f"{file}:{line}: expected IMAGE TEMPLATE MEDIUM, found {' '.join(row)!r}")
    if not rows:
        raise EvaluationError(f"{file}: lists no image")
    return MediaList(
        [row[0] for row in rows],
        np.array([int(row[1]) for row in rows], dtype=np.int64),
        np.array([int(row[2]) for row in rows], dtype=np.int64),
    )


def read_template_pairs(file: Path) -> TemplatePairs:
    """`ijbc_template_pair_label.txt`: template id, template id, 1 or 0 (the same person or not)."""
    try:
        table = np.loadtxt(file, dtype=np.int64, ndmin=2)
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{file}: not lines of TEMPLATE TEMPLATE LABEL ({error})") from error
    if table.shape[0] == 0 or table.shape[1] != 3 or not np.isin(table[:, 2], (0, 1)).all():
        raise EvaluationError(f"{file}: not lines of TEMPLATE TEMPLATE LABEL, the label 0 or 1")
    return TemplatePairs(table[:, 0], table[:, 1], table[:, 2] == 1)


def read_template_subjects(file: Path) -> TemplateSubjects:
    """`ijbc_1N_gallery_G1.csv` and the like: columns TEMPLATE_ID and SUBJECT_ID, one row an image."""
    rows = list(csv.reader(_text(file).splitlines()))
    header = [cell.strip().upper() for cell in rows[0]] if rows else []
    if "TEMPLATE_ID" not in header or "SUBJECT_ID" not in header:
        raise EvaluationError(f"{file}:1: the header names no TEMPLATE_ID and SUBJECT_ID")
    template, subject = header.index("TEMPLATE_ID"), header.index("SUBJECT_ID")
    owners: dict[int, int] = {}
    for line, row in enumerate(rows[1:], start=2):
        if len(row) <= max(template, subject) or not _whole(row[template]) or not _whole(row[subject]):
            raise EvaluationError(f"{file}:{line}: expected a template and its subject, found {','.join(row)!r}")
        if owners.setdefault(int(row[template]), int(row[subject])) != int(row[subject]):
            raise EvaluationError(f"{file}:{line}: template {row[template]} belongs to two subjects")
    if not owners:
        raise EvaluationError(f"{file}: lists no template")
    return TemplateSubjects(
        np.array(list(owners.keys()), dtype=np.int64), np.array(list(owners.values()), dtype=np.int64)
    )


def read_landmarks(file: Path) -> dict[str, tuple[NDArray[np.float32], float]]:
    """`ijbc_name_5pts_score.txt`: image, five x y, detection score -> by image (5, 2) float32 and the score."""
    found = {}
    for line, text in enumerate(_text(file).splitlines(), start=1):
        name, *cells = text.split() or [""]
        try:
            numbers = [float(cell) for cell in cells]
        except ValueError:
            numbers = []
        if len(numbers) != 11:
            raise EvaluationError(f"{file}:{line}: expected IMAGE, five x y and a score, found {text[:80]!r}")
        found[name] = (np.array(numbers[:10], np.float32).reshape(5, 2), numbers[10])
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{file}: not a readable text file ({error})") from error


def _whole(text: str) -> bool:
    return text.strip().removeprefix("-").isdecimal()
