"""What can go wrong between a client and the service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facemargin.answers import Job


class ClientError(Exception):
    """Everything that the client raises of its own."""


class Problem(ClientError):
    """The service refused.

    status: of HTTP. code: which kind of problem; stable. detail: what is wrong with this request.
    retry_after: seconds after which it may be asked again, if it said so. members: what else it tells, such as
    `rejected`.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        retry_after: float | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{detail} ({status} {code})")
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after = retry_after
        self.members = dict(members or {})


class Unreachable(ClientError):
    """No answer came. sent: whether the request may have reached the service all the same."""

    def __init__(self, detail: str, sent: bool) -> None:
        super().__init__(detail)
        self.sent = sent


class UnexpectedAnswer(ClientError):
    """The answer is not what this version of the client knows."""


class JobFailed(ClientError):
    """A job ended without finishing. job: how far it came."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"the job {job.job_id} is {job.state}: {job.done} done, {job.rejected} rejected")
        self.job = job
