"""The application factory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.responses import FileResponse

from service.api import (
    audit,
    collections,
    compreface,
    enrolment,
    faces,
    identify,
    jobs,
    keys,
    subjects,
    system,
    transfer,
    verify,
)
from service.api.bodies import BodyLimit
from service.api.calls import install_calls
from service.api.dependencies import install_gate
from service.api.early import install_early_answers
from service.api.middleware import Admission, RequestContext, SlashInIdentifier
from service.api.openapi import install_openapi, operation_id
from service.draining import Drain
from service.errors import DOCUMENTED, install_handlers
from service.settings import Settings
from service.startup import Services, Startup
from service.status import read_state
from service.telemetry.requests import ObserveRequests
from service.telemetry.state import StateCollector
from service.telemetry.telemetry import Telemetry
from service.web.files import REVALIDATED, PageFiles

_STATIC = Path(__file__).parent / "web" / "static"


def create_app(
    settings: Settings,
    engine: sa.Engine,
    on_failure: Callable[[], None],
    telemetry: Telemetry | None = None,
    drain: Drain | None = None,
) -> FastAPI:
    """The service over a migrated database.

    The models load in the background once it starts; should they fail, `on_failure` is called and
    `app.state.startup.failure` says why.
    """
    telemetry = telemetry or Telemetry()
    drain = drain or Drain(settings.drain_notice, settings.drain_seconds)
    startup = Startup(lambda: Services.open(settings, engine, telemetry), on_failure)
    # No interactive documentation: its pages load scripts from elsewhere.
    app = FastAPI(
        title="Facemargin",
        description="Self-hosted face verification and identification.",
        version="1",
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=DOCUMENTED,
        generate_unique_id_function=operation_id,
    )
    app.state.startup = startup
    telemetry.metrics.registry.register(
        StateCollector(lambda: read_state(startup.services) if startup.services else None, lambda: drain.draining)
    )
    app.state.telemetry = telemetry
    app.state.drain = drain
    install_gate(app, settings, engine)
    install_calls(app, engine)
    install_handlers(app)
    install_early_answers(app)
    for router in (
        *(system, verify, identify, faces, collections, subjects, enrolment),
        *(transfer, jobs, keys, audit, compreface),
    ):
        app.include_router(router.router)
    install_openapi(app)
    _add_page(app)
    # The last one added sees a request first.
    app.add_middleware(SlashInIdentifier)
    app.add_middleware(
        BodyLimit,
        max_bytes=settings.max_request_bytes,
        max_import_bytes=settings.max_import_bytes,
        max_pending_bytes=settings.max_pending_bytes,
    )
    app.add_middleware(Admission, drain=drain)
    app.add_middleware(RequestContext)
    app.add_middleware(ObserveRequests, telemetry=telemetry)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    startup: Startup = app.state.startup
    loading = asyncio.create_task(startup.run())
    try:
        yield
    finally:
        # A thread cannot be cancelled: wait, so that what it opened is closed.
        await loading
        startup.close()


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(_STATIC / "index.html", headers=REVALIDATED)

    app.mount("/static", PageFiles(directory=_STATIC))
