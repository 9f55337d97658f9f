"""What a running service does on its own now and then: snapshots of the index, a look at the model files."""

from __future__ import annotations

import logging
import threading
import time

from service.gallery.gallery import Gallery
from service.model_files import ModelFiles

logger = logging.getLogger(__name__)


class Upkeep:
    """A thread that saves changed snapshots every so many seconds, and once more when it is closed."""

    def __init__(self, gallery: Gallery, model_files: ModelFiles, every_seconds: float) -> None:
        self._gallery = gallery
        self._model_files = model_files
        self._every = every_seconds
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Save a last time, and end."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.wait(self._every):
            self._model_files.changed()
            self._save()
        self._save()

    def _save(self) -> None:
        began = time.perf_counter()
        try:
            saved = self._gallery.save_snapshots()
        except OSError as error:
            # A snapshot only makes the next start quicker: without it the index is built from the database.
            logger.error("no snapshot of the index could be written: %s", error.strerror)
            return
        if saved:
            logger.info("%d snapshot(s) of the index written in %.1f s", saved, time.perf_counter() - began)
