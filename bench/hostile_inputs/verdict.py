"""Whether an answer is one that the service may give to a hostile input."""

from __future__ import annotations

import json
from typing import Any

from hostile_inputs.cases import Case
from hostile_inputs.exchange import Answer

_PROBLEM = "application/problem+json"
_MEMBERS = {"type": str, "title": str, "status": int, "detail": str, "code": str}
_BUSY = ("overloaded", "draining", "loading")


def fault(case: Case, answer: Answer) -> str | None:
    """What is wrong with an answer; None if nothing is.

    Allowed: anything below 500 that says so as a problem document (or, under /api/v1/, as CompreFace does),
    a 503 that announces overload with Retry-After, and a connection closed on a request that was never whole.
    """
    if answer.status == 0:
        return "a whole request, and no answer" if case.whole else None
    if answer.status >= 500 and not _announced(answer):
        return f"status {answer.status}: {answer.body[:200]!r}"
    if case.kind == "smuggled" and answer.status != 400:
        return f"status {answer.status}: one of two requests in one was served"
    if answer.status < 400:
        return _not_json(answer) if answer.media_type == "application/json" and case.method != "HEAD" else None
    if case.method == "HEAD" and not answer.body:
        return None
    if case.compatible and answer.media_type == "application/json":
        return _not_compatible(answer)
    return _not_a_problem(answer)


def _announced(answer: Answer) -> bool:
    return (
        answer.status == 503
        and answer.retry_after is not None
        and any(f'"{code}"'.encode() in answer.body for code in _BUSY)
    )


def _not_json(answer: Answer) -> str | None:
    try:
        json.loads(answer.body)
    except ValueError:
        return f"status {answer.status} with broken JSON: {answer.body[:200]!r}" if answer.body else None
    return None


def _not_compatible(answer: Answer) -> str | None:
    document = _parsed(answer)
    if isinstance(document.get("message"), str) and isinstance(document.get("code"), int):
        return None
    return f"status {answer.status}, neither a problem nor CompreFace's error: {answer.body[:200]!r}"


def _not_a_problem(answer: Answer) -> str | None:
    document = _parsed(answer)
    if answer.media_type != _PROBLEM:
        return f"status {answer.status} as {answer.media_type!r}, no problem document: {answer.body[:200]!r}"
    missing = [name for name, kind in _MEMBERS.items() if not isinstance(document.get(name), kind)]
    return f"status {answer.status}, a problem without {missing}" if missing else None


def _parsed(answer: Answer) -> dict[str, Any]:
    try:
        document = json.loads(answer.body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
