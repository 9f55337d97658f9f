"""Collections, subjects, faces, the revision log and API keys."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# A migration is history: it spells the tables out, whatever `tables.py` says by the time it runs.
KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables and the collection that always exists."""
    collections = op.create_table(
        "collections",
        sa.Column("key", KEY, primary_key=True),
        sa.Column("id", sa.String(128), nullable=False, unique=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sqlite_autoincrement=True,
    )
    _create_people()
    _create_revisions()
    _create_keys()
    op.bulk_insert(collections, [{"id": "default", "name": "default", "metadata": {}, "created_at": datetime.now(UTC)}])


def _create_people() -> None:
    op.create_table(
        "subjects",
        sa.Column("key", KEY, primary_key=True),
        sa.Column("collection_key", KEY, sa.ForeignKey("collections.key", ondelete="CASCADE"), nullable=False),
        sa.Column("id", sa.String(128), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.UniqueConstraint("collection_key", "id", name="uq_subjects_collection_id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "faces",
        sa.Column("key", KEY, primary_key=True),
        sa.Column("id", sa.String(36), nullable=False, unique=True),
        sa.Column(
            "subject_key",
            KEY,
            sa.ForeignKey("subjects.key", ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        sa.Column("embedding", sa.LargeBinary, nullable=False),
        sa.Column("model_id", sa.String(200), nullable=False, index=True),
        sa.Column("quality", sa.Float, nullable=False),
        sa.Column("detection_score", sa.Float, nullable=False),
        sa.Column("box", sa.JSON, nullable=False),
        sa.Column("source_digest", sa.String(64), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sqlite_autoincrement=True,
    )


def _create_revisions() -> None:
    op.create_table(
        "revisions",
        sa.Column("revision", KEY, primary_key=True),
        sa.Column("change", sa.String(32), nullable=False),
        sa.Column("collection_key", KEY, nullable=False, index=True),
        sa.Column("subject_key", KEY, nullable=True),
        sa.Column("face_key", KEY, nullable=True),
        sa.Column("at", MOMENT, nullable=False),
        sqlite_autoincrement=True,
    )


def _create_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("last_used_at", MOMENT, nullable=True),
    )
