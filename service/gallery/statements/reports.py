"""What reports of bulk work tell of people, and how it is erased with them."""

from __future__ import annotations

import sqlalchemy as sa

from service.gallery.tables import collections, jobs


def forget_reports_of(connection: sa.Connection, collection_key: int, subject_id: str | None) -> None:
    """Erase what they tell of a subject, or of a whole collection that still stands, in the erasing transaction.

    A report names rejected photos with their subjects, so for a subject the reports of its collection lose those
    entries.
    """
    of_collection = jobs.c.collection_id == (
        sa.select(collections.c.id).where(collections.c.key == collection_key).scalar_subquery()
    )
    if subject_id is None:
        connection.execute(sa.delete(jobs).where(of_collection))
        return
    for row in connection.execute(sa.select(jobs.c.id, jobs.c.report).where(of_collection)).all():
        errors = row.report.get("errors", [])
        kept = [error for error in errors if error.get("subject_id") != subject_id]
        if len(kept) < len(errors):
            left_out = row.report["errors_left_out"] + len(errors) - len(kept)
            report = {**row.report, "errors": kept, "errors_left_out": left_out}
            connection.execute(sa.update(jobs).where(jobs.c.id == row.id).values(report=report))
