"""SIGTERM, as schedulers send it before they take a machine back."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


class Preempted(Exception):
    """The run was asked to stop, and stopped with its state saved. No error: the command exits 0."""

    def __init__(self, step: int, folder: Path) -> None:
        super().__init__(f"stopped by SIGTERM after step {step}; the same command resumes from {folder / 'state'}")


class Notice:
    """Whether SIGTERM has come."""

    def __init__(self) -> None:
        self.given = False


@contextmanager
def preemption_notice() -> Iterator[Notice]:
    """Take note of the first SIGTERM instead of dying of it; a second one acts as before.

    Outside the main thread, where Python forbids it, do nothing.
    """
    notice = Notice()
    if threading.current_thread() is not threading.main_thread():
        yield notice
        return

    def give(number: int, frame: FrameType | None) -> None:
        notice.given = True
        signal.signal(signal.SIGTERM, before)

    before = signal.signal(signal.SIGTERM, give)
    try:
        yield notice
    finally:
        signal.signal(signal.SIGTERM, before)
