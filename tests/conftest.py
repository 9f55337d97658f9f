"""Fixtures that every test folder shares: where the photos lie, and how to look at a packed set.

The photos are research-only and never part of the project. They lie in a folder named `shared` beside
the checkout, or wherever FACEMARGIN_SHARED points; without them a test that asks is skipped, in one line.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytest_plugins = ["databases"]


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder that holds `data/` and `peers/`; skips the test where there is none."""
    folder = Path(os.environ.get("FACEMARGIN_SHARED", ROOT.parent / "shared")).resolve()
    if not (folder / "data").is_dir():
        pytest.skip(f"needs real photos: no data/ in {folder} (set FACEMARGIN_SHARED)")
    return folder


@pytest.fixture(scope="session")
def demo(shared: Path) -> Path:
    """The folder of whole demonstration photos, named NNN_X.jpg by person or by count of faces."""
    return shared / "data" / "demo"


@pytest.fixture(scope="session")
def unpacked(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`unpacked("cfp-dev")` unpacks that tar of `shared/data` once a session and returns the folder.

    A tar whose only top-level entry is a folder gives that folder.
    """
    folders: dict[str, Path] = {}

    def unpack(name: str) -> Path:
        if name not in folders:
            folders[name] = _unpack(_packed(shared / "data", name), tmp_path_factory.mktemp(name))
        return folders[name]

    return unpack


def _packed(data: Path, name: str) -> Path:
    for suffix in (".tar", ".tar.gz"):
        if (data / f"{name}{suffix}").is_file():
            return data / f"{name}{suffix}"
    pytest.skip(f"needs {name}.tar or {name}.tar.gz in {data}")


def _unpack(archive: Path, folder: Path) -> Path:
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    entries = list(folder.iterdir())
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else folder
