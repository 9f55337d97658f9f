"""What the commands share: errors that the caller can mend, and the options that many take."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from training.memory import keep_freed_memory

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
OUTPUT = click.Path(dir_okay=False, path_type=Path)


class UserError(click.ClickException):
    """What the caller can mend: one line on stderr, exit status 2."""

    exit_code = 2


@contextmanager
def user_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Turn exceptions of these kinds into UserError."""
    try:
        yield
    except kinds as error:
        raise UserError(" ".join(str(error).split())) from error


def use_cpu(threads: int | None) -> None:
    """Limit torch to so many CPU threads (None leaves its choice); what one batch frees is kept for the next."""
    keep_freed_memory()
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a document where the caller asked for it, making its folder."""
    with user_errors(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=2) + "\n")


def record(path: Path, name: str | None, figures: dict[str, Any]) -> None:
    """Keep figures in a checkpoint; its weights stay, and with them the model id."""
    if name is None:
        return
    from models import checkpoint as checkpoints

    loaded = checkpoints.read(path)
    metrics = {**loaded.metadata.metrics, name: figures}
    checkpoints.write(path, loaded.weights, loaded.metadata.model_copy(update={"metrics": metrics}))
