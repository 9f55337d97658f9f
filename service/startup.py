"""Bringing the service up: what lives as long as the process, loaded in the background."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from models.checkpoint import CheckpointError
from models.probe import ProbeMismatch
from models.registry import UnknownArchitecture
from service.gallery.errors import GalleryUnusable
from service.gallery.follower import Follower
from service.gallery.gallery import Gallery
from service.gallery.matcher import Matcher
from service.gallery.store import GalleryStore
from service.jobs import JobPool, open_jobs
from service.model_files import ModelFiles
from service.recognition.analyser import Analyser
from service.recognition.decoding import ImageLimits
from service.recognition.errors import EngineError
from service.recognition.fetching import Fetcher
from service.recognition.timeline import Watcher
from service.security.sealing import Sealer
from service.settings import Settings
from service.telemetry.telemetry import Telemetry
from service.upkeep import Upkeep

logger = logging.getLogger(__name__)

_PROVED_FOR_SECONDS = 5.0

OPERATOR_ERRORS = (CheckpointError, UnknownArchitecture, ProbeMismatch, EngineError, GalleryUnusable)
"""What the operator can put right; the message of each says how."""


def open_analyser(settings: Settings, watcher: Watcher | None = None) -> Analyser:
    """Load and prove the models as the settings say. Takes seconds. Raises one of OPERATOR_ERRORS."""
    return Analyser.open(
        settings.recogniser,
        settings.detector,
        settings.cache_dir,
        ImageLimits(settings.max_image_bytes, settings.max_image_pixels),
        threads=settings.threads or os.cpu_count() or 1,
        precision=settings.precision,
        score_threshold=settings.detection_threshold,
        watcher=watcher,
    )


class Readiness:
    """Proves the models by a real inference, at most every few seconds: anyone may ask, and it costs."""

    def __init__(self, analyser: Analyser) -> None:
        self._analyser = analyser
        self._checking = threading.Lock()
        self._proved_at = time.monotonic()  # opening the analyser has proved it

    def check(self) -> None:
        """Raises ProbeMismatch."""
        with self._checking:
            if time.monotonic() - self._proved_at > _PROVED_FOR_SECONDS:
                self._analyser.check()
                self._proved_at = time.monotonic()


@dataclass(frozen=True)
class Services:
    """What requests need."""

    settings: Settings
    analyser: Analyser
    gallery: Gallery
    follower: Follower
    matcher: Matcher
    readiness: Readiness
    telemetry: Telemetry
    model_files: ModelFiles
    upkeep: Upkeep
    jobs: JobPool
    fetcher: Fetcher | None

    @classmethod
    def open(cls, settings: Settings, engine: sa.Engine, telemetry: Telemetry) -> Services:
        """Load and prove the models, check the gallery against them, build its index. Takes seconds.

        Raises one of OPERATOR_ERRORS.
        """
        model_files = ModelFiles((settings.recogniser, settings.detector))
        analyser = open_analyser(settings, telemetry)
        try:
            store = GalleryStore(
                engine,
                analyser.model_id,
                analyser.embedding_size,
                sealer=Sealer.from_settings(settings),
                keep_crops=settings.keep_crops,
            )
            gallery = Gallery.open(store, analyser.embedding_size, telemetry, settings.index_dir)
        except BaseException:
            analyser.close()
            raise
        matcher = Matcher(analyser.calibration, settings.default_far, settings.default_fpir)
        upkeep = Upkeep(gallery, model_files, settings.snapshot_seconds)
        fetcher = Fetcher(settings.max_image_bytes) if settings.allow_urls else None
        return cls(
            settings,
            analyser,
            gallery,
            Follower(gallery),
            matcher,
            Readiness(analyser),
            telemetry,
            model_files,
            upkeep,
            open_jobs(engine),
            fetcher,
        )

    def close(self) -> None:
        """Finish what has begun, and save what makes the next start quicker."""
        self.jobs.close()
        self.analyser.close()
        self.follower.close()
        self.upkeep.close()


class Startup:
    """Opens the services while the server already answers that it is alive.

    services: None until they are ready. failure: why they never will be.
    """

    def __init__(self, open_services: Callable[[], Services], on_failure: Callable[[], None]) -> None:
        self._open = open_services
        self._on_failure = on_failure
        self.services: Services | None = None
        self.failure: Exception | None = None

    async def run(self) -> None:
        """Open the services in a thread; on failure note it and ring `on_failure`."""
        began = time.perf_counter()
        try:
            self.services = await asyncio.to_thread(self._open)
        except OPERATOR_ERRORS as error:
            self.failure = error
            self._on_failure()
            return
        logger.info("ready after %.1f s with %s", time.perf_counter() - began, self.services.analyser.model_id)

    def close(self) -> None:
        """Close what was opened."""
        if self.services is not None:
            self.services.close()
