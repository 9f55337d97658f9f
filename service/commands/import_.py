"""`facemargin import`: people into a collection, from photos or from embeddings."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import httpx
import sqlalchemy as sa
from tqdm import tqdm

from service.commands.options import PATH, UserError, gallery_options, settings_of, told_in_one_line
from service.gallery.bulk import BulkInserted
from service.gallery.enrolment import FacePolicy
from service.gallery.records import Enrolled, Then
from service.security.audit import Actor, Event, append
from service.settings import Settings
from service.startup import Services
from service.transfer.archives import PhotoArchive
from service.transfer.compreface import CompreFaceDatabase
from service.transfer.direct import services_at_rest
from service.transfer.enrolling import Enrol, GalleryEnrolment, import_photos
from service.transfer.foreign import portable_lines
from service.transfer.importing import FaceImport
from service.transfer.photos import PhotoFolder, PhotoSource
from service.transfer.remote import RemoteEnrolment, remote_client, send_faces
from service.transfer.reports import PhotoReport

_CHUNK: Final = 2**20
_ALL: Final = 10**9


@dataclass(frozen=True)
class Target:
    """Where to import to: a running service by its URL, or a data folder that nobody serves."""

    collection: str
    url: str | None
    api_key: str | None
    settings: Settings
    policy: FacePolicy
    parallel: int


@click.command(
    "import",
    epilog="""\b
Examples:
  facemargin import people/ --url http://127.0.0.1:8000 --api-key KEY      (people/ada/1.jpg ...)
  facemargin import people.zip --collection staff --data-dir ./data --report rejected.json
  facemargin import faces.ndjson --data-dir ./data
  facemargin import postgresql://reader:secret@db/frs --from compreface --data-dir ./data
  facemargin import faces.npz --from insightface --url http://127.0.0.1:8000
""",
)
@click.argument("source")
@click.option("--collection", default="default", show_default=True, help="Where the people go.")
@click.option("--url", envvar="FACEMARGIN_URL", help="A running service. [FACEMARGIN_URL]")
@click.option("--api-key", envvar="FACEMARGIN_API_KEY", help="Its key, of role enrol. [FACEMARGIN_API_KEY]")
@click.option(
    "--from",
    "origin",
    type=click.Choice(["compreface", "deepface", "insightface"]),
    help="Another system: CompreFace's database, or a file of embeddings that names their model.",
)
@click.option("--service", help="Which of CompreFace's recognition services.")
@click.option(
    "--face-policy",
    type=click.Choice([policy.value for policy in FacePolicy]),
    default=FacePolicy.SINGLE.value,
    show_default=True,
    help="What to take of a photo.",
)
@click.option("--parallel", type=click.IntRange(1, 64), default=4, show_default=True, help="Photos at once.")
@click.option("--report", type=PATH, help="File for the report, with every rejected photo, as JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@gallery_options
def import_(
    source: str,
    collection: str,
    url: str | None,
    api_key: str | None,
    origin: str | None,
    service: str | None,
    face_policy: str,
    parallel: int,
    report: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Import people: a folder or zip of SUBJECT/PHOTO, a portable file (NDJSON), or another system's data.

    Repeated, it goes on where it stopped: photos and faces that are there already are passed over.
    """
    if (url is None) == (options["data_dir"] is None):
        raise UserError("say where to import to: --url of a running service, or --data-dir of one that is stopped")
    target = Target(collection, url, api_key, settings_of(options), FacePolicy(face_policy), parallel)
    with told_in_one_line():
        document = _imported(source, origin, service, target)
    if report is not None:
        with told_in_one_line():
            report.write_text(json.dumps(document, indent=2) + "\n")
    click.echo(json.dumps(document, indent=2) if as_json else _summary(document))


