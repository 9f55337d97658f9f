"""`facemargin serve`: the server process, from its options to its exit."""

from __future__ import annotations

import logging
import math
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import sqlalchemy as sa
import uvicorn
from pydantic import ValidationError
from pydantic_core import PydanticUndefined

from service.allocator import bound_arenas
from service.app import create_app
from service.data_folder import held
from service.draining import Drain, DrainingServer
from service.gallery.database import open_engine
from service.gallery.errors import GalleryUnusable
from service.protocol import HttpProtocol
from service.security.exposure import Exposed, check_exposure
from service.security.keys import KeyStore
from service.settings import Settings
from service.startup import Startup
from service.telemetry.logs import configure
from service.telemetry.telemetry import Telemetry
from service.telemetry.tracing import TracingUnavailable, open_tracing

logger = logging.getLogger(__name__)

_SHORT_KEY = 16


class _Unusable(Exception):
    """The service cannot start with these options; the message is one line with the remedy."""


class _UserError(click.ClickException):
    exit_code = 2


def _option(name: str, **arguments: Any) -> Callable[[Any], Any]:
    """A command line option for a field of Settings, with its description and default."""
    field = Settings.model_fields[name]
    # A shipped checkpoint is shown by its name, not by where this installation keeps it.
    shown = field.default.name if isinstance(field.default, Path) else field.default
    default = "" if shown is None or shown is PydanticUndefined else f"; default: {shown}"
    text = f"{field.description} [FACEMARGIN_{name.upper()}{default}]"
    return click.option(f"--{name.replace('_', '-')}", help=text, **arguments)


@click.command(
    epilog="""\b
Examples:
  facemargin serve
  facemargin serve --host 0.0.0.0 --port 8080 --data-dir /var/lib/facemargin
  FACEMARGIN_ADMIN_KEY=... facemargin serve
"""
)
@_option("host")
@_option("port", type=int)
@_option("data_dir", type=click.Path(path_type=Path))
@_option("cache_dir", type=click.Path(path_type=Path))
@_option("database_url")
@_option("recogniser", type=click.Path(path_type=Path))
@_option("detector", type=click.Path(path_type=Path))
@_option("threads", type=int)
def serve(**options: Any) -> None:
    """Start the service and its page.

    Every option, and some more, may also be given as an environment variable FACEMARGIN_NAME.
    """
    try:
        settings = Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:
            raise _UserError(first["msg"].removeprefix("Value error, ")) from error
        name = str(first["loc"][0])
        raise _UserError(f"{name} (FACEMARGIN_{name.upper()}): {first['msg']}") from error
    configure(settings.log_format)
    bound_arenas()
    try:
        _run(settings)
    except (_Unusable, GalleryUnusable, TracingUnavailable, Exposed) as error:
        raise _UserError(str(error)) from error


def _run(settings: Settings) -> None:
    with held(settings.data_dir), _listening(settings.host, settings.port) as listener:
        check_exposure(settings.auth, listener.getsockname()[0])
        telemetry = Telemetry(open_tracing(settings.otlp_endpoint))
        engine = open_engine(settings.gallery_url)
        try:
            _greet(settings, listener, _first_key(settings, KeyStore(engine)))
            failure = _serve(settings, engine, telemetry, listener)
        finally:
            engine.dispose()
            telemetry.tracing.close()
    if failure is not None:
        raise _Unusable(str(failure)) from failure


def _serve(settings: Settings, engine: sa.Engine, telemetry: Telemetry, listener: socket.socket) -> Exception | None:
    """Serve until told to stop; returns why the models or the gallery could not be loaded, if so."""

    def stop() -> None:
        server.should_exit = True

    drain = Drain(settings.drain_notice, settings.drain_seconds)
    app = create_app(settings, engine, stop, telemetry, drain)
    server = DrainingServer(
        uvicorn.Config(
            app,
            http=HttpProtocol,
            log_config=None,
            access_log=False,  # ours is written by service.telemetry: addresses hold the ids of people
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=max(1, math.ceil(settings.drain_seconds)),
        ),
        drain,
    )
    server.run(sockets=[listener])
    startup: Startup = app.state.startup
    return startup.failure


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A bound socket, before anything slow begins."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise _Unusable(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port or --host") from error
    with listener:
        yield listener


def _first_key(settings: Settings, keys: KeyStore) -> str:
    """Make the first key where there is none; what to say about it."""
    chosen = settings.admin_key.get_secret_value() if settings.admin_key else None
    issued = keys.bootstrap(chosen)
    if issued is not None and chosen is None:
        return f"{issued.secret}   (an admin key, shown this once: keep it)"
    if chosen is None:
        return "as made on the first start"
    if issued is None and keys.authenticate(chosen) is None:
        logger.warning("FACEMARGIN_ADMIN_KEY is not used: this gallery has had its first key already")
        return "as made on the first start"
    if len(chosen) < _SHORT_KEY:
        logger.warning("FACEMARGIN_ADMIN_KEY is short and may be guessed; use %d characters or more", _SHORT_KEY)
    return "the one in FACEMARGIN_ADMIN_KEY"


def _greet(settings: Settings, listener: socket.socket, key: str) -> None:
    host, port = listener.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host
    click.echo(
        f"""
  Facemargin

    Page      http://{host}:{port}/
    API key   {key}
    Data      {settings.data_dir.absolute()}

  The models load in a few seconds; /readyz says when. Ctrl-C stops.
"""
    )
    sys.stdout.flush()
