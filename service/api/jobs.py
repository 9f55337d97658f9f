"""Bulk work: how far it is, and its end before it is done."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from service.api.calls import Caller
from service.api.dependencies import Loaded, MayEnrol, MayRead, authenticated
from service.errors import Problem
from service.jobs import Job, JobNotFound
from service.schemas.transfer import JobAnswer, JobList, JobListParameters
from service.security.keys import ApiKey
from service.startup import Services

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], dependencies=[MayRead])
Key = Annotated[ApiKey, Depends(authenticated)]
JobPath = Annotated[str, Path(pattern=r"^[0-9A-Za-z-]{1,64}$", description="As it was answered by the import.")]


@router.get("")
def list_jobs(services: Loaded, key: Key, query: Annotated[JobListParameters, Query()]) -> JobList:
    """List bulk work of the last month, newest first."""
    return JobList(jobs=[_answer(job) for job in services.jobs.store.latest(query.limit, key.collections)])


@router.get("/{job}")
def get_job(job: JobPath, services: Loaded, key: Key) -> JobAnswer:
    """Get how far a job is, and what it has rejected."""
    return _answer(_visible(job, services, key))


@router.post("/{job}/cancel", dependencies=[MayEnrol])
def cancel_job(job: JobPath, services: Loaded, caller: Caller) -> JobAnswer:
    """End a job, if it has not ended. What it has enrolled stays; the same archive, sent again, goes on from there."""
    _visible(job, services, caller.key)
    return _answer(services.jobs.cancel(job, caller.rider("job.cancel", _answer)))


def _visible(job: str, services: Services, key: ApiKey) -> Job:
    try:
        found = services.jobs.store.get(job)
    except JobNotFound as error:
        raise Problem(404, "job_not_found", str(error)) from error
    if key.collections is not None and found.collection_id not in key.collections:
        raise Problem(404, "job_not_found", "no job has this id")
    return found


def _answer(job: Job) -> JobAnswer:
    return JobAnswer(
        job_id=job.id,
        kind=job.kind,
        state=job.state.value,
        collection=job.collection_id,
        total=job.total,
        done=job.done,
        rejected=job.rejected,
        report=dict(job.report),
        created_at=job.created_at,
        updated_at=job.updated_at,
    )
