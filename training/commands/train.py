"""`facemargin train`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from training.commands.console import FILE, user_errors


@click.command(epilog="Example: facemargin train training/configs/facemargin-s.yaml epochs=2 optimiser.name=adamw")
@click.argument("config", type=FILE)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
def train(config: Path, overrides: tuple[str, ...]) -> None:
    """Train as CONFIG says, resuming the run if its folder holds a state; prints the run's folder.

    On several GPUs or machines: torchrun --nproc-per-node=8 -m training train CONFIG
    """
    from training.config import ConfigError, load
    from training.data.detection import DetectionDataError
    from training.data.sources import DataError
    from training.engine import LossNotFinite, run
    from training.evaluation.report import ERRORS

    with user_errors(ConfigError, DataError, DetectionDataError, LossNotFinite, *ERRORS):
        folder = run(load(config, overrides))
    if os.environ.get("RANK", "0") == "0":
        click.echo(folder)
