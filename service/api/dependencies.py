"""What routes need from a request: the services, and a key that allows the call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated
from urllib.parse import urlsplit

import sqlalchemy as sa
from fastapi import Depends, FastAPI, Request, Security
from fastapi.concurrency import run_in_threadpool
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from service.errors import Problem, ProblemResponse, problem_response
from service.security.audit import Actor
from service.security.exposure import is_loopback
from service.security.gate import ExpiredKey, Gate, TooOften, UnknownKey
from service.security.keys import ApiKey
from service.security.roles import Role
from service.settings import Settings
from service.startup import Services, Startup
from service.telemetry.routes import route_of

_header = APIKeyHeader(name="X-API-Key", auto_error=False, description="An API key.")
_bearer = HTTPBearer(auto_error=False, description="An API key.")
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="facemargin"'}


class Denied(Problem):
    """The caller may not do this (401, 403): it goes into the audit log when it is told."""


def install_gate(app: FastAPI, settings: Settings, engine: sa.Engine) -> None:
    """What authorisation needs of the application."""
    gate = Gate(settings, engine)
    app.state.gate = gate
    app.state.keys = gate.keys
    app.state.audit = gate.audit

    @app.exception_handler(Denied)
    async def _denied(request: Request, denied: Denied) -> ProblemResponse:
        key: ApiKey | None = getattr(request.state, "key", None)
        key_id, name = (key.id, key.name) if key else (None, "nobody")
        actor = Actor(key_id, name, request.state.request_id)
        # The route, not the path: a path may hold the ids of people.
        details = {"code": denied.code, "call": f"{request.method} {route_of(request.scope)}"}
        await run_in_threadpool(gate.note_refusal, actor, _address(request), details, denied.status_code)
        return problem_response(denied)


def authenticated(
    request: Request,
    header: Annotated[str | None, Security(_header)],
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
) -> ApiKey:
    """The caller's key. Raises Problem (401, 429), and 403 for a path into a collection that the key is not for."""
    gate: Gate = request.app.state.gate
    if gate.open_to_all:
        _refuse_other_pages(request)
    try:
        key = gate.admit(header or (bearer.credentials if bearer else None), _address(request))
    except TooOften as error:
        raise Problem(429, "rate_limited", str(error), {"Retry-After": str(error.seconds)}) from error
    except ExpiredKey as error:
        request.state.key = error.key
        raise Denied(401, "key_expired", str(error), _CHALLENGE) from error
    except UnknownKey as error:
        raise Denied(401, "unauthenticated", str(error), _CHALLENGE) from error
    request.state.key = key
    request.state.key_id = key.id  # for the log
    collection = request.path_params.get("collection")
    if collection is not None:
        check_collection(key, collection)
    return key


def requires(role: Role) -> Callable[[ApiKey], ApiKey]:
    """A dependency that lets through keys whose role includes `role`. It raises Problem (403)."""

    def check(key: Annotated[ApiKey, Depends(authenticated)]) -> ApiKey:
        if not key.role.includes(role):
            raise Denied(403, "forbidden", f"this needs a key of role `{role}`; yours is `{key.role}`")
        return key

    return check


def _unscoped(key: Annotated[ApiKey, Depends(requires(Role.ADMIN))]) -> ApiKey:
    if key.collections is not None:
        raise Denied(403, "forbidden_collection", "this needs a key for all collections; yours is for some")
    return key


def check_collection(key: ApiKey, collection_id: str) -> None:
    """Whether a key is for a collection. Raises Problem (403)."""
    if not key.opens(collection_id):
        raise Denied(403, "forbidden_collection", "this key is not for that collection")


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _refuse_other_pages(request: Request) -> None:
    """Without keys, any page that the operator's browser shows could call this machine's own address."""
    origin = request.headers.get("origin")
    strange = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if strange or not is_loopback(request.url.hostname or ""):
        raise Denied(403, "forbidden_origin", "with authentication off, only this machine's own page may call")


def loaded(request: Request) -> Services:
    """The services. Raises Problem (503) while they load."""
    startup: Startup = request.app.state.startup
    if startup.services is None:
        raise Problem(503, "loading", "the models are still loading", {"Retry-After": "2"})
    return startup.services


MayRead = Depends(requires(Role.READ))
MayEnrol = Depends(requires(Role.ENROL))
MayAdminister = Depends(requires(Role.ADMIN))
MayAdministerAll = Depends(_unscoped)
Loaded = Annotated[Services, Depends(loaded)]


def faces_limit(services: Services, requested: int | None) -> int:
    """How many faces to take from a photo. Raises Problem (400) beyond the server's limit."""
    most = services.settings.max_faces
    if requested is not None and requested > most:
        raise Problem(400, "invalid_request", f"max_faces: this server takes at most {most} faces from a photo")
    return most if requested is None else requested
