"""Sealed faces and crops, keys that expire or are for some collections, idempotency, audit log, jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add columns and tables; nothing that stands is changed."""
    op.add_column("faces", sa.Column("crop", sa.LargeBinary, nullable=True))
    op.add_column("faces", sa.Column("sealed_with", sa.String(16), nullable=True))
    op.create_index("ix_faces_sealed_with", "faces", ["sealed_with"])
    op.add_column("api_keys", sa.Column("expires_at", MOMENT, nullable=True))
    op.add_column("api_keys", sa.Column("collections", sa.JSON, nullable=True))
    _create_idempotency()
    _create_audit()
    _create_jobs()


def _create_idempotency() -> None:
    op.create_table(
        "idempotency",
        sa.Column("key_id", sa.String(36), primary_key=True),
        sa.Column("token", sa.String(255), primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("answer", sa.LargeBinary, nullable=False),
        sa.Column("collection_key", KEY, nullable=True, index=True),
        sa.Column("subject_key", KEY, nullable=True, index=True),
        sa.Column("at", MOMENT, nullable=False, index=True),
    )


def _create_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("number", KEY, primary_key=True),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("key_id", sa.String(36), nullable=True),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("outcome", sa.Integer, nullable=False),
        sa.Column("collection_key", KEY, nullable=True),
        sa.Column("subject_key", KEY, nullable=True, index=True),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("details", sa.JSON, nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sqlite_autoincrement=True,
    )


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("key_id", sa.String(36), nullable=False),
        sa.Column("collection_id", sa.String(128), nullable=True),
        sa.Column("total", sa.Integer, nullable=True),
        sa.Column("done", sa.Integer, nullable=False),
        sa.Column("rejected", sa.Integer, nullable=False),
        sa.Column("report", sa.JSON, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
    )
