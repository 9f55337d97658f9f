"""Where a checkpoint comes from, in words that name no machine."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path

_GLOB = frozenset("*?[{")


def commit() -> str:
    """The git commit of this package where it runs from a checkout, with "-dirty" if edited; else its version."""
    here = Path(__file__)
    try:
        # Installed below some other project's checkout, the file is not tracked there.
        subprocess.run(
            ["git", "ls-files", "--error-unmatch", here.name], cwd=here.parent, capture_output=True, check=True
        )
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=here.parent,
            capture_output=True,
            check=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return f"facemargin {metadata.version('facemargin')}"
    return described.stdout.strip()


def data_name(place: str | Path) -> str:
    """The name of a data set: the last part of its path or address; of a pattern, with the folder before it."""
    parts = [part for part in str(place).rstrip("/").replace("\\", "/").split("/") if part]
    if not parts:
        return str(place)
    patterned = _GLOB & set(parts[-1]) and len(parts) > 1 and not parts[-2].endswith(":")
    return "/".join(parts[-2:]) if patterned else parts[-1]
