"""Resume state of a run: written whole or not at all, so that a kill at any moment leaves the last one.

Written with torch.distributed.checkpoint by any number of ranks, and read by any other: what all ranks share is
written once, by the leading rank; of a tensor that is sharded by rows each rank writes its block under the rows'
numbers, and whoever reads asks for the rows it now owns. Only tensors are stored, so nothing is unpickled into code.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, distributed
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

_CURRENT = "current"


class StateError(RuntimeError):
    """A resume state cannot be used; the message names it."""


@dataclass(frozen=True)
class Rows:
    """A rank's block of a tensor that is sharded by rows: rows `first` and after of the whole."""

    first: int
    tensor: Tensor


def save_state(folder: Path, name: str, whole: dict[str, Tensor], sharded: dict[str, Rows], leads: bool) -> None:
    """Write folder/NAME from all ranks, then point to it, and remove the others.

    name: begins with "step-" and is never that of the current state, which would be at risk. whole: what all ranks
    share, taken from the leading one. Every rank must call.
    """
    target = folder / name
    entries = dict(whole) if leads else {}
    for name, rows in sharded.items():
        entries[f"{name}@{rows.first}"] = rows.tensor.detach()
    with _without_warning():
        save(entries, checkpoint_id=str(target), no_dist=not distributed.is_initialized())
    if not leads:
        return
    pointer = folder / f"{_CURRENT}.new"
    pointer.write_text(target.name)
    pointer.replace(folder / _CURRENT)
    for old in folder.glob("step-*"):
        if old != target:
            shutil.rmtree(old)


class SavedState:
    """The last whole state in a folder, whatever number of ranks wrote it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            entries = FileSystemReader(path).read_metadata().state_dict_metadata
        except (OSError, EOFError) as error:
            raise StateError(f"{path}: not a readable resume state ({error}); remove {path.parent}") from error
        self._entries = {name: entry for name, entry in entries.items() if isinstance(entry, TensorStorageMetadata)}

    @classmethod
    def find(cls, folder: Path) -> SavedState | None:
        """The state that `folder` points to, or None. Raises StateError when it is damaged."""
        path = _current(folder)
        return None if path is None else cls(path)

    def whole(self) -> dict[str, Tensor]:
        """All that the ranks shared, on the CPU."""
        return self._load([name for name in self._entries if "@" not in name])

    def sharded(self) -> set[str]:
        """The names of what was sharded by rows."""
        return {name.partition("@")[0] for name in self._entries if "@" in name}

    def length(self, name: str) -> int:
        """How many rows a sharded tensor has."""
        return sum(entry.size[0] for key, entry in self._entries.items() if key.partition("@")[0] == name)

    def rows(self, name: str, wanted: range) -> Tensor:
        """Rows `wanted` of a sharded tensor, on the CPU. Raises StateError when not all of them are there."""
        parts = []
        for key, entry in sorted(self._entries.items(), key=lambda item: int(item[0].partition("@")[2] or 0)):
            owner, _, first = key.partition("@")
            if owner != name:
                continue
            start, stop = max(wanted.start, int(first)), min(wanted.stop, int(first) + entry.size[0])
            if start < stop:  # one block at a time: the whole may not fit
                parts.append(self._load([key])[key][start - int(first) : stop - int(first)])
        if sum(len(part) for part in parts) != len(wanted):
            raise StateError(f"{self.path}: {name} lacks rows of {wanted.start} to {wanted.stop}")
        return torch.cat(parts)

    def _load(self, names: list[str]) -> dict[str, Tensor]:
        tensors = {
            name: torch.empty(self._entries[name].size, dtype=self._entries[name].properties.dtype) for name in names
        }
        with _without_warning():
            load(tensors, checkpoint_id=str(self.path), no_dist=True)  # each rank reads what it needs, alone
        return tensors


@contextmanager
def _without_warning() -> Iterator[None]:
    # torch warns of a process without a group even when told that there is none.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _current(folder: Path) -> Path | None:
    pointer = folder / _CURRENT
    return folder / pointer.read_text() if pointer.exists() else None
