"""Resume state of a run: written whole or not at all, so that a kill at any moment leaves the last one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

_CURRENT = "current"


def save_state(folder: Path, step: int, state: dict[str, Any], leads: bool) -> None:
    """Write the state of all ranks to folder/step-N with torch.distributed.checkpoint, then point to it."""
    target = folder / f"step-{step}"
    save(state, checkpoint_id=str(target))
    if not leads:
        return
    pointer = folder / f"{_CURRENT}.new"
    pointer.write_text(target.name)
    pointer.replace(folder / _CURRENT)
    for old in folder.glob("step-*"):
        if old != target:
            shutil.rmtree(old)


def load_state(folder: Path, state: dict[str, Any]) -> int | None:
    """Load the last whole state into the tensors of `state`; its step, or None when there is none."""
    pointer = folder / _CURRENT
    if not pointer.exists():
        return None
    name = pointer.read_text()
    load(state, checkpoint_id=str(folder / name))
    return int(name.removeprefix("step-"))
