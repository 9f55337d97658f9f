"""What an operator needs to know before trusting an installation: each check with its remedy."""

from __future__ import annotations

from service.doctor import machine
from service.doctor.finding import Finding
from service.doctor.gallery import gallery
from service.doctor.networks import network
from service.settings import Settings

__all__ = ["Finding", "examine"]


def examine(settings: Settings) -> list[Finding]:
    """Run every check. Exports the networks' graphs into the cache where they are missing; changes no gallery."""
    return [
        machine.python(),
        machine.packages(),
        machine.processor(),
        machine.clock(),
        machine.data_folder(settings.data_dir),
        machine.disk(settings.data_dir),
        *network("recogniser", settings.recogniser, "recognition", settings),
        *network("detector", settings.detector, "detection", settings),
        *gallery(settings),
        machine.port(settings.host, settings.port),
    ]