def _imported(source: str, origin: str | None, service: str | None, target: Target) -> dict[str, Any]:
    if origin == "compreface":
        with closing(CompreFaceDatabase(source, service, target.settings.max_image_bytes)) as database:
            return _photos(database, target)
    path = Path(source)
    if origin in ("deepface", "insightface"):
        return _faces(portable_lines(path, origin), None, target)  # type: ignore[arg-type]
    if path.is_dir():
        return _photos(PhotoFolder(path, target.settings.max_image_bytes), target)
    with path.open("rb") as file:
        if file.read(2) == b"PK":
            file.seek(0)
            return _photos(PhotoArchive(file, target.settings.max_image_bytes), target)
        file.seek(0)
        return _faces(iter(lambda: file.read(_CHUNK), b""), path.stat().st_size, target)


def _photos(source: PhotoSource, target: Target) -> dict[str, Any]:
    report = PhotoReport(most=_ALL)
    # disable=None: no bar where nobody watches.
    with tqdm(total=len(source), unit="photo", disable=None) as bar:

        def progressed(seen: PhotoReport) -> None:
            bar.set_postfix(rejected=seen.rejected, refresh=False)
            bar.update()

        if target.url is not None:
            asyncio.run(_through_service(source, target, report, progressed))
        else:
            with services_at_rest(target.settings) as services:
                services.gallery.store.collection(target.collection)
                enrol = GalleryEnrolment(
                    services.analyser,
                    services.gallery,
                    target.collection,
                    target.policy,
                    target.settings.max_faces,
                    _audited("enrol"),
                )
                asyncio.run(import_photos(source, enrol, report, progressed, target.parallel))
    return report.document()


async def _through_service(
    source: PhotoSource, target: Target, report: PhotoReport, progressed: Callable[[PhotoReport], None]
) -> None:
    async with httpx.AsyncClient(**remote_client(target.url or "", target.api_key)) as client:
        enrol: Enrol = RemoteEnrolment(client, target.collection, target.policy)
        await import_photos(source, enrol, report, progressed, target.parallel)


def _faces(chunks: Iterable[bytes], size: int | None, target: Target) -> dict[str, Any]:
    with tqdm(total=size, unit="B", unit_scale=True, disable=None) as bar:
        if target.url is not None:
            with httpx.Client(**remote_client(target.url, target.api_key)) as client:
                return send_faces(client, target.collection, _watched(chunks, bar))
        with services_at_rest(target.settings) as services:
            return _straight(services, target.collection, _watched(chunks, bar))


def _straight(services: Services, collection: str, chunks: Iterable[bytes]) -> dict[str, Any]:
    services.gallery.store.collection(collection)
    importing = FaceImport(services.gallery, collection, _audited("import"))
    for chunk in chunks:
        importing.feed(chunk)
    return importing.finish().document()


def _watched(chunks: Iterable[bytes], bar: Any) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk
        bar.update(len(chunk))


def _audited(action: str) -> Then[BulkInserted | Enrolled]:
    """Direct imports stand in the audit log too."""
    actor = Actor(None, "facemargin import", uuid.uuid4().hex)

    def ride(connection: sa.Connection, result: BulkInserted | Enrolled) -> None:
        subject_key = result.subject_key if isinstance(result, Enrolled) else None
        append(connection, actor, Event(action, result.collection_key, subject_key, {"faces": len(result.keys)}), 200)

    return ride


def _summary(document: dict[str, Any]) -> str:
    if "photos" in document:
        line = (
            f"{document['enrolled']} photos enrolled ({document['faces']} faces), "
            f"{document['skipped']} were there already, {document['rejected']} rejected"
        )
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(document["reasons"].items()))
        return f"{line}: {reasons}" if reasons else line
    line = (
        f"{document['imported']} faces imported, {document['skipped']} were there already, "
        f"{document['rejected']} rejected"
    )
    first = [f"  line {error['line']}: {error['reason']}" for error in document["errors"][:10]]
    cut = [] if document["complete"] else ["  the file is cut short: fewer faces came than its header announced"]
    return "\n".join([line, *first, *cut])
