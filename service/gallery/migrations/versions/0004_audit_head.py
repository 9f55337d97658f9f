"""The newest entry of the audit log is noted beside it, and on SQLite no entry can be replaced."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# INSERT OR REPLACE removes a row without a word to the triggers that refuse to remove one.
_NOTHING_REPLACED = """
CREATE TRIGGER audit_no_REPLACE BEFORE INSERT ON audit
WHEN EXISTS (SELECT 1 FROM audit WHERE number >= NEW.number)
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END
"""
_NEWEST = "INSERT INTO audit_head (number, digest) SELECT number, digest FROM audit ORDER BY number DESC LIMIT 1"


def upgrade() -> None:
    """Add the note and the trigger."""
    op.create_table(
        "audit_head",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.String(64), nullable=False),
    )
    op.execute(_NEWEST)
    if op.get_context().dialect.name == "sqlite":
        op.execute(_NOTHING_REPLACED)
