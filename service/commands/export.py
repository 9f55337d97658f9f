"""`facemargin service export`: a collection into a portable file."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click
import httpx
from tqdm import tqdm

from service.commands.options import PATH, UserError, gallery_options, settings_of, told_in_one_line
from service.maintenance.rest import opened
from service.security.audit import Actor, AuditLog, Event
from service.settings import Settings
from service.transfer.direct import open_store
from service.transfer.exporting import export_faces
from service.transfer.remote import fetch_faces, remote_client


@click.command(
    epilog="""\b
Examples:
  facemargin service export staff.ndjson --collection staff --url http://127.0.0.1:8000 --api-key KEY
  facemargin service export - --data-dir ./data | gzip > faces.ndjson.gz
"""
)
@click.argument("output", type=PATH)
@click.option("--collection", default="default", show_default=True, help="What to export.")
@click.option("--url", envvar="FACEMARGIN_URL", help="A running service. [FACEMARGIN_URL]")
@click.option("--api-key", envvar="FACEMARGIN_API_KEY", help="Its key, of role admin. [FACEMARGIN_API_KEY]")
@gallery_options
def export(output: Path, collection: str, url: str | None, api_key: str | None, **options: Any) -> None:
    """Write a collection's embeddings and metadata to OUTPUT (`-`: standard output), consistent at one revision.

    `facemargin import OUTPUT` takes them back, into any service of the same model.
    """
    if (url is None) == (options["data_dir"] is None):
        raise UserError("say what to export from: --url of a running service, or its --data-dir")
    with told_in_one_line(), _written(output) as file, tqdm(unit="B", unit_scale=True, disable=None) as bar:
        for chunk in _chunks(collection, url, api_key, settings_of(options)):
            file.write(chunk)
            bar.update(len(chunk))


def _chunks(collection: str, url: str | None, api_key: str | None, settings: Settings) -> Iterator[bytes]:
    if url is not None:
        with httpx.Client(**remote_client(url, api_key)) as client:
            yield from fetch_faces(client, collection)
        return
    with opened(settings) as engine:
        store = open_store(settings, engine)
        found = store.collection(collection)
        actor = Actor(None, "facemargin service export", uuid.uuid4().hex)
        AuditLog(engine).record(actor, Event("export", found.key, details={"faces": found.faces}), 200)
        yield from export_faces(store, collection)


@contextmanager
def _written(output: Path) -> Iterator[IO[bytes]]:
    """A file that takes its name once it is whole."""
    if str(output) == "-":
        yield sys.stdout.buffer
        return
    part = output.with_name(f".{output.name}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)
