"""`facemargin service`: looking after a gallery."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import sqlalchemy as sa
from tqdm import tqdm

from models.embedding import embed
from service.commands.export import export
from service.commands.options import PATH, UserError, gallery_options, settings_of, told_in_one_line
from service.maintenance.backup import TargetExists, back_up
from service.maintenance.fsck import Finding, examine
from service.maintenance.index_check import snapshot_findings
from service.maintenance.reembedding import CannotReembed, reembed
from service.maintenance.rest import at_rest, drop_snapshots, opened, require_gallery
from service.maintenance.restore import BadBackup
from service.maintenance.restore import restore as restore_backup
from service.maintenance.rotation import NoKey, rotate
from service.recognition.batching import in_buckets
from service.recognition.engines import EngineOptions, OpenVinoEngine
from service.security.audit import Actor, AuditLog, Event
from service.security.sealing import Sealer, add_key
from service.transfer.direct import open_store, recogniser_of


@click.group()
def service() -> None:
    """Look after a gallery: check, export, back up, restore, seal anew, embed anew."""


service.add_command(export)


@service.command(epilog="Example: facemargin service fsck --data-dir ./data --json")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@gallery_options
def fsck(as_json: bool, **options: Any) -> None:
    """Check that the gallery is whole; exits 1 when it is not. Changes nothing, and may run beside the server."""
    settings = settings_of(options)
    with _told(), opened(settings) as engine:
        store = open_store(settings, engine)
        sealer = Sealer.from_settings(settings)

        def snapshots(checked: dict[str, int]) -> Iterator[Finding]:
            return snapshot_findings(settings, store, sealer, checked)

        examined = examine(engine, sealer, store.model_id, store.embedding_size, snapshots)
    document = examined.document()
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        looked = ", ".join(f"{count} {what}" for what, count in examined.checked.items())
        click.echo(f"{'intact' if document['intact'] else 'NOT intact'}: {looked}")
        for finding in examined.findings:
            click.echo(f"  {finding.check}: {finding.detail}; {finding.remedy}")
    if not document["intact"]:
        raise SystemExit(1)


@service.command(epilog="Example: facemargin service backup /backups/monday.fmbackup --data-dir ./data")
@click.argument("file", type=PATH)
@gallery_options
def backup(file: Path, **options: Any) -> None:
    """Copy the gallery into one FILE, consistent, while it is served. The encryption key is not in it."""
    with _told(), opened(settings_of(options)) as engine:
        manifest = back_up(engine, file)
        _note(engine, "backup", manifest.faces)
    click.echo(
        f"{file}: {manifest.faces} faces of {manifest.subjects} subjects at revision {manifest.gallery_revision}, "
        f"sha256 of the database {manifest.sha256}"
    )
    if manifest.sealed_with:
        click.echo(f"it needs the encryption key {', '.join(manifest.sealed_with)}: keep that elsewhere", err=True)


@service.command(epilog="Example: facemargin service restore /backups/monday.fmbackup --data-dir ./restored")
@click.argument("file", type=PATH)
@gallery_options
def restore(file: Path, **options: Any) -> None:
    """Put a backup into an empty data folder, or an empty database, once it has proved whole."""
    settings = settings_of(options)
    with _told():
        manifest = restore_backup(
            file, settings, settings.index_dir, lambda engine, whole: _note(engine, "restore", whole.faces)
        )
    models = ", ".join(manifest.models) or "no model yet"
    click.echo(f"{manifest.faces} faces of {manifest.subjects} subjects restored; embeddings of {models}")


@service.command("reembed", epilog="Example: facemargin service reembed --recogniser new.safetensors --data-dir ./data")
@click.option("--threads", type=click.IntRange(1), help="Threads for inference; by default as many as cores.")
@gallery_options
def reembed_(**options: Any) -> None:
    """Embed every face anew, from its kept crop, with the configured --recogniser.

    The server must be stopped. Killed, it goes on where it stopped; the old embeddings serve until all new ones are
    there.
    """
    settings = settings_of(options)
    with _told():
        require_gallery(settings)
        loaded = recogniser_of(settings)
        with at_rest(settings) as engine, _bar("face") as progressed:
            options_ = EngineOptions(settings.threads or os.cpu_count() or 1, precision=settings.precision)
            network = OpenVinoEngine.open(loaded, settings.cache_dir, options_)
            forward = in_buckets(network)
            staging = settings.data_dir / "reembed.db"
            count = reembed(
                engine,
                Sealer.from_settings(settings),
                loaded.model_id,
                lambda crops: embed(crops, forward, loaded.metadata.flip_average),
                staging,
                progressed,
            )
            drop_snapshots(settings.index_dir)
            _note(engine, "reembed", count)
    click.echo(f"{count} faces embedded anew; the gallery is of {loaded.model_id}")


@service.command(
    "rotate-key", epilog="Example: facemargin service rotate-key --encryption-key-file keys --data-dir ./data"
)
@gallery_options
def rotate_key(**options: Any) -> None:
    """Seal every face with the newest encryption key; the older ones may be removed afterwards.

    The server must be stopped. Killed, it is simply run again.
    """
    settings = settings_of(options)
    with _told():
        require_gallery(settings)
        sealer = Sealer.from_settings(settings)
        with at_rest(settings) as engine, _bar("face") as progressed:
            # Snapshots are sealed with the old key, if at all; they are made again from the database.
            drop_snapshots(settings.index_dir)
            count = rotate(engine, sealer, progressed)
            _note(engine, "rotate_key", count)
    click.echo(f"{count} faces sealed anew; everything is sealed with key {sealer.current}")


@service.command("new-key", epilog="Example: facemargin service new-key keys")
@click.argument("file", type=PATH)
def new_key(file: Path) -> None:
    """Put a new encryption key first into FILE, which is made if it is missing. Prints the key's id, not the key.

    Older keys stay in it until `rotate-key` has run. Whoever loses the file loses the gallery.
    """
    with _told():
        key_id = add_key(file)
    click.echo(f"{file}: key {key_id} is now the newest")


def _note(engine: sa.Engine, action: str, faces: int) -> None:
    """What the operator does stands in the audit log too."""
    AuditLog(engine).record(
        Actor(None, "facemargin service", uuid.uuid4().hex), Event(action, details={"faces": faces}), 200
    )


@contextmanager
def _told() -> Iterator[None]:
    try:
        with told_in_one_line():
            yield
    except (TargetExists, BadBackup, CannotReembed, NoKey) as error:
        raise UserError(str(error)) from error


@contextmanager
def _bar(unit: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar, told how many are done of how many."""
    with tqdm(unit=unit, disable=None) as bar:

        def progressed(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progressed
