"""Alembic's entry point. The service hands over the connection; there is no alembic.ini."""

from __future__ import annotations

from alembic import context

from service.gallery.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
