"""What routes need from a request: the services, and a key that allows the call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import sqlalchemy as sa
from fastapi import Depends, FastAPI, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from service.errors import Problem
from service.security.audit import Actor, AuditLog, Event
from service.security.keys import ApiKey, KeyStore
from service.security.limits import RateLimit
from service.security.roles import Role
from service.settings import Settings
from service.startup import Services, Startup

_header = APIKeyHeader(name="X-API-Key", auto_error=False, description="An API key.")
_bearer = HTTPBearer(auto_error=False, description="An API key.")
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="facemargin"'}
_ANYBODY = ApiKey("anybody", "anybody (authentication is off)", "", Role.ADMIN)
_REFUSALS_A_SECOND, _REFUSALS_AT_ONCE = 1.0, 30


class Gate:
    """Who may come in, and how often. Every refusal is in the audit log, within bounds."""

    def __init__(self, settings: Settings, engine: sa.Engine) -> None:
        self.keys = KeyStore(engine)
        self.audit = AuditLog(engine)
        self._open = settings.auth == "off"
        self._calls = RateLimit(settings.rate_limit, settings.rate_burst)
        # A refusal costs a durable write: who tries key after key must not fill the disk.
        self._refusals = RateLimit(_REFUSALS_A_SECOND, _REFUSALS_AT_ONCE)

    def admit(self, secret: str | None, request: Request) -> ApiKey:
        """The key with this secret. Raises Problem (401, 429)."""
        key = _ANYBODY if self._open else self.keys.authenticate(secret) if secret else None
        if key is None:
            detail = "this API key is not known" if secret else "send an API key as X-API-Key or as a bearer token"
            self._refuse(Problem(401, "unauthenticated", detail, _CHALLENGE), None, request)
        elif key.expired:
            self._refuse(Problem(401, "key_expired", "this API key has expired", _CHALLENGE), key, request)
        elif wait := self._calls.wait(key.id):
            raise Problem(429, "rate_limited", "this key has sent too many requests", {"Retry-After": str(wait)})
        else:
            return key
        raise AssertionError("a refusal raises")

    def forbid(self, problem: Problem, key: ApiKey, request: Request) -> None:
        """Note that a key may not do this, and raise the Problem (403)."""
        self._refuse(problem, key, request)

    def _refuse(self, problem: Problem, key: ApiKey | None, request: Request) -> None:
        address = request.client.host if request.client else ""
        if wait := self._refusals.wait(key.id if key else address):
            raise Problem(429, "rate_limited", "too many refused requests", {"Retry-After": str(wait)})
        actor = Actor(key.id if key else None, key.name if key else "nobody", request.state.request_id)
        self.audit.record(actor, Event("denied", details={"code": problem.code}), problem.status_code)
        raise problem


def install_gate(app: FastAPI, settings: Settings, engine: sa.Engine) -> None:
    """What authorisation needs of the application."""
    app.state.gate = Gate(settings, engine)
    app.state.keys = app.state.gate.keys
    app.state.audit = app.state.gate.audit


def authenticated(
    request: Request,
    header: Annotated[str | None, Security(_header)],
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
) -> ApiKey:
    """The caller's key. Raises Problem (401, 429), and 403 for a path into a collection that the key is not for."""
    gate: Gate = request.app.state.gate
    key = gate.admit(header or (bearer.credentials if bearer else None), request)
    collection = request.path_params.get("collection")
    if collection is not None and not key.opens(collection):
        gate.forbid(_foreign(), key, request)
    return key


def requires(role: Role) -> Callable[[Request, ApiKey], ApiKey]:
    """A dependency that lets through keys whose role includes `role`. It raises Problem (403)."""

    def check(request: Request, key: Annotated[ApiKey, Depends(authenticated)]) -> ApiKey:
        if not key.role.includes(role):
            problem = Problem(403, "forbidden", f"this needs a key of role `{role}`; yours is `{key.role}`")
            request.app.state.gate.forbid(problem, key, request)
        return key

    return check


def _unscoped(request: Request, key: Annotated[ApiKey, Depends(requires(Role.ADMIN))]) -> ApiKey:
    if key.collections is not None:
        problem = Problem(403, "forbidden_collection", "this needs a key for all collections; yours is for some")
        request.app.state.gate.forbid(problem, key, request)
    return key


def check_collection(key: ApiKey, collection_id: str) -> None:
    """Whether a key is for a collection that is named elsewhere than in the path. Raises Problem (403)."""
    if not key.opens(collection_id):
        raise _foreign()


def loaded(request: Request) -> Services:
    """The services. Raises Problem (503) while they load."""
    startup: Startup = request.app.state.startup
    if startup.services is None:
        raise Problem(503, "loading", "the models are still loading", {"Retry-After": "2"})
    return startup.services


def _foreign() -> Problem:
    return Problem(403, "forbidden_collection", "this key is not for that collection")


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
