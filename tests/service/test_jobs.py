"""Jobs: how they run, what they leave behind, and what becomes of them when the server ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.gallery.database import open_engine
from service.gallery.records import Changes
from service.gallery.statements import collections, subjects
from service.jobs import (
    Job,
    JobFailed,
    JobNotFound,
    JobPool,
    JobState,
    JobStore,
    Progress,
    open_jobs,
)
from service.recognition.errors import Overloaded

Report = Callable[[Progress], None]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = open_engine(f"sqlite:///{tmp_path / 'jobs.db'}")
    yield engine
    engine.dispose()


@pytest.fixture
def pool(engine: sa.Engine) -> Iterator[JobPool]:
    pool = open_jobs(engine)
    yield pool
    pool.close()


def ended(pool: JobPool, job: Job) -> Job:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = pool.store.get(job.id)
        if found.state not in (JobState.QUEUED, JobState.RUNNING):
            return found
        time.sleep(0.01)
    pytest.fail("the job has not ended")


def nothing() -> None:
    """Nothing to release."""


def submit(pool: JobPool, work: Callable[[Report], Progress], collection: str = "default") -> Job:
    return pool.submit("import_photos", "a key", collection, work, nothing)


def test_a_job_runs_and_leaves_its_report(pool: JobPool) -> None:
    released = threading.Event()

    def work(report: Report) -> Progress:
        report(Progress(3, 1, 0, {}))
        return Progress(3, 3, 1, {"rejected": 1})

    job = pool.submit("import_photos", "a key", "staff", work, released.set)
    assert job.state is JobState.QUEUED
    done = ended(pool, job)
    assert (done.state, done.total, done.done, done.rejected) == (JobState.DONE, 3, 3, 1)
    assert (done.report, done.collection_id, done.key_id) == ({"rejected": 1}, "staff", "a key")
    assert released.wait(60)


def test_progress_can_be_followed(pool: JobPool) -> None:
    go_on = threading.Event()

    def work(report: Report) -> Progress:
        go_on.wait(60)
        return Progress(1, 1, 0, {})

    job = submit(pool, work)
    deadline = time.monotonic() + 60
    while pool.store.get(job.id).state is JobState.QUEUED:
        assert time.monotonic() < deadline
    assert pool.store.get(job.id).state is JobState.RUNNING
    go_on.set()
    assert ended(pool, job).state is JobState.DONE


def test_failures_tell_the_caller_only_what_is_meant_for_them(pool: JobPool) -> None:
    def meant(report: Report) -> Progress:
        report(Progress(9, 4, 2, {"rejected": 2}))
        raise JobFailed("the collection was erased")

    def bug(report: Report) -> Progress:
        raise RuntimeError("/var/lib/secret")

    told, silent = (ended(pool, submit(pool, work)) for work in (meant, bug))
    assert (told.state, told.done, told.rejected) == (JobState.FAILED, 4, 2)
    assert told.report == {"rejected": 2, "failure": "the collection was erased"}
    assert silent.report == {"failure": "the server failed"}


def test_more_than_may_wait_is_refused_and_released(pool: JobPool) -> None:
    go_on = threading.Event()
    released = []

    def work(report: Report) -> Progress:
        go_on.wait(60)
        return Progress(0, 0, 0, {})

    def submit_many() -> None:
        for number in range(100):
            pool.submit("import_photos", "a key", "default", work, lambda number=number: released.append(number))

    with pytest.raises(Overloaded):
        submit_many()
    assert len(released) == 1
    go_on.set()


def endless(began: threading.Event) -> Callable[[Report], Progress]:
    def work(report: Report) -> Progress:
        done = 0
        while True:
            report(Progress(None, done := done + 1, 0, {}))
            began.set()
            time.sleep(0.01)

    return work


def test_the_end_of_the_server_interrupts(engine: sa.Engine) -> None:
    pool = open_jobs(engine)
    began = threading.Event()

    running, waiting = submit(pool, endless(began)), submit(pool, endless(began))
    assert began.wait(60)
    pool.close()
    store = JobStore(engine)
    assert {store.get(job.id).state for job in (running, waiting)} == {JobState.INTERRUPTED}
    assert store.get(running.id).done > 0


def unheard(connection: sa.Connection, job: Job) -> None:
    """Nobody rides in the transaction."""


def test_a_cancelled_job_stops_where_it_is_and_the_next_one_begins(pool: JobPool) -> None:
    began, released = threading.Event(), threading.Event()

    def quick(report: Report) -> Progress:
        return Progress(1, 1, 0, {})

    running = pool.submit("import_photos", "a key", "default", endless(began), released.set)
    never, after = submit(pool, quick), submit(pool, quick)
    assert began.wait(60)
    assert pool.cancel(never.id, unheard).state is JobState.CANCELLED
    # As another server does, which shares nothing but the database.
    assert pool.store.cancel(running.id, unheard).state is JobState.CANCELLED
    assert released.wait(60)

    assert ended(pool, after).state is JobState.DONE
    assert [pool.store.get(job.id).state for job in (running, never)] == [JobState.CANCELLED] * 2
    assert pool.store.get(running.id).done > 0
    assert pool.store.get(never.id).done == 0


def test_a_job_that_has_ended_stays_as_it_is(pool: JobPool) -> None:
    job = submit(pool, lambda report: Progress(1, 1, 0, {}))
    assert ended(pool, job).state is JobState.DONE
    assert pool.cancel(job.id, unheard).state is JobState.DONE
    with pytest.raises(JobNotFound):
        pool.cancel("another", unheard)


def test_what_a_killed_server_left_is_marked_at_the_next_start(engine: sa.Engine) -> None:
    store = JobStore(engine)
    job = store.create("import_photos", "a key", "default")
    store.note(job.id, JobState.RUNNING, Progress(10, 5, 0, {}))
    store.mark_interrupted(timedelta(minutes=2))
    assert store.get(job.id).state is JobState.RUNNING, "another server may run it: it gave a sign of life"
    pool = open_jobs(engine)
    assert store.get(job.id).state is JobState.INTERRUPTED
    assert store.get(job.id).done == 5
    pool.close()


def test_lists_are_newest_first_and_by_collection(engine: sa.Engine) -> None:
    store = JobStore(engine)
    made = [store.create("import_photos", "a key", collection) for collection in ("a", "b", "a")]
    assert [job.id for job in store.latest(2, None)] == [made[2].id, made[1].id]
    assert [job.id for job in store.latest(9, ["a"])] == [made[2].id, made[0].id]
    assert store.latest(9, []) == []
    with pytest.raises(JobNotFound):
        store.get("another")


def test_reports_forget_the_erased(engine: sa.Engine) -> None:
    store = JobStore(engine)
    job = store.create("import_photos", "a key", "staff")
    errors = [
        {"photo": "ada/1.jpg", "subject_id": "ada", "reason": "no_face"},
        {"photo": "grace/1.jpg", "subject_id": "grace", "reason": "no_face"},
    ]
    store.note(job.id, JobState.DONE, Progress(2, 2, 2, {"errors": errors, "errors_left_out": 0}))
    with engine.begin() as connection:
        key = collections.put_collection(connection, "staff", Changes())[0].key
        subjects.put_subject(connection, key, "ada", Changes())
    with engine.begin() as connection:
        subjects.erase_subject(connection, key, "ada")
    assert store.get(job.id).report == {"errors": errors[1:], "errors_left_out": 1}
    with engine.begin() as connection:
        collections.erase_collection(connection, "staff")
    assert store.latest(9, None) == []
