"""`facemargin train`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from training.commands.console import FILE, user_errors


def _print_explanation(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    if wanted:
        from training.explanation import explain

        click.echo(explain())
        context.exit()


@click.command(epilog="Example: facemargin train training/configs/facemargin-s.yaml epochs=2 optimiser.name=adamw")
@click.argument("config", type=FILE)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--explain",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_explanation,
    help="Print every option of a recipe with its default and meaning, and exit.",
)
def train(config: Path, overrides: tuple[str, ...]) -> None:
    """Train as CONFIG says, resuming the run if its folder holds a state; prints the run's folder.

    On several GPUs or machines: torchrun --nproc-per-node=8 -m training train CONFIG. SIGTERM saves the state and
    exits with status 0; the same command goes on.
    """
    from training.config import ConfigError, load
    from training.data.detection import DetectionDataError
    from training.data.sources import DataError
    from training.engine import LossNotFinite, Preempted, StateError, run
    from training.evaluation.report import ERRORS

    leads = os.environ.get("RANK", "0") == "0"
    try:
        with user_errors(ConfigError, DataError, DetectionDataError, LossNotFinite, StateError, *ERRORS):
            folder = run(load(config, overrides))
    except Preempted as stop:
        if leads:
            click.echo(stop)
        return
    if leads:
        click.echo(folder)
