"""The tables of the service's database."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Dialect


class UtcDateTime(sa.TypeDecorator[datetime]):
    """A moment in UTC. SQLite forgets the zone, so it is put back on reading."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store in UTC; a moment without a zone is a bug of the caller."""
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Read as UTC."""
        return None if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value


# SQLite grows row numbers by itself only in a column of type INTEGER.
Key = sa.BigInteger().with_variant(sa.Integer, "sqlite")
metadata = sa.MetaData()


def _parent(column: str) -> sa.ForeignKey:
    return sa.ForeignKey(column, ondelete="CASCADE")


collections = sa.Table(
    "collections",
    metadata,
    sa.Column("key", Key, primary_key=True),
    sa.Column("id", sa.String(128), nullable=False, unique=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("metadata", sa.JSON, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sqlite_autoincrement=True,
)

subjects = sa.Table(
    "subjects",
    metadata,
    sa.Column("key", Key, primary_key=True),
    sa.Column("collection_key", Key, _parent("collections.key"), nullable=False),
    sa.Column("id", sa.String(128), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("metadata", sa.JSON, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.UniqueConstraint("collection_key", "id", name="uq_subjects_collection_id"),
    sqlite_autoincrement=True,
)

# A face's key is its number in the vector index, so it must never be used again: hence AUTOINCREMENT.
faces = sa.Table(
    "faces",
    metadata,
    sa.Column("key", Key, primary_key=True),
    sa.Column("id", sa.String(36), nullable=False, unique=True),
    sa.Column("subject_key", Key, _parent("subjects.key"), nullable=False, index=True),
    sa.Column("embedding", sa.LargeBinary, nullable=False),
    sa.Column("model_id", sa.String(200), nullable=False, index=True),
    sa.Column("quality", sa.Float, nullable=False),
    sa.Column("detection_score", sa.Float, nullable=False),
    sa.Column("box", sa.JSON, nullable=False),
    sa.Column("source_digest", sa.String(64), nullable=False),
    # The aligned crop as lossless WebP, if the operator keeps crops.
    sa.Column("crop", sa.LargeBinary, nullable=True),
    # Which encryption key sealed embedding and crop; null: they stand as they are.
    sa.Column("sealed_with", sa.String(16), nullable=True, index=True),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sqlite_autoincrement=True,
)

# Numbers only: the log outlives what was erased, so nothing personal may stand in it.
revisions = sa.Table(
    "revisions",
    metadata,
    sa.Column("revision", Key, primary_key=True),
    sa.Column("change", sa.String(32), nullable=False),
    sa.Column("collection_key", Key, nullable=False, index=True),
    sa.Column("subject_key", Key, nullable=True),
    sa.Column("face_key", Key, nullable=True),
    sa.Column("at", UtcDateTime, nullable=False),
    sqlite_autoincrement=True,
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("prefix", sa.String(16), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("last_used_at", UtcDateTime, nullable=True),
    sa.Column("expires_at", UtcDateTime, nullable=True),
    # Ids of the collections the key is for; null: all.
    sa.Column("collections", sa.JSON, nullable=True),
)

# What a write answered, so that the same request sent again gets the same answer. Written with the change itself.
idempotency = sa.Table(
    "idempotency",
    metadata,
    sa.Column("key_id", sa.String(36), primary_key=True),
    sa.Column("token", sa.String(255), primary_key=True),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("answer", sa.LargeBinary, nullable=False),
    # Whom the answer speaks of: it is erased with them.
    sa.Column("collection_key", Key, nullable=True, index=True),
    sa.Column("subject_key", Key, nullable=True, index=True),
    sa.Column("at", UtcDateTime, nullable=False, index=True),
)

# Who did what, when, to whom. Numbers for people: it outlives what was erased. Each row's digest covers the one before.
audit = sa.Table(
    "audit",
    metadata,
    sa.Column("number", Key, primary_key=True),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("key_id", sa.String(36), nullable=True),
    sa.Column("actor", sa.String(200), nullable=False),
    sa.Column("action", sa.String(64), nullable=False),
    sa.Column("outcome", sa.Integer, nullable=False),
    sa.Column("collection_key", Key, nullable=True),
    sa.Column("subject_key", Key, nullable=True, index=True),
    sa.Column("request_id", sa.String(64), nullable=False),
    sa.Column("details", sa.JSON, nullable=False),
    sa.Column("previous", sa.String(64), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sqlite_autoincrement=True,
)

# One row: the newest entry, so that cutting off the end of the log shows.
audit_head = sa.Table(
    "audit_head",
    metadata,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("digest", sa.String(64), nullable=False),
)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("key_id", sa.String(36), nullable=False),
    sa.Column("collection_id", sa.String(128), nullable=True),
    sa.Column("total", sa.Integer, nullable=True),
    sa.Column("done", sa.Integer, nullable=False),
    sa.Column("rejected", sa.Integer, nullable=False),
    sa.Column("report", sa.JSON, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
)
