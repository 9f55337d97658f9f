"""The application factory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from service.api import collections, enrolment, faces, identify, subjects, system, verify
from service.api.middleware import BodyLimit, RequestContext, SlashInIdentifier
from service.errors import DOCUMENTED, install_handlers
from service.security.keys import KeyStore
from service.settings import Settings
from service.startup import Services, Startup

_STATIC = Path(__file__).parent / "web" / "static"


def create_app(settings: Settings, engine: sa.Engine, on_failure: Callable[[], None]) -> FastAPI:
    """The service over a migrated database.

    The models load in the background once it starts; should they fail, `on_failure` is called and
    `app.state.startup.failure` says why.
    """
    startup = Startup(lambda: Services.open(settings, engine), on_failure)
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
    )
    app.state.startup = startup
    app.state.keys = KeyStore(engine)
    install_handlers(app)
    for router in (system, verify, identify, faces, collections, subjects, enrolment):
        app.include_router(router.router)
    _add_page(app)
    # The last one added sees a request first.
    app.add_middleware(SlashInIdentifier)
    app.add_middleware(BodyLimit, max_bytes=settings.max_request_bytes)
    app.add_middleware(RequestContext)
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
        return FileResponse(_STATIC / "index.html")

    app.mount("/static", StaticFiles(directory=_STATIC))
