"""The service's sub-commands: `serve`, and what it does for photos of this machine without a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from service.api.photos import detected
from service.doctor import examine
from service.folder_gallery import FolderGallery, enrol_folder
from service.gallery.errors import ThresholdUnknown
from service.gallery.matcher import Matcher, Threshold, similarity
from service.printing import document, face_lines, identity, policy, promise
from service.recognition.analyser import AnalysedFace, AnalysedPhoto, Analyser
from service.recognition.errors import ImageError
from service.serve import serve
from service.settings import Settings
from service.startup import OPERATOR_ERRORS, open_analyser

__all__ = ["detect", "doctor", "embed", "identify", "serve", "verify"]

_PHOTO = click.Path(path_type=Path)


class UserError(click.ClickException):
    """What the caller can put right: one line, exit code 2."""

    exit_code = 2


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that every command takes; each is also FACEMARGIN_NAME, as for `serve`."""
    for name, kind, text in (
        ("threads", click.IntRange(1), "Threads for inference; by default as many as cores."),
        ("data-dir", _PHOTO, "Folder whose cache/ keeps the compiled networks."),
        ("detector", _PHOTO, "Checkpoint that finds faces; the shipped one by default."),
        ("recogniser", _PHOTO, "Checkpoint that embeds faces; the shipped one by default."),
    ):
        command = click.option(f"--{name}", type=kind, help=text)(command)
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


@click.command(
    epilog="""\b
Examples:
  facemargin detect portrait.jpg
  facemargin detect --json group.jpg holiday.heic
"""
)
@click.argument("photos", nargs=-1, required=True, type=_PHOTO)
@_options
def detect(photos: tuple[Path, ...], as_json: bool, **options: Any) -> None:
    """Find the faces of photos: boxes, landmarks, quality."""
    settings = _settings(options)
    with _analyser(settings) as analyser:
        seen = _look(analyser.detect, photos, settings.max_faces)
        documents = [document(path, photo) for path, photo in zip(photos, seen, strict=True)]
        _print(as_json, {"photos": documents, "detector": analyser.detector_id}, face_lines(photos, seen))


@click.command(
    epilog="""\b
Examples:
  facemargin embed --json portrait.jpg > portrait.json
  facemargin embed one.jpg two.jpg
"""
)
@click.argument("photos", nargs=-1, required=True, type=_PHOTO)
@_options
def embed(photos: tuple[Path, ...], as_json: bool, **options: Any) -> None:
    """Turn the faces of photos into embeddings of unit length (--json prints the numbers)."""
    settings = _settings(options)
    with _analyser(settings) as analyser:
        seen = _look(analyser.analyse, photos, settings.max_faces)
        documents = [document(path, photo) for path, photo in zip(photos, seen, strict=True)]
        answer = {"photos": documents, "model": analyser.model_id, "embedding_size": analyser.embedding_size}
        _print(as_json, answer, face_lines(photos, seen))


@click.command(
    epilog="""\b
Examples:
  facemargin verify passport.jpg webcam.jpg
  facemargin verify --far 1e-3 --json passport.jpg group.jpg
"""
)
@click.argument("source", type=_PHOTO)
@click.argument("target", type=_PHOTO)
@click.option("--far", type=click.FloatRange(0, 1, True, True), help="False match rate; default 1e-4.")
@click.option("--threshold", type=click.FloatRange(-1, 1), help="A cosine of your own in place of --far.")
@_options
def verify(
    source: Path, target: Path, far: float | None, threshold: float | None, as_json: bool, **options: Any
) -> None:
    """Is the best face of SOURCE among the faces of TARGET?"""
    settings = _settings(options)
    with _analyser(settings) as analyser:
        first, second = _look(analyser.analyse, (source, target), settings.max_faces)
        face, reference = _embedded(source, first)[0]
        others = _embedded(target, second)
        cosines = [similarity(reference, embedding) for _, embedding in others]
        matcher = Matcher(analyser.calibration, settings.default_far, settings.default_fpir)
        limit = _threshold(lambda: matcher.verification(far, threshold))
        best = max(cosines)
        answer = {
            "match": best >= limit.similarity,
            "similarity": best,
            "probability": matcher.probability(best),
            **policy(limit),
            "source_face": detected(0, face).model_dump(exclude={"image"}),
            "faces": [
                {
                    **detected(0, other).model_dump(exclude={"image"}),
                    "similarity": cosine,
                    "match": cosine >= limit.similarity,
                }
                for cosine, (other, _) in sorted(zip(cosines, others, strict=True), key=lambda pair: -pair[0])
            ],
            "model": analyser.model_id,
        }
    word = "match" if answer["match"] else "no match"
    _print(as_json, answer, [f"{word}: similarity {best:.3f}, {promise(limit)}"])


