"""The import of photos as a job of the service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from service.gallery.errors import GalleryError
from service.jobs import JobFailed, Progress, Work
from service.transfer.enrolling import Enrol, import_photos
from service.transfer.photos import PhotoSource
from service.transfer.reports import PhotoReport

_PARALLEL: Final = 2  # enough to keep decoding and inference busy, and leaves room to those who wait


def photo_work(source: PhotoSource, enrol: Enrol) -> Work:
    """Enrol all of `source`."""

    def work(report_progress: Callable[[Progress], None]) -> Progress:
        report = PhotoReport()
        try:
            asyncio.run(import_photos(source, enrol, report, lambda seen: report_progress(_progress(seen)), _PARALLEL))
        except GalleryError as error:
            raise JobFailed(str(error)) from error
        return _progress(report)

    return work


def _progress(report: PhotoReport) -> Progress:
    return Progress(report.total, report.done, report.rejected, report.document())
