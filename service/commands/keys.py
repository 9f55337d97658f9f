"""`facemargin keys`: API keys by who has the database, whether the service runs or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import sqlalchemy as sa
from pydantic import ValidationError

from service.commands.options import PATH, UserError, settings_of, told_in_one_line
from service.gallery.database import open_engine
from service.schemas.security import KeyBody
from service.security.audit import Actor, Event, append
from service.security.keys import ApiKey, IssuedKey, KeyNotFound, KeyStore, LastAdminKey, extent
from service.security.roles import Role

_ACTOR = Actor(None, "command line", "")


@click.group()
def keys() -> None:
    """Make, list and revoke API keys."""


def _where(command: Any) -> Any:
    command = click.option("--database-url", help="SQLAlchemy URL of the gallery; by default that of --data-dir.")(
        command
    )
    return click.option("--data-dir", type=PATH, help="The service's data folder; ./data by default.")(command)


@keys.command(
    epilog="Example: facemargin keys create 'door camera' --role read --collection staff --expires 2031-01-01"
)
@click.argument("name")
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True, help="What it may do.")
@click.option("--collection", "collections", multiple=True, help="The only collections it is for; repeatable.")
@click.option("--expires", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]), help="When it ends, in UTC.")
@_where
def create(name: str, role: str, collections: tuple[str, ...], expires: datetime | None, **where: Any) -> None:
    """Make a key and print it: the only time it is shown."""
    wanted = _read(name, role, collections, expires)

    def audited(connection: sa.Connection, issued: IssuedKey) -> None:
        append(connection, _ACTOR, Event("key.create", details=extent(issued.key)), 201)

    with _opened(where) as store:
        issued = store.create(wanted.name, Role(wanted.role), wanted.collections, wanted.expires_at, then=audited)
    click.echo(issued.secret)


@keys.command(name="list", epilog="Example: facemargin keys list --data-dir ./data")
@_where
def list_keys(**where: Any) -> None:
    """One line a key: id, role, prefix, name, collections, expiry, last use."""
    with _opened(where) as store:
        for record in store.all():
            key = record.key
            scope = "all collections" if key.collections is None else ", ".join(sorted(key.collections))
            ends = "never expires" if key.expires_at is None else f"until {key.expires_at:%Y-%m-%d %H:%M}"
            used = "never used" if record.last_used_at is None else f"used {record.last_used_at:%Y-%m-%d %H:%M}"
            click.echo(f"{key.id}  {key.role:5}  {key.prefix or '-':7}  {key.name}  ({scope}; {ends}; {used})")


@keys.command(epilog="Example: facemargin keys revoke 3f0c9c1e-7d1b-4a53-9d0c-1f2b6f6d1a11")
@click.argument("key_id")
@_where
def revoke(key_id: str, **where: Any) -> None:
    """Revoke a key by its id: its next use is refused."""

    def audited(connection: sa.Connection, revoked: ApiKey) -> None:
        append(connection, _ACTOR, Event("key.revoke", details=extent(revoked)), 200)

    try:
        with _opened(where) as store:
            store.revoke(key_id, then=audited)
    except (KeyNotFound, LastAdminKey) as error:
        raise UserError(str(error)) from error


def _read(name: str, role: str, collections: tuple[str, ...], expires: datetime | None) -> KeyBody:
    """What to make, by the same rules as over HTTP. Raises UserError."""
    ends = None if expires is None else expires.replace(tzinfo=UTC)
    if ends is not None and ends <= datetime.now(UTC):
        raise UserError("--expires: lies in the past")
    try:
        return KeyBody.model_validate(
            {"name": name, "role": role, "collections": list(collections) or None, "expires_at": ends}
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{first['loc'][0]}: {str(first['input'])!r}: {first['msg']}") from error


@contextmanager
def _opened(where: dict[str, Path | str | None]) -> Iterator[KeyStore]:
    settings = settings_of(where)
    if settings.database_url is None and not (settings.data_dir / "facemargin.db").exists():
        raise UserError(f"{settings.data_dir}: holds no gallery; name its folder with --data-dir")
    with told_in_one_line():
        engine = open_engine(settings.gallery_url)
        try:
            yield KeyStore(engine)
        finally:
            engine.dispose()
