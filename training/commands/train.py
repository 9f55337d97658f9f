"""`facemargin train`."""

from __future__ import annotations

import os
from itertools import takewhile
from pathlib import Path

import click

from training.commands.console import user_errors


def _print_explanation(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    if wanted:
        from training.explanation import explain

        click.echo(explain())
        context.exit()


@click.command(epilog="Example: facemargin train training/configs/casia-r18.yaml epochs=2 optimiser.name=adamw")
@click.argument("arguments", nargs=-1, required=True, metavar="CONFIG... [KEY=VALUE]...")
@click.option(
    "--explain",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_explanation,
    help="Print every option of a recipe with its default and meaning, and exit.",
)
def train(arguments: tuple[str, ...]) -> None:
    """Train as CONFIG says, resuming the run if its folder holds a state; prints the run's folder.

    Several recipes are the stages of one training: one after the other, each with the same KEY=VALUE. On several GPUs
    or machines: torchrun --nproc-per-node=8 -m training train CONFIG. SIGTERM saves the state and exits with status 0;
    the same command goes on.
    """
    from training.config import ConfigError, load
    from training.data.detection import DetectionDataError
    from training.data.sources import DataError
    from training.engine import LossNotFinite, Preempted, StateError, run
    from training.evaluation.report import ERRORS

    recipes = list(takewhile(lambda argument: "=" not in argument, arguments))
    overrides = arguments[len(recipes) :]
    if not recipes:
        raise click.UsageError("name a recipe before its KEY=VALUE")
    leads = os.environ.get("RANK", "0") == "0"
    try:
        with user_errors(ConfigError, DataError, DetectionDataError, LossNotFinite, StateError, *ERRORS):
            # All are read before the first is run: a slip in the last must not show after hours.
            for config in [load(Path(recipe), overrides) for recipe in recipes]:
                folder = run(config)
                if leads:
                    click.echo(folder)
    except Preempted as stop:
        if leads:
            click.echo(stop)
