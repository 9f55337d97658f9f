"""A whole template run, as IJB-B and IJB-C ask: 1:1 by pairs of templates, 1:N by galleries and probes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.alignment import DegenerateLandmarks, align
from training.evaluation import embeddings
from training.evaluation.contenders import Contender, compare, open_contenders
from training.evaluation.embeddings import EvaluationError
from training.evaluation.identification import Search, Vectors, open_set_rates, rank_rates, search
from training.evaluation.peers import Normalisation
from training.evaluation.template_lists import (
    MediaList,
    TemplatePairs,
    TemplateSubjects,
    read_landmarks,
    read_media,
    read_template_pairs,
    read_template_subjects,
)
from training.evaluation.templates import (
    Templates,
    Weighting,
    enrolled,
    pool,
    template_cosines,
    template_verification,
)

Landmarks = dict[str, tuple[NDArray[np.float32], float]]


@dataclass(frozen=True)
class TemplateRun:
    """What a run measured: its JSON document; cosines (P,) and the joint gallery's search by model; same (P,)."""

    document: dict[str, Any]
    cosines: dict[str, NDArray[np.float64]]
    searches: dict[str, Search]
    same: NDArray[np.bool_]


@dataclass(frozen=True)
class TemplateFiles:
    """The files of a set; `galleries` with `probes` for 1:N, `landmarks` for loose crops and scores."""

    media: Path
    pairs: Path | None = None
    galleries: Sequence[Path] = ()
    probes: Path | None = None
    landmarks: Path | None = None


def evaluate_templates(
    images: Path,
    files: TemplateFiles,
    *,
    checkpoint: Path,
    detector: Path | None = None,
    weighting: Weighting = Weighting.NONE,
    peers: Sequence[Path] = (),
    peer_normalisation: Normalisation = Normalisation.IMAGENET,
) -> TemplateRun:
    """Measure a recogniser, and ONNX peers next to it, on templates. Raises one of `contenders.ERRORS`.

    The images are aligned crops, or with `landmarks` loose ones that these align, or with `detector` photos.
    """
    _check(files, detector, weighting, peers)
    media = read_media(files.media)
    landmarks = read_landmarks(files.landmarks) if files.landmarks is not None else {}
    if files.landmarks is not None:
        _require(set(media.names) - landmarks.keys(), files.landmarks)
    pairs = read_template_pairs(files.pairs) if files.pairs is not None else None
    galleries = {path.stem: read_template_subjects(path) for path in files.galleries}
    probes = read_template_subjects(files.probes) if files.probes is not None else None
    contenders = open_contenders(checkpoint, detector, peers, peer_normalisation)
    if files.landmarks is not None:
        reader = read_loose(images, landmarks)
        contenders = [replace(one, read=reader, detector=files.landmarks.name) for one in contenders]
    if weighting.by_norm:
        contenders = [replace(contenders[0], embed=embeddings.unscaled_recogniser(checkpoint))]
    cosines: dict[str, NDArray[np.float64]] = {}
    searches: dict[str, Search] = {}

    def measure(contender: Contender) -> dict[str, Any]:
        templates, failed = _templates(contender, images, media, landmarks if weighting.by_score else None)
        document: dict[str, Any] = {
            "templates": len(templates.ids),
            "images": len(media.names),
            "failed_detections": failed,
            "weighting": weighting.value,
        }
        try:
            if pairs is not None:
                cosines[contender.name] = _compare(templates, pairs)
                document["verification"] = template_verification(cosines[contender.name], pairs.same)
            if probes is not None:
                document["identification"], searches[contender.name] = _identify(templates, galleries, probes)
        except KeyError as error:
            raise EvaluationError(f"{files.media}: template {error} of another list has no image") from error
        return document

    document = compare(contenders, measure)
    return TemplateRun(document, cosines, searches, pairs.same if pairs is not None else np.zeros(0, bool))


def read_loose(images: Path, landmarks: Landmarks) -> embeddings.ReadCrop:
    """A reader that aligns a loose crop by the landmarks known of its path below `images`."""

    def read(path: Path) -> NDArray[np.uint8] | None:
        try:
            return align(embeddings.read_photo(path), landmarks[path.relative_to(images).as_posix()][0])
        except DegenerateLandmarks:
            return None

    return read


def _check(files: TemplateFiles, detector: Path | None, weighting: Weighting, peers: Sequence[Path]) -> None:
    if files.pairs is None and files.probes is None:
        raise EvaluationError("templates are compared by a list of pairs, or of galleries and probes: give one")
    if bool(files.galleries) != (files.probes is not None):
        raise EvaluationError("1:N needs galleries and probes, both")
    if files.landmarks is not None and detector is not None:
        raise EvaluationError("faces are found by given landmarks or by the detector, not by both")
    if weighting.by_score and files.landmarks is None:
        raise EvaluationError(f"weighting {weighting.value} needs the scores in the file of landmarks")
    if weighting.by_norm and peers:
        raise EvaluationError(f"weighting {weighting.value} needs raw embeddings, which peers do not give")


def _require(missing: set[str], file: Path) -> None:
    if missing:
        raise EvaluationError(f"{file}: has no landmarks of {len(missing)} images, such as {min(missing)}")


def _templates(contender: Contender, images: Path, media: MediaList, scores: Landmarks | None) -> tuple[Templates, int]:
    """All templates, and how many images had no face."""
    embedded = contender.embedded([images / name for name in media.names])
    weights = None if scores is None else np.array([scores[name][1] for name in media.names], np.float32)
    templates = pool(embedded.vectors, embedded.found, media.templates, media.media, weights)
    return templates, int((~embedded.found).sum())


def _compare(templates: Templates, pairs: TemplatePairs) -> NDArray[np.float64]:
    return template_cosines(templates, templates.positions(pairs.first), templates.positions(pairs.second))


def _identify(
    templates: Templates, galleries: dict[str, TemplateSubjects], probes: TemplateSubjects
) -> tuple[dict[str, Any], Search]:
    """Closed set: the galleries as one. Open set: each alone, where the others' subjects are strangers."""
    searched = enrolled(templates, probes.templates, probes.subjects)
    parts = {name: enrolled(templates, part.templates, part.subjects) for name, part in galleries.items()}
    joint = Vectors(*(np.concatenate(values) for values in zip(*map(_fields, parts.values()), strict=True)))
    closed = search(searched, joint)
    if not closed.mated.any():
        raise EvaluationError("no probe's subject is in a gallery, so nothing can be recognised")
    document: dict[str, Any] = {
        "rank": rank_rates(closed.rank, closed.mated),
        "mated_probes": int(closed.mated.sum()),
        "probes": len(searched),
        "open": {},
    }
    for name, gallery in parts.items():
        found = search(searched, gallery)
        if found.mated.any() and not found.mated.all():
            document["open"][name] = open_set_rates(found)
    if document["open"]:
        points = next(iter(document["open"].values()))
        document["tpir_at_fpir"] = {
            point: float(np.mean([rates[point]["tpir"] for rates in document["open"].values()])) for point in points
        }
    return document, closed


def _fields(part: Vectors) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    return part.vectors, part.subjects, part.found
