"""Work that outlasts a request: kept in the database, run by a bounded pool."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa

from service.gallery.database import writing
from service.gallery.records import Then
from service.gallery.tables import jobs
from service.recognition.errors import Overloaded

logger = logging.getLogger(__name__)

_REPORTED_EVERY: Final = 1.0  # seconds between durable notes of progress
_SIGN_OF_LIFE_EVERY: Final = 20.0
_GIVEN_UP_AFTER: Final = timedelta(minutes=2)  # without a sign of life
_KEPT_FOR: Final = timedelta(days=30)  # reports name photos, so they do not stay for ever
_WORKERS: Final = 1  # bulk work shares the models with people who wait
_WAITING: Final = 16


class JobState(StrEnum):
    """INTERRUPTED: the server ended before the job did; CANCELLED: somebody ended it.

    What was done until then stays done; sent again, an import goes on where it stopped.
    """

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"


_UNFINISHED: Final = (JobState.QUEUED.value, JobState.RUNNING.value)


@dataclass(frozen=True)
class Job:
    """total: how much there is to do, None until it is known; done and rejected count towards it."""

    id: str
    kind: str
    state: JobState
    key_id: str
    collection_id: str | None
    total: int | None
    done: int
    rejected: int
    report: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class Progress:
    """How far a job is."""

    total: int | None
    done: int
    rejected: int
    report: Mapping[str, Any]


class JobNotFound(LookupError):
    """No job has this id."""


class JobFailed(Exception):
    """The job cannot be done; the message is for whom it was done, and tells nothing of the server."""


class Stopped(Exception):
    """The server is ending, or the job was cancelled; it should end too."""


class JobStore:
    """The jobs table. Safe to use from many threads."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def create(self, kind: str, key_id: str, collection_id: str | None) -> Job:
        """A job that is queued; those older than a month are forgotten."""
        now = datetime.now(UTC)
        job = Job(str(uuid.uuid4()), kind, JobState.QUEUED, key_id, collection_id, None, 0, 0, {}, now, now)
        with writing(self._engine).begin() as connection:
            old = sa.and_(jobs.c.updated_at < now - _KEPT_FOR, jobs.c.state.not_in(_UNFINISHED))
            connection.execute(sa.delete(jobs).where(old))
            connection.execute(sa.insert(jobs).values({**vars(job), "state": job.state.value}))
        return job

    def note(self, job_id: str, state: JobState, progress: Progress) -> bool:
        """Write down where a job is; False if it was cancelled, which it then stays, or is forgotten."""
        wanted = sa.and_(jobs.c.id == job_id, jobs.c.state != JobState.CANCELLED.value)
        if self._update(wanted, {"state": state.value, **vars(progress)}):
            return True
        self._update(jobs.c.id == job_id, vars(progress))
        return False

    def cancel(self, job_id: str, then: Then[Job]) -> Job:
        """End a job unless it has ended, whichever server runs it: it stops at its next sign of progress.

        then: rides in the transaction. Raises JobNotFound.
        """
        unfinished = sa.and_(jobs.c.id == job_id, jobs.c.state.in_(_UNFINISHED))
        values = {"state": JobState.CANCELLED.value, "updated_at": datetime.now(UTC)}
        with writing(self._engine).begin() as connection:
            connection.execute(sa.update(jobs).where(unfinished).values(values))
            job = _found(connection, job_id)
            then(connection, job)
        return job

    def sign_of_life(self, job_ids: Sequence[str]) -> None:
        """These jobs' server is up."""
        self._update(sa.and_(jobs.c.id.in_(job_ids), jobs.c.state.in_(_UNFINISHED)), {})

    def mark_interrupted(self, silent_for: timedelta = timedelta(0)) -> None:
        """Give up unfinished jobs without a sign of life for so long."""
        silent = sa.and_(jobs.c.state.in_(_UNFINISHED), jobs.c.updated_at <= datetime.now(UTC) - silent_for)
        with self._engine.begin() as connection:
            if connection.scalar(sa.select(sa.func.count()).select_from(jobs).where(silent)) == 0:
                return
        self._update(silent, {"state": JobState.INTERRUPTED.value})

    def get(self, job_id: str) -> Job:
        """Raises JobNotFound."""
        self.mark_interrupted(_GIVEN_UP_AFTER)
        with self._engine.begin() as connection:
            return _found(connection, job_id)

    def latest(self, limit: int, collections: Sequence[str] | None) -> list[Job]:
        """The newest first; those of these collections, or of all with None."""
        self.mark_interrupted(_GIVEN_UP_AFTER)
        query = sa.select(jobs).order_by(jobs.c.created_at.desc(), jobs.c.id).limit(limit)
        if collections is not None:
            query = query.where(jobs.c.collection_id.in_(collections))
        with self._engine.begin() as connection:
            return [_job(row) for row in connection.execute(query).mappings()]

    def _update(self, which: sa.ColumnElement[bool], values: Mapping[str, Any]) -> bool:
        """Whether there was such a job."""
        with writing(self._engine).begin() as connection:
            changed = connection.execute(sa.update(jobs).where(which).values(**values, updated_at=datetime.now(UTC)))
        return changed.rowcount > 0


