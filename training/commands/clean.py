"""`facemargin clean`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import click

from training.commands.console import FOLDER, OUTPUT, use_cpu, user_errors, write_json


@click.command(epilog="Example: facemargin clean runs/noisy --output packed/clean --json dropped.json")
@click.argument("run", type=FOLDER)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder to make; must not exist.")
@click.option("--degrees", type=click.FloatRange(0, 180), default=75.0, show_default=True, help="Farther is noise.")
@click.option(
    "--minor",
    type=click.Choice(["drop", "keep"]),
    default="keep",
    show_default=True,
    help="Images nearer to a minor sub-centre of their identity, within --degrees; the paper keeps them.",
)
@click.option("--json", "report", type=OUTPUT, help="Names of what was dropped.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: torch's choice.")
def clean(
    run: Path, output: Path, degrees: float, minor: Literal["drop", "keep"], report: Path | None, threads: int | None
) -> None:
    """Pack the data of a finished RUN without what it takes for label noise (Sub-center ArcFace, section 3.3).

    An image stays within --degrees of its identity's dominant sub-centre. Train RUN with subcenter-arcface, then
    train anew on OUTPUT with arcface.
    """
    from training.cleaning import clean_data
    from training.config import ConfigError
    from training.data.sources import DataError
    from training.evaluation.report import ERRORS
    from training.state import StateError

    use_cpu(threads)
    with user_errors(ConfigError, DataError, StateError, *ERRORS):
        document = clean_data(run, output, degrees, minor)
    if report is not None:
        write_json(report, document)
    click.echo(json.dumps({"output": str(output), "images": document["images"], "dropped": len(document["dropped"])}))
