"""Follows the revision log, so that searches here know of what other processes changed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import sqlalchemy as sa

from service.gallery import postgresql
from service.gallery.errors import GalleryError, GalleryUnusable
from service.gallery.gallery import Gallery

logger = logging.getLogger(__name__)

_EVERY_SECONDS: Final = 0.5
_PATIENCE_SECONDS: Final = 2.0

# A database that is away, rows that cannot be read: somebody will put it right.
_FORESEEN: Final = (sa.exc.SQLAlchemyError, OSError, GalleryError, GalleryUnusable)

Wait = Callable[[float], None]


class Follower:
    """A thread that looks for changes twice a second; on PostgreSQL it is also woken by each.

    When it cannot look, it says so in the log, tries again, and `Gallery.lag` grows.
    """

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery
        self._closing = threading.Event()
        self._failure = ""
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End. Takes up to half a second."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                with self._waiting() as wait:
                    self._follow(wait)
            except _FORESEEN as error:
                self._note(error)
                self._closing.wait(_PATIENCE_SECONDS)

    def _follow(self, wait: Wait) -> None:
        while not self._closing.is_set():
            self._gallery.catch_up()
            if self._failure:
                logger.info("following the gallery's changes again")
                self._failure = ""
            wait(_EVERY_SECONDS)

    @contextmanager
    def _waiting(self) -> Iterator[Wait]:
        engine = self._gallery.store.engine
        if engine.dialect.name != "postgresql":
            yield self._sleep
            return
        with postgresql.listening(engine) as bell:
            yield bell.wait

    def _sleep(self, seconds: float) -> None:
        self._closing.wait(seconds)

    def _note(self, error: Exception) -> None:
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        failure = f"{type(cause).__name__}: {' '.join(str(cause).split())}"
        if failure != self._failure:
            logger.error("the gallery's changes cannot be followed: %s", failure)
            self._failure = failure