Work = Callable[[Callable[[Progress], None]], Progress]
"""Does a job: calls its argument with the progress so far (which raises Stopped at the end), gives the last one.

Raises JobFailed, Stopped.
"""


class JobPool:
    """Runs jobs, one after another, beside the requests."""

    def __init__(self, store: JobStore) -> None:
        self.store = store
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="job")
        self._places = threading.BoundedSemaphore(_WORKERS + _WAITING)
        self._own: set[str] = set()
        self._cancelled: set[str] = set()
        self._ending = threading.Event()
        self._life = threading.Thread(target=self._live, name="job-life", daemon=True)
        self._life.start()

    def submit(self, kind: str, key_id: str, collection_id: str, work: Work, release: Callable[[], None]) -> Job:
        """Queue a job; `release` is called when it has ended in any way. Raises Overloaded when too many wait."""
        if self._ending.is_set() or not self._places.acquire(blocking=False):
            release()
            raise Overloaded(f"{_WAITING} jobs wait already; try again when one has ended", 30)
        try:
            job = self.store.create(kind, key_id, collection_id)
            self._own.add(job.id)
            self._pool.submit(self._run, job, work, release)
        except BaseException as error:
            self._places.release()
            release()
            if isinstance(error, RuntimeError):
                raise Overloaded("the service is shutting down") from error
            raise
        return job

    def cancel(self, job_id: str, then: Then[Job]) -> Job:
        """As JobStore.cancel; a job of this pool stops without waiting for its next note."""
        job = self.store.cancel(job_id, then)
        if job.state is JobState.CANCELLED and job_id in self._own:
            self._cancelled.add(job_id)
        return job

    def close(self) -> None:
        """Stop what runs at its next sign of progress, and mark it and what waits as interrupted."""
        self._ending.set()
        self._pool.shutdown()
        self._life.join()

    def _run(self, job: Job, work: Work, release: Callable[[], None]) -> None:
        last = Progress(None, 0, 0, {})
        noted_at = 0.0

        def report(progress: Progress) -> None:
            nonlocal last, noted_at
            last = progress
            if self._ending.is_set() or job.id in self._cancelled:
                raise Stopped
            if time.monotonic() - noted_at >= _REPORTED_EVERY:
                if not self.store.note(job.id, JobState.RUNNING, progress):
                    raise Stopped
                noted_at = time.monotonic()

        try:
            report(last)
            last = work(report)
            state = JobState.DONE
        except Stopped:
            state = JobState.INTERRUPTED
        except JobFailed as error:
            state = JobState.FAILED
            last = Progress(last.total, last.done, last.rejected, {**last.report, "failure": str(error)})
        except Exception:
            logger.exception("job %s failed", job.id)
            state = JobState.FAILED
            last = Progress(last.total, last.done, last.rejected, {**last.report, "failure": "the server failed"})
        finally:
            release()
            self._places.release()
        self.store.note(job.id, state, last)
        self._own.discard(job.id)
        self._cancelled.discard(job.id)

    def _live(self) -> None:
        while not self._ending.wait(_SIGN_OF_LIFE_EVERY):
            if self._own:
                self.store.sign_of_life(sorted(self._own))


def open_jobs(engine: sa.Engine) -> JobPool:
    """The pool of a server that starts. On SQLite the data folder is its alone, so whatever is unfinished is lost."""
    store = JobStore(engine)
    store.mark_interrupted(timedelta(0) if engine.dialect.name == "sqlite" else _GIVEN_UP_AFTER)
    return JobPool(store)


def _found(connection: sa.Connection, job_id: str) -> Job:
    row = connection.execute(sa.select(jobs).where(jobs.c.id == job_id)).mappings().first()
    if row is None:
        raise JobNotFound("no job has this id")
    return _job(row)


def _job(row: sa.RowMapping) -> Job:
    return Job(**{**row, "state": JobState(row["state"])})
