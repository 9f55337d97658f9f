"""All rows of a gallery's database into another, whatever the two databases are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa

from service.gallery import tables

_ROWS: Final = 500


def portable_tables() -> list[sa.Table]:
    """The tables, parents first, with columns that keep the difference between NULL and JSON's null."""
    copied = sa.MetaData()
    found = [table.to_metadata(copied) for table in tables.metadata.sorted_tables]
    for table in found:
        for column in table.c:
            if isinstance(column.type, sa.JSON):
                column.type = sa.JSON(none_as_null=True)
    return found


def copy_rows(source: sa.Connection, target: sa.Connection) -> dict[str, int]:
    """Copy every row, keys included, into empty tables; how many there were of each table."""
    counts: dict[str, int] = {}
    for table in portable_tables():
        counts[table.name] = 0
        order = list(table.primary_key.columns)
        result = source.execution_options(yield_per=_ROWS).execute(sa.select(table).order_by(*order))
        for rows in result.mappings().partitions():
            target.execute(sa.insert(table), [dict(row) for row in rows])
            counts[table.name] += len(rows)
    return counts


def read_sequences(connection: sa.Connection) -> dict[str, int]:
    """The last number that each table gave out, also to rows that are gone: none may come again."""
    if connection.dialect.name == "sqlite":
        return {row.name: int(row.seq) for row in connection.execute(sa.text("SELECT name, seq FROM sqlite_sequence"))}
    found: dict[str, int] = {}
    for table, sequence in _sequences(connection).items():
        row = connection.execute(sa.text(f"SELECT last_value, is_called FROM {sequence}")).one()
        if row.is_called:
            found[table] = int(row.last_value)
    return found


def write_sequences(connection: sa.Connection, last: Mapping[str, int]) -> None:
    """Go on numbering where `last` left off."""
    if connection.dialect.name == "sqlite":
        for table, number in last.items():
            values = {"name": table, "seq": number}
            changed = connection.execute(sa.text("UPDATE sqlite_sequence SET seq = :seq WHERE name = :name"), values)
            if changed.rowcount == 0:
                connection.execute(sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"), values)
        return
    for table, sequence in _sequences(connection).items():
        if table in last:
            connection.execute(sa.text("SELECT setval(:sequence, :last)"), {"sequence": sequence, "last": last[table]})


def stored(connection: sa.Connection) -> dict[str, Any]:
    """What a database holds, in figures."""
    faces = tables.faces.c
    return {
        "gallery_revision": connection.scalar(sa.select(sa.func.max(tables.revisions.c.revision))) or 0,
        "collections": connection.scalar(sa.select(sa.func.count()).select_from(tables.collections)),
        "subjects": connection.scalar(sa.select(sa.func.count()).select_from(tables.subjects)),
        "faces": connection.scalar(sa.select(sa.func.count()).select_from(tables.faces)),
        "models": sorted(connection.scalars(sa.select(faces.model_id).distinct())),
        "sealed_with": sorted(key for key in connection.scalars(sa.select(faces.sealed_with).distinct()) if key),
    }


def _sequences(connection: sa.Connection) -> dict[str, str]:
    query = sa.text("SELECT pg_get_serial_sequence(:table, :column)")
    found: dict[str, str] = {}
    for table in tables.metadata.sorted_tables:
        (key, *_) = table.primary_key.columns
        if isinstance(key.type, sa.Integer):
            sequence = connection.scalar(query, {"table": table.name, "column": key.name})
            if sequence:
                found[table.name] = str(sequence)
    return found
