"""The audit log: complete, in order, and not to be altered unnoticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.gallery.database import writing
from service.gallery.tables import audit, audit_head
from service.security.audit import Actor, AuditLog, Event, Filters, Head, append

ACTOR = Actor("key-1", "a camera", "request-1")


@pytest.fixture
def engine(database_url: str, open_database: Callable[[str], sa.Engine]) -> sa.Engine:
    return open_database(database_url)


def tampered(engine: sa.Engine, statement: sa.Executable) -> None:
    """Change the log as somebody would who has the file."""
    with writing(engine).begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("ALTER TABLE audit DISABLE TRIGGER USER")
        else:
            for verb in ("UPDATE", "DELETE"):
                connection.exec_driver_sql(f"DROP TRIGGER audit_no_{verb}")
        connection.execute(statement)


def test_entries_of_many_threads_form_one_chain(engine: sa.Engine) -> None:
    log = AuditLog(engine)
    with ThreadPoolExecutor(8) as pool:
        for number in range(60):
            pool.submit(log.record, ACTOR, Event("verify", details={"number": number}), 200)
    page = log.entries(None, 100, Filters())
    assert [entry.number for entry in page.items] == list(range(60, 0, -1))
    assert {entry.details["number"] for entry in page.items} == set(range(60))
    assert log.verify() is None
    assert log.count() == 60


def test_the_export_can_be_verified_by_anybody(engine: sa.Engine) -> None:
    log = AuditLog(engine)
    for number in range(3):
        log.record(ACTOR, Event("enrol", 1, number), 201)
    previous = "0" * 64
    for line in log.export():
        entry = json.loads(line)
        digest = entry.pop("digest")
        assert entry["previous"] == previous
        assert hashlib.sha256(json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()).hexdigest() == digest
        previous = digest


@pytest.mark.parametrize(
    ("statement", "broken"),
    [
        (sa.update(audit).where(audit.c.number == 2).values(outcome=403), "entry 2 was changed"),
        (sa.update(audit).where(audit.c.number == 3).values(actor="nobody"), "entry 3 was changed"),
        (sa.delete(audit).where(audit.c.number == 2), "entry 2 is missing"),
        (sa.delete(audit).where(audit.c.number == 1), "entry 1 is missing"),
        (sa.delete(audit).where(audit.c.number == 5), "entry 5 is missing"),
        (sa.delete(audit), "entry 1 is missing"),
        (sa.update(audit).where(audit.c.number == 4).values(previous="0" * 64), "entry 4 does not follow"),
    ],
)
def test_a_changed_or_missing_entry_breaks_the_chain(engine: sa.Engine, statement: sa.Executable, broken: str) -> None:
    log = AuditLog(engine)
    for _ in range(5):
        log.record(ACTOR, Event("verify"), 200)
    tampered(engine, statement)
    assert str(log.verify()).startswith(broken)


@pytest.mark.parametrize("statement", [sa.update(audit).values(outcome=1), sa.delete(audit)])
def test_the_database_refuses_to_alter_it(engine: sa.Engine, statement: sa.Executable) -> None:
    AuditLog(engine).record(ACTOR, Event("verify"), 200)
    with pytest.raises(sa.exc.DBAPIError, match="append-only"), writing(engine).begin() as connection:
        connection.execute(statement)


def test_what_was_cut_off_stays_missing_when_others_follow(engine: sa.Engine) -> None:
    log = AuditLog(engine)
    for _ in range(5):
        log.record(ACTOR, Event("verify"), 200)
    tampered(engine, sa.delete(audit).where(audit.c.number > 3))
    log.record(ACTOR, Event("verify"), 200)
    assert str(log.verify()) == "entry 4 is missing"


def test_a_log_written_anew_differs_from_a_head_that_was_noted(engine: sa.Engine) -> None:
    log = AuditLog(engine)
    for _ in range(3):
        log.record(ACTOR, Event("verify"), 200)
    noted = log.head()
    assert noted is not None
    log.record(ACTOR, Event("verify"), 200)
    assert log.verify(noted) is None
    tampered(engine, sa.delete(audit))
    with engine.begin() as connection:
        connection.execute(sa.delete(audit_head))
    for _ in range(9):
        log.record(ACTOR, Event("harmless"), 200)
    assert log.verify() is None
    assert str(log.verify(noted)) == "entry 3 is not the one that was noted"
    assert str(log.verify(Head(99, "0" * 64))) == "entry 10 is missing"


def test_sqlite_replaces_no_entry(tmp_path: Path, open_database: Callable[[str], sa.Engine]) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'audit.db'}")
    AuditLog(engine).record(ACTOR, Event("verify"), 200)
    replace = "INSERT OR REPLACE INTO audit SELECT number, at, key_id, 'nobody', action, outcome, collection_key, "
    replace += "subject_key, request_id, details, previous, digest FROM audit"
    with pytest.raises(sa.exc.IntegrityError, match="append-only"), writing(engine).begin() as connection:
        connection.exec_driver_sql(replace)


def test_an_entry_is_undone_with_its_change(engine: sa.Engine) -> None:
    log = AuditLog(engine)
    with writing(engine).connect() as connection, connection.begin() as change:
        append(connection, ACTOR, Event("enrol"), 201)
        change.rollback()
    log.record(ACTOR, Event("verify"), 200)
    assert [entry.action for entry in log.entries(None, 9, Filters()).items] == ["verify"]
    assert log.verify() is None


def test_entries_are_filtered_and_come_in_parts(engine: sa.Engine) -> None:
    log = AuditLog(engine)
    for number in range(7):
        log.record(ACTOR, Event("verify" if number % 2 else "identify"), 200)
    first = log.entries(None, 2, Filters(action="identify"))
    assert [entry.number for entry in first.items] == [7, 5]
    second = log.entries(first.next_cursor, 2, Filters(action="identify"))
    assert ([entry.number for entry in second.items], second.next_cursor) == ([3, 1], None)
    assert log.entries(None, 9, Filters(key_id="another")).items == []
