"""What the commands on a gallery share: where it is, and how a user's error is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from service.gallery.errors import GalleryError
from service.settings import Settings
from service.startup import OPERATOR_ERRORS
from service.transfer.errors import TransferError

PATH = click.Path(path_type=Path)


class UserError(click.ClickException):
    """What the caller can put right: one line, exit code 2."""

    exit_code = 2


def gallery_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where a gallery is, and with what it is opened; each is also FACEMARGIN_NAME, as for `serve`."""
    for name, kind, text in (
        ("encryption-key-file", PATH, "File of the keys that seal embeddings and crops, newest first."),
        ("recogniser", PATH, "Checkpoint that embeds faces; the shipped one by default."),
        ("cache-dir", PATH, "Folder of the compiled networks; by default `cache` in the data folder."),
        ("database-url", str, "SQLAlchemy URL of the gallery; by default SQLite in the data folder."),
        ("data-dir", PATH, "The service's data folder; ./data by default."),
    ):
        command = click.option(f"--{name}", type=kind, help=text)(command)
    return command


def settings_of(options: dict[str, Any]) -> Settings:
    """The options given over the environment. Raises UserError."""
    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{name and f'FACEMARGIN_{name.upper()}: '}{first['msg']}") from error


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """Turn what the caller or the operator can put right into a UserError."""
    try:
        yield
    except (*OPERATOR_ERRORS, GalleryError, TransferError) as error:
        raise UserError(str(error)) from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise UserError(f"{where}{error.strerror or error}") from error