@click.command(
    epilog="""\b
Examples:
  facemargin identify party.jpg --gallery people/      (people/ada/1.jpg, people/grace/1.jpg ...)
  facemargin identify party.jpg --gallery people/ --far 0.001 --top-k 1 --json
"""
)
@click.argument("photo", type=_PHOTO)
@click.option("--gallery", required=True, type=_PHOTO, help="Folder of SUBJECT/PHOTO; enrolled in memory.")
@click.option("--top-k", type=click.IntRange(1), default=5, show_default=True, help="Candidates per face.")
@click.option(
    "--far", type=click.FloatRange(0, 1, True, True), help="False positive identification rate; default 0.01."
)
@click.option("--threshold", type=click.FloatRange(-1, 1), help="A cosine of your own in place of --far.")
@_options
def identify(
    photo: Path,
    gallery: Path,
    top_k: int,
    far: float | None,
    threshold: float | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Who of a folder of people is in PHOTO?"""
    settings = _settings(options)
    with _analyser(settings) as analyser:
        enrolled = _enrol(analyser, gallery)
        (seen,) = _look(analyser.analyse, (photo,), settings.max_faces)
        matcher = Matcher(analyser.calibration, settings.default_far, settings.default_fpir)
        limit = _threshold(lambda: matcher.identification(len(enrolled.names), far, threshold))
        faces = [_identified(face, enrolled, matcher, limit, top_k) for face in seen.faces]
        skipped = [{"photo": str(path), "reason": reason} for path, reason in enrolled.skipped]
        answer = {"faces": faces, "subjects": len(enrolled.names), "skipped": skipped}
        answer |= {**policy(limit), "model": analyser.model_id}
    _print(as_json, answer, [identity(face) for face in faces] or [f"{photo}: no face"])


@click.command(
    epilog="""\b
Examples:
  facemargin doctor
  facemargin doctor --json --data-dir /var/lib/facemargin
"""
)
@click.option("--host", help="Address the service would listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port the service would listen on.")
@_options
def doctor(as_json: bool, **options: Any) -> None:
    """Check this machine and installation; exits 1 when something must be put right.

    Also fills the data folder's cache with the compiled networks, after which torch is not needed.
    """
    findings = examine(_settings(options))
    lines = [finding.line for finding in findings]
    _print(as_json, {"healthy": all(f.ok for f in findings), "checks": [f.document for f in findings]}, lines)
    if not all(finding.ok for finding in findings):
        raise SystemExit(1)


def _settings(options: dict[str, Any]) -> Settings:
    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"FACEMARGIN_{str(first['loc'][0]).upper()}: {first['msg']}") from error


@contextmanager
def _analyser(settings: Settings) -> Iterator[Analyser]:
    try:
        analyser = open_analyser(settings)
    except OPERATOR_ERRORS as error:
        raise UserError(str(error)) from error
    try:
        yield analyser
    finally:
        analyser.close()


def _look(by: Callable[[bytes, int], Any], photos: Sequence[Path], max_faces: int) -> list[AnalysedPhoto]:
    """Every photo through `Analyser.detect` or `analyse`; the first that fails is named."""

    async def one(path: Path) -> AnalysedPhoto:
        try:
            seen: AnalysedPhoto = await by(path.read_bytes(), max_faces)
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from error
        except ImageError as error:
            raise UserError(f"{path}: {error}") from error
        return seen

    async def all_of_them() -> list[AnalysedPhoto]:
        return [await one(path) for path in photos]

    return asyncio.run(all_of_them())


def _enrol(analyser: Analyser, folder: Path) -> FolderGallery:
    try:
        enrolled = asyncio.run(enrol_folder(analyser, folder))
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}") from error
    for path, reason in enrolled.skipped:
        click.echo(f"not enrolled: {path}: {reason}", err=True)
    if not enrolled.names:
        raise UserError(f"{folder}: nobody could be enrolled; it should hold SUBJECT/PHOTO.jpg")
    return enrolled


def _identified(
    face: AnalysedFace, enrolled: FolderGallery, matcher: Matcher, limit: Threshold, top_k: int
) -> dict[str, Any]:
    """A face with the subjects at or above the threshold, best first."""
    ranked = [] if face.embedding is None else enrolled.search(face.embedding, top_k)
    candidates = [
        {"subject_id": subject, "similarity": cosine, "probability": matcher.probability(cosine)}
        for subject, cosine in ranked
        if cosine >= limit.similarity
    ]
    decision = "known" if candidates else "unknown"
    return {**detected(0, face).model_dump(exclude={"image"}), "decision": decision, "candidates": candidates}


def _threshold(choose: Callable[[], Threshold]) -> Threshold:
    try:
        return choose()
    except ThresholdUnknown as error:
        raise UserError(str(error)) from error


def _embedded(path: Path, photo: AnalysedPhoto) -> list[tuple[AnalysedFace, NDArray[np.float32]]]:
    faces = [(face, face.embedding) for face in photo.faces if face.embedding is not None]
    if not faces:
        raise UserError(f"{path}: no face was found")
    return faces


def _print(as_json: bool, answer: dict[str, Any], lines: Iterable[str]) -> None:
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    for line in lines:
        click.echo(line)
