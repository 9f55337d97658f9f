"""What routes need from a request: the services, and a key that allows the call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from service.errors import Problem
from service.security.keys import ApiKey, KeyStore
from service.security.roles import Role
from service.startup import Services, Startup

_header = APIKeyHeader(name="X-API-Key", auto_error=False, description="An API key.")
_bearer = HTTPBearer(auto_error=False, description="An API key.")


def authenticated(
    request: Request,
    header: Annotated[str | None, Security(_header)],
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
) -> ApiKey:
    """The caller's key. Raises Problem (401)."""
    secret = header or (bearer.credentials if bearer else None)
    keys: KeyStore = request.app.state.keys
    key = keys.authenticate(secret) if secret else None
    if key is None:
        detail = "this API key is not known" if secret else "send an API key as X-API-Key or as a bearer token"
        raise Problem(401, "unauthenticated", detail, {"WWW-Authenticate": 'Bearer realm="facemargin"'})
    return key


def requires(role: Role) -> Callable[[ApiKey], ApiKey]:
    """A dependency that lets through keys whose role includes `role`. It raises Problem (403)."""

    def check(key: Annotated[ApiKey, Depends(authenticated)]) -> ApiKey:
        if not key.role.includes(role):
            raise Problem(403, "forbidden", f"this needs a key of role `{role}`; yours is `{key.role}`")
        return key

    return check


def loaded(request: Request) -> Services:
    """The services. Raises Problem (503) while they load."""
    startup: Startup = request.app.state.startup
    if startup.services is None:
        raise Problem(503, "loading", "the models are still loading", {"Retry-After": "2"})
    return startup.services


MayRead = Depends(requires(Role.READ))
MayEnrol = Depends(requires(Role.ENROL))
MayAdminister = Depends(requires(Role.ADMIN))
Loaded = Annotated[Services, Depends(loaded)]


def faces_limit(services: Services, requested: int | None) -> int:
    """How many faces to take from a photo. Raises Problem (400) beyond the server's limit."""
    most = services.settings.max_faces
    if requested is not None and requested > most:
        raise Problem(400, "invalid_request", f"max_faces: this server takes at most {most} faces from a photo")
    return most if requested is None else requested
