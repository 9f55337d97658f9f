"""What both clients make of HTTP: how to connect, and what an answer or its absence means."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import httpx

from facemargin.answers import Job
from facemargin.errors import JobFailed, Problem, Unreachable

_CONNECT_SECONDS = 5.0
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


def connection_options(address: str, key: str | None, timeout: float) -> dict[str, Any]:
    """How httpx is to connect. Raises ValueError for an address that is none."""
    if not address.startswith(("http://", "https://")):
        raise ValueError(f"{address!r} is no address of a service: it must begin with http:// or https://")
    return {
        "base_url": address,
        "headers": {"X-API-Key": key} if key is not None else {},
        "timeout": httpx.Timeout(timeout, connect=min(timeout, _CONNECT_SECONDS)),
    }


@contextlib.contextmanager
def reaching(address: str) -> Iterator[None]:
    """Turns the errors of a connection into Unreachable."""
    try:
        yield
    except (httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError, httpx.ProxyError) as error:
        reason = str(error) or type(error).__name__
        raise Unreachable(f"no answer from {address}: {reason}", not isinstance(error, _NOT_SENT)) from error


def check(response: httpx.Response) -> None:
    """Raises Problem unless the request succeeded. The response's body must have been read if it did not."""
    if response.is_success:
        return
    try:
        document = response.json()
    except ValueError:
        document = None
    if not isinstance(document, dict):
        document = {}
    raise Problem(
        response.status_code,
        str(document.pop("code", "no_problem_document")),
        str(document.pop("detail", response.reason_phrase)),
        _seconds(response.headers.get("Retry-After")),
        document,
    )


def finished(job: Job) -> bool:
    """Whether a job is done. Raises JobFailed if it never will be."""
    if job.state in ("failed", "interrupted", "cancelled"):
        raise JobFailed(job)
    return job.state == "done"


def _seconds(text: str | None) -> float | None:
    # The service counts in seconds; a date, which a proxy may send, is left to the backoff.
    return float(text) if text is not None and text.isdecimal() else None
