"""`facemargin models use`: which checkpoint a data folder's service loads."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from models import checkpoint
from service.gallery.database import open_engine
from service.gallery.errors import GalleryUnusable
from service.gallery.store import GalleryStore
from service.settings import SHIPPED, Settings, chosen_model


class _UserError(click.ClickException):
    exit_code = 2


@click.command(
    epilog="""\b
Examples:
  facemargin models use runs/mine/checkpoint.safetensors --data-dir ./data
  facemargin models use shipped-recogniser --data-dir ./data
"""
)
@click.argument("model", metavar="FILE|shipped-recogniser|shipped-detector")
@click.option("--data-dir", type=click.Path(path_type=Path), help="The service's data folder; default: ./data.")
@click.option("--database-url", help="Its database, if not the SQLite file in the data folder.")
def use(model: str, **options: Any) -> None:
    """Make the service of a data folder load this checkpoint from its next start on.

    It is verified and copied to models/ in the data folder; FACEMARGIN_RECOGNISER and FACEMARGIN_DETECTOR still win
    over it. A recogniser is refused while the gallery holds faces of another one, since their embeddings cannot be
    compared: `facemargin service reembed` makes them anew from kept crops.
    """
    try:
        settings = Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise _UserError(f"{first['loc'][0]}: {first['msg']}") from error
    task = model.removeprefix("shipped-")
    path = SHIPPED[task] if model.startswith("shipped-") and task in SHIPPED else Path(model)
    try:
        loaded = checkpoint.read(path)
        slot = {"recognition": "recogniser", "detection": "detector"}[loaded.metadata.task]
        if slot == "recogniser":
            _refuse_foreign_faces(settings, loaded)
        target = chosen_model(settings.data_dir, slot)
        if path == SHIPPED[slot]:
            target.unlink(missing_ok=True)
        else:
            _copy(path, target)
    except (checkpoint.CheckpointError, GalleryUnusable) as error:
        raise _UserError(str(error)) from error
    except OSError as error:
        raise _UserError(f"{error.filename}: {error.strerror}") from error
    click.echo(f"{slot}: {loaded.model_id} from the next start on")


def _refuse_foreign_faces(settings: Settings, loaded: checkpoint.Checkpoint) -> None:
    if settings.database_url is None and not (settings.data_dir / "facemargin.db").exists():
        return  # no gallery yet, and none is to be made here
    engine = open_engine(settings.gallery_url)
    try:
        GalleryStore(engine, loaded.model_id, loaded.metadata.embedding_size or 0).check_model()
    finally:
        engine.dispose()


def _copy(source: Path, target: Path) -> None:
    """Whole or not at all."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file, source.open("rb") as original:
            shutil.copyfileobj(original, file)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
